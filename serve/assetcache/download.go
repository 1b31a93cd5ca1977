package assetcache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	maxPause = 5 * time.Second
	chunk    = 256 << 10
)

// part is the file of a flight while it is written.
type part struct {
	*flight
	file      *os.File
	sum       hash.Hash // of what has arrived
	validator string    // the ETag of what has arrived; empty if there is none
}

// download stores the asset. What has arrived of one that broke off is kept for the
// next.
func (c *Cache) download(f *flight) error {
	p, err := c.openPart(f)
	if err != nil {
		return err
	}
	defer p.file.Close() //nolint:errcheck // what counts was synced before

	if c.entry(f.key) != nil { // another process was quicker
		return c.abandon(p, nil)
	}

	if err = c.attempts(p); err == nil {
		err = c.land(p)
	}

	switch {
	case err == nil:
		return nil
	case errors.Is(err, errUseless) || errors.Is(err, ErrLocal):
		return c.abandon(p, err)
	default:
		return errors.Join(err, c.keepPart(p))
	}
}

// openPart claims the part's file and takes up what an earlier download left in it.
// From here on until it is kept again it counts as garbage: after a crash of the
// host it could be.
func (c *Cache) openPart(f *flight) (*part, error) {
	file, err := c.dir.claim(f.key.name() + partSuffix)
	if errors.Is(err, ErrBusy) {
		return nil, fmt.Errorf("%s: %w", f.key, ErrBusy)
	}

	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLocal, err)
	}

	p := &part{flight: f, file: file, sum: sha256.New()}

	err = c.change(func(x *index) (bool, error) {
		for _, kept := range x.Partials {
			if kept.Key == f.key {
				p.validator = kept.Validator
				x.removePartial(f.key)

				return true, nil
			}
		}

		return false, nil
	})
	if err == nil {
		err = p.takeUp()
	}

	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrLocal, err), file.Close())
	}

	return p, nil
}

func (p *part) takeUp() error {
	if p.validator == "" {
		return p.file.Truncate(0)
	}

	n, err := io.Copy(p.sum, p.file)
	p.advance(int(n))

	return err
}

// keepPart makes what has arrived last, so that a later download can go on with it.
func (c *Cache) keepPart(p *part) error {
	if p.validator == "" || p.arrived == 0 {
		return c.abandon(p, nil)
	}

	err := p.file.Sync()
	if err == nil {
		err = c.change(func(x *index) (bool, error) {
			x.removePartial(p.key)
			x.Partials = append(x.Partials, partial{Key: p.key, Validator: p.validator})

			return true, nil
		})
	}

	if err != nil {
		return fmt.Errorf("keep what has arrived: %w", err)
	}

	return nil
}

// abandon removes the part; err is why, and is returned with what else fails.
func (c *Cache) abandon(p *part, err error) error {
	return errors.Join(err, ignoreMissing(os.Remove(p.file.Name())))
}

// attempts asks the origin until all has arrived, it refuses for good, or it gave
// nothing in too many attempts in a row.
func (c *Cache) attempts(p *part) error {
	pauses := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(c.cfg.Pause), backoff.WithMaxInterval(maxPause), backoff.WithMaxElapsedTime(0))

	for failed := 1; ; failed++ {
		before := p.arrived

		err := c.attempt(p)
		if err == nil || final(err) {
			return err
		}

		if c.ctx.Err() != nil {
			return fmt.Errorf("%w: %s: %w", ErrOrigin, p.key, c.ctx.Err())
		}

		if p.arrived > before {
			failed = 1
			pauses.Reset()
		}

		if failed >= c.cfg.Attempts {
			return err
		}

		pause := pauses.NextBackOff()
		c.log.Warn("download broke off, trying again", "file", p.key.String(), "arrived", p.arrived, "error", err, "pause", pause.Round(time.Millisecond))

		select {
		case <-time.After(pause):
		case <-c.ctx.Done():
		}
	}
}

// errRefused is an answer that would be the same again; errUseless is one that
// makes what has arrived useless, too.
var (
	errRefused = errors.New("refused")
	errUseless = errors.New("what arrived before is of no use")
)

func final(err error) bool {
	return errors.Is(err, ErrLocal) || errors.Is(err, errRefused) || errors.Is(err, errUseless)
}

// attempt is one request for what is missing.
func (c *Cache) attempt(p *part) error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	defer cancel(nil)

	stalled := time.AfterFunc(c.cfg.Stall, func() { cancel(fmt.Errorf("nothing arrived for %s", c.cfg.Stall)) })
	defer stalled.Stop()

	response, err := c.ask(ctx, p)
	if err == nil {
		defer response.Body.Close() //nolint:errcheck // read only

		body := &watched{response.Body, func() { stalled.Reset(c.cfg.Stall) }}
		err = c.accept(p, response, body)
	}

	if err != nil && !errors.Is(err, ErrLocal) {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}

		return fmt.Errorf("%w: %s: %w", ErrOrigin, p.key, plain(err))
	}

	return err
}

// plain drops the URL from an HTTP client's error: after a redirection it may hold
// a signature.
func plain(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err
	}

	return err
}

// watched tells of each read.
type watched struct {
	io.Reader
	alive func()
}

// Read implements io.Reader.
func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	w.alive()

	return n, err
}

func (c *Cache) ask(ctx context.Context, p *part) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.origin, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}

	// Go's client would unpack a compressed answer, which then has no size.
	request.Header.Set("Accept-Encoding", "identity")

	if p.arrived > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", p.arrived))

		if p.validator != "" {
			request.Header.Set("If-Range", p.validator)
		}
	}

	return c.cfg.HTTP.Do(request)
}

