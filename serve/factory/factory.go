// Package factory is a client of the Talos Image Factory: it registers
// schematics, which say how a Talos is customised, and names the URLs from
// which machines boot them.
package factory

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/cenkalti/backoff/v4"
	"github.com/siderolabs/image-factory/pkg/schematic"
	"golang.org/x/sync/singleflight"
)

// The public factory's addresses.
const (
	DefaultBaseURL    = "https://factory.talos.dev"
	DefaultPXEBaseURL = "https://pxe.factory.talos.dev"
)

// The bounds of one piece of work with the factory.
const (
	attempts   = 5
	maxPause   = 5 * time.Second
	workLimit  = time.Minute // all attempts and pauses together
	maxBody    = 64 << 10    // bytes read of an answer; ids and scripts are far smaller
	maxQuoted  = 300         // characters of a refusal's words in an error
	schematics = "schematics"
)

// The kinds of failure. Each error wraps exactly one of them, or the caller's
// own context error.
var (
	// ErrRejected: the factory understood and said no; asking again is useless.
	ErrRejected = errors.New("image factory refused")
	// ErrUnavailable: no usable answer after all attempts.
	ErrUnavailable = errors.New("image factory unavailable")
)

// Config says which factory to use. Zero fields mean the defaults named here.
type Config struct {
	// BaseURL is the API's: DefaultBaseURL.
	BaseURL string
	// PXEBaseURL is where machines fetch boot scripts: DefaultPXEBaseURL.
	PXEBaseURL string
	// Log receives the attempts that are repeated; nil discards.
	Log *slog.Logger
	// HTTP carries the requests: a client of its own on Go's default transport.
	// Its Timeout is not needed, because AttemptTimeout bounds each request.
	HTTP *http.Client
	// AttemptTimeout bounds one request with its answer: 10 s.
	AttemptTimeout time.Duration
	// Pause is the mean wait before the second attempt, half as long again
	// before each later one, at most 5 s: 250 ms.
	Pause time.Duration
}

// Client talks to one factory. All methods are safe for concurrent use.
type Client struct {
	base, pxe *url.URL
	log       *slog.Logger
	http      *http.Client
	timeout   time.Duration
	pause     time.Duration

	flight singleflight.Group

	mu       sync.Mutex
	computed map[string]string // schematics, as JSON, to the id computed here
	ids      map[string]string // posted schematics: the id computed here to the factory's
	scripts  map[string]Script // by URL
}

// New returns a client; it fails on a base URL that is not absolute HTTP(S).
// The factory is asked nothing yet.
func New(cfg Config) (*Client, error) {
	base, baseErr := parseBase("image factory base URL", cmp.Or(cfg.BaseURL, DefaultBaseURL))
	pxe, pxeErr := parseBase("image factory PXE base URL", cmp.Or(cfg.PXEBaseURL, DefaultPXEBaseURL))

	if err := errors.Join(baseErr, pxeErr); err != nil {
		return nil, err
	}

	return &Client{
		base: base, pxe: pxe,
		log:      cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		http:     cmp.Or(cfg.HTTP, &http.Client{}),
		timeout:  cmp.Or(cfg.AttemptTimeout, 10*time.Second),
		pause:    cmp.Or(cfg.Pause, 250*time.Millisecond),
		computed: map[string]string{}, ids: map[string]string{}, scripts: map[string]Script{},
	}, nil
}

func parseBase(what, text string) (*url.URL, error) {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return nil, fmt.Errorf("%s is not of the form https://HOST[:PORT][/PATH]", what)
	}

	return parsed, nil
}

// NewSchematic describes a Talos with the official extensions and the extra
// kernel arguments. Extensions are sorted, and repeated ones dropped, so that
// one wish has one id. Arguments keep their order, which the kernel heeds: the
// last console= becomes /dev/console.
func NewSchematic(extensions, kernelArgs []string) schematic.Schematic {
	extensions = slices.Compact(slices.Sorted(slices.Values(extensions)))

	return schematic.Schematic{Customization: schematic.Customization{
		ExtraKernelArgs:  slices.Clone(kernelArgs),
		SystemExtensions: schematic.SystemExtensions{OfficialExtensions: extensions},
	}}
}

// AgentExtensions are the official extensions of agent mode: firmware for
// common network cards and CPUs, and the metal agent itself.
func AgentExtensions() []string {
	return []string{
		"siderolabs/amd-ucode",
		"siderolabs/amdgpu-firmware",
		"siderolabs/bnx2-bnx2x",
		"siderolabs/chelsio-firmware",
		"siderolabs/i915-ucode",
		"siderolabs/intel-ice-firmware",
		"siderolabs/intel-ucode",
		"siderolabs/metal-agent",
		"siderolabs/qlogic-firmware",
		"siderolabs/realtek-firmware",
	}
}

