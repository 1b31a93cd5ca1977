package pxeclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// headTimeout bounds connecting, and each request without a body to read.
	headTimeout = 20 * time.Second
	// Scripts and loaders are small; kernels and initramfs may come slowly.
	getTimeout      = 2 * time.Minute
	downloadTimeout = 15 * time.Minute
)

// withoutSecrets drops the URL that net/http puts into its errors: whoever asked
// says it, and says it in a form that is fit to be shown.
func withoutSecrets(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// shown is a URL without user, password and query, any of which may hold a secret.
func shown(u *url.URL) string {
	bare := *u
	bare.User, bare.RawQuery, bare.Fragment = nil, "", ""
	if u.RawQuery != "" {
		return bare.String() + "?..."
	}
	return bare.String()
}

// statusError is an HTTP answer that iPXE takes for a failure.
type statusError struct{ status string }

func (e *statusError) Error() string { return "HTTP status " + e.status }

// httpTimeout is how long a server may stay silent.
func (b *boot) httpTimeout() time.Duration {
	if b.Examine {
		return min(headTimeout, b.Timeout)
	}
	return headTimeout
}

// get fetches a URL of at most limit bytes; final is where redirects led.
func (b *boot) get(ctx context.Context, ref string, limit int64) (content []byte, final string, err error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	response, err := b.do(ctx, http.MethodGet, ref)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	content, err = io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, "", fmt.Errorf("read the body after %d bytes: %w", len(content), err)
	}
	if int64(len(content)) > limit {
		return nil, "", fmt.Errorf("more than %d bytes", limit)
	}
	return content, response.Request.URL.String(), nil
}

// head asks for the size of a URL.
func (b *boot) head(ctx context.Context, ref string) (size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, headTimeout)
	defer cancel()
	response, err := b.do(ctx, http.MethodHead, ref)
	if err != nil {
		return 0, err
	}
	return response.ContentLength, response.Body.Close()
}

// download reads a URL to its end and counts.
func (b *boot) download(ctx context.Context, ref string) (size int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
	defer cancel()
	response, err := b.do(ctx, http.MethodGet, ref)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	size, err = io.Copy(io.Discard, response.Body)
	if err != nil {
		return size, fmt.Errorf("read the body after %d bytes: %w", size, err)
	}
	return size, nil
}

// do sends a request; a status other than 2xx is an error.
func (b *boot) do(ctx context.Context, method, ref string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, ref, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "iPXE/1.21.1+ (bmctl pxe client)")
	response, err := b.web.Do(request)
	if err != nil {
		return nil, withoutSecrets(err)
	}
	if b.Examine {
		b.examine(response)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		response.Body.Close()
		return nil, &statusError{response.Status}
	}
	return response, nil
}

// peek reads the first megabyte of a URL, which is all of a script; of anything
// else, which is a program, the rest is read only where images are to be fetched.
func (b *boot) peek(ctx context.Context, ref string) (text, final string, err error) {
	ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
	defer cancel()
	response, err := b.do(ctx, http.MethodGet, ref)
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxScript))
	if err == nil && b.Fetch {
		_, err = io.Copy(io.Discard, response.Body)
	}
	return string(content), response.Request.URL.String(), err
}