// accept takes the asset, or the rest of it, from an answer.
func (c *Cache) accept(p *part, response *http.Response, body io.Reader) error {
	switch code := response.StatusCode; {
	case code == http.StatusPartialContent:
		return c.acceptRest(p, response, body)
	case code == http.StatusOK:
		return c.acceptWhole(p, response, body)
	case code == http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w: HTTP %d", errUseless, code)
	case code/100 == 4 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests:
		return fmt.Errorf("%w: HTTP %d", errRefused, code)
	default:
		return fmt.Errorf("HTTP %d", code)
	}
}

func (c *Cache) acceptRest(p *part, response *http.Response, body io.Reader) error {
	var first, last, total int64

	text := response.Header.Get("Content-Range")
	if _, err := fmt.Sscanf(text, "bytes %d-%d/%d", &first, &last, &total); err != nil || first != p.arrived || last != total-1 {
		return fmt.Errorf("%w: asked for the bytes from %d, got %q", errUseless, p.arrived, text)
	}

	if err := p.begin(total); err != nil {
		return fmt.Errorf("%w: %w", errUseless, err)
	}

	return c.store(p, body)
}

// acceptWhole takes an answer that begins at the beginning. What has arrived before
// is compared with it, because others may have passed it on to their machines.
func (c *Cache) acceptWhole(p *part, response *http.Response, body io.Reader) error {
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if media == "text/html" {
		return fmt.Errorf("%w: answered with a web page", errRefused)
	}

	if response.ContentLength < 0 && response.ProtoMajor == 1 && len(response.TransferEncoding) == 0 {
		return errors.New("answered without a size, so that its end cannot be told from a failure")
	}

	if response.ContentLength > 0 {
		if err := c.makeRoom(p.key, response.ContentLength); err != nil {
			return err
		}
	}

	if err := p.begin(response.ContentLength); err != nil {
		return fmt.Errorf("%w: %w", errUseless, err)
	}

	if err := p.repeat(body); err != nil {
		return err
	}

	p.validator = strong(response.Header.Get("ETag"))

	return c.store(p, body)
}

// strong is the ETag, unless it promises less than equal bytes (RFC 9110, 8.8.1).
func strong(etag string) string {
	if strings.HasPrefix(etag, "W/") {
		return ""
	}

	return etag
}

// repeat reads what has arrived already, which must be the same.
func (p *part) repeat(body io.Reader) error {
	here, there := make([]byte, chunk), make([]byte, chunk)

	for at := int64(0); at < p.arrived; {
		n := min(chunk, p.arrived-at)

		if _, err := io.ReadFull(body, there[:n]); err != nil {
			return err
		}

		if _, err := p.file.ReadAt(here[:n], at); err != nil {
			return fmt.Errorf("%w: %w", ErrLocal, err)
		}

		if !bytes.Equal(here[:n], there[:n]) {
			return fmt.Errorf("%w: the asset changed", errUseless)
		}

		at += n
	}

	return nil
}

// store writes what arrives behind what has arrived, until the answer ends.
func (c *Cache) store(p *part, body io.Reader) error {
	buffer := make([]byte, chunk)

	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if err := c.write(p, buffer[:n]); err != nil {
				return err
			}
		}

		switch {
		case errors.Is(err, io.EOF):
			return p.whole()
		case err != nil:
			return err
		}
	}
}

func (c *Cache) write(p *part, data []byte) error {
	if p.arrived+int64(len(data)) > c.cfg.Size {
		return fmt.Errorf("%w: %s is larger than the cache may be (%d bytes)", ErrLocal, p.key, c.cfg.Size)
	}

	if _, err := p.file.WriteAt(data, p.arrived); err != nil {
		return fmt.Errorf("%w: %w", ErrLocal, err)
	}

	p.sum.Write(data)
	p.advance(len(data))

	return nil
}

// whole tells whether the end of an answer is the end of the asset.
func (p *part) whole() error {
	switch {
	case p.arrived == 0:
		return errors.New("the answer is empty")
	case p.total >= 0 && p.arrived != p.total:
		return fmt.Errorf("%d of %d bytes arrived: %w", p.arrived, p.total, io.ErrUnexpectedEOF)
	default:
		return nil
	}
}

// land makes a complete part an asset.
func (c *Cache) land(p *part) error {
	asset := Asset{Key: p.key, Size: p.arrived, SHA256: hex.EncodeToString(p.sum.Sum(nil)), Added: time.Now().UTC().Truncate(time.Second)}

	if err := c.makeRoom(p.key, asset.Size); err != nil {
		return err
	}

	if err := c.publish(p.file, asset); err != nil {
		return fmt.Errorf("%w: %w", ErrLocal, err)
	}

	c.log.Info("asset stored", "file", asset.Key.String(), "bytes", asset.Size, "sha256", asset.SHA256)

	return nil
}

// publish gives a complete and claimed file its name, and the index its entry.
func (c *Cache) publish(file *os.File, asset Asset) error {
	if err := file.Sync(); err != nil {
		return err
	}

	err := c.change(func(x *index) (bool, error) {
		if err := os.Rename(file.Name(), c.dir.path(asset.name())); err != nil {
			return false, err
		}

		x.removeAsset(asset.Key)
		x.Assets = append(x.Assets, asset)

		return true, nil
	})
	if err != nil {
		return err
	}

	if e := c.entry(asset.Key); e != nil { // its digest was computed a moment ago
		e.mu.Lock()
		e.verified = true
		e.mu.Unlock()
	}

	return nil
}