// EnsureSchematic makes sure that the factory knows the schematic and returns
// the id to use in URLs. A schematic is posted once in the client's life; calls
// for it meanwhile wait for the same post. Attempts that fail are repeated with
// growing pauses for up to a minute, but an answer 4xx is final (408 and 429
// excepted) and its words stand in the error.
func (c *Client) EnsureSchematic(ctx context.Context, wish schematic.Schematic) (string, error) {
	local, err := c.localID(wish)
	if err != nil {
		return "", fmt.Errorf("schematic: %w", err)
	}

	if id, ok := c.posted(local); ok {
		return id, nil
	}

	id, err := shared(ctx, c, schematics+"/"+local, func(ctx context.Context) (string, error) {
		return c.post(ctx, local, wish)
	})
	if err != nil {
		return "", fmt.Errorf("post schematic %s to %s: %w", local, c.base.Redacted(), err)
	}

	return id, nil
}

// localID is the schematic's id as it is computed here, once for each: it is asked
// for at every boot of every machine, and costs more than the rest of the answer.
func (c *Client) localID(wish schematic.Schematic) (string, error) {
	key, err := json.Marshal(wish)
	if err != nil {
		return "", err
	}

	c.mu.Lock()
	local, ok := c.computed[string(key)]
	c.mu.Unlock()

	if ok {
		return local, nil
	}

	if local, err = wish.ID(); err != nil {
		return "", err
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	c.computed[string(key)] = local

	return local, nil
}

func (c *Client) posted(local string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	id, ok := c.ids[local]

	return id, ok
}

// post sends the schematic. The factory's word on its id counts: it may complete
// a schematic by its own rules (an owner, for one) and then knows it by another.
//
// The factory's own client package is not used: it goes on to fetch the
// schematic that it has just posted from factories that answer with the id only.
func (c *Client) post(ctx context.Context, local string, wish schematic.Schematic) (string, error) {
	body, err := wish.Marshal()
	if err != nil {
		return "", err
	}

	var answer struct {
		ID string `json:"id"`
	}

	err = c.attempt(ctx, http.MethodPost, c.base.JoinPath(schematics), body, func(body []byte) error {
		if err := json.Unmarshal(body, &answer); err != nil {
			return fmt.Errorf("answer is not JSON: %w", err)
		}

		if !validID(answer.ID) {
			return fmt.Errorf("answer holds no schematic id: %s", quote(body))
		}

		return nil
	})
	if err != nil {
		return "", err
	}

	if answer.ID != local {
		c.log.Warn("image factory knows the schematic by another id", "schematic", local, "id", answer.ID)
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	c.ids[local] = answer.ID

	return answer.ID, nil
}

// validID tells whether id is a SHA-256 digest in lower-case hexadecimal.
func validID(id string) bool {
	return len(id) == 64 && strings.Trim(id, "0123456789abcdef") == ""
}

// shared runs work once for all concurrent callers with the same key. It does
// not end with the caller that happened to come first, but within workLimit.
func shared[T any](ctx context.Context, c *Client, key string, work func(context.Context) (T, error)) (T, error) {
	var zero T

	results := c.flight.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workLimit)
		defer cancel()

		return work(ctx)
	})

	select {
	case <-ctx.Done():
		return zero, ctx.Err()
	case result := <-results:
		value, _ := result.Val.(T)

		return value, result.Err
	}
}

// attempt sends the request until accept takes the answer's body, the factory
// refuses for good, or the attempts are used up.
func (c *Client) attempt(ctx context.Context, method string, target *url.URL, body []byte, accept func([]byte) error) error {
	pauses := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(c.pause), backoff.WithMaxInterval(maxPause), backoff.WithMaxElapsedTime(0))

	err := backoff.RetryNotify(func() error {
		answer, err := c.exchange(ctx, method, target, body)
		if err != nil {
			return err
		}

		return accept(answer)
	}, backoff.WithContext(backoff.WithMaxRetries(pauses, attempts-1), ctx), func(err error, pause time.Duration) {
		c.log.Warn("image factory did not answer, trying again",
			"url", target.Redacted(), "error", err, "pause", pause.Round(time.Millisecond))
	})
	if err == nil || errors.Is(err, ErrRejected) {
		return err
	}

	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// exchange is one request; a refusal that no repetition would change is marked
// permanent.
func (c *Client) exchange(ctx context.Context, method string, target *url.URL, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()

	request, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, backoff.Permanent(err)
	}

	if body != nil {
		request.Header.Set("Content-Type", "application/yaml")
	}

	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()

	answer, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("answer broke off: %w", err)
	}

	switch code := response.StatusCode; {
	case code/100 == 2:
		return answer, nil
	case code/100 != 4, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		return nil, fmt.Errorf("HTTP %d: %s", code, quote(answer))
	default:
		return nil, backoff.Permanent(fmt.Errorf("%w: HTTP %d: %s", ErrRejected, code, quote(answer)))
	}
}

// quote fits the words of an answer into one line of an error.
func quote(body []byte) string {
	words := strings.Join(strings.FieldsFunc(string(body), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")

	if runes := []rune(words); len(runes) > maxQuoted {
		words = string(runes[:maxQuoted]) + "..."
	}

	return cmp.Or(words, "(no words)")
}
