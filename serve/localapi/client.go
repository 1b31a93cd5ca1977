package localapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// The ways in which a socket cannot be talked to.
var (
	// ErrNotRunning: nothing answers at the path.
	ErrNotRunning = errors.New("bmctl serve is not running")
	// ErrPermission: the socket's owner and group do not let this user in.
	ErrPermission = errors.New("permission denied")
)

const (
	// callTimeout bounds one call; the answers come from memory.
	callTimeout = 5 * time.Second
	// powerTimeout bounds a power act, which waits for the BMC.
	powerTimeout = 5 * time.Minute
	// maxAnswer bounds an answer: 100,000 machines of 1 KiB.
	maxAnswer = 100 << 20
	maxEvent  = 1 << 20
)

// Client talks to a running serve. It is safe for concurrent use.
type Client struct {
	path string
	http *http.Client
}

// Dial returns a client of the socket at path. It connects with the first call.
func Dial(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: callTimeout}).DialContext(ctx, "unix", path)
	}

	return &Client{path: path, http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Machines returns the snapshot, sorted by id.
func (c *Client) Machines(ctx context.Context) (MachineList, error) {
	return call[MachineList](ctx, c, http.MethodGet, "/v1/machines", nil)
}

// Machine returns the machine of exactly this id, or an error that wraps
// ErrNotFound.
func (c *Client) Machine(ctx context.Context, id string) (Machine, error) {
	document, err := call[MachineDocument](ctx, c, http.MethodGet, "/v1/machines/"+url.PathEscape(id), nil)

	return document.Machine, err
}

// Health reports on serve itself.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return call[Health](ctx, c, http.MethodGet, "/v1/health", nil)
}

// Release lifts the hold of a machine, with the operator's reason.
func (c *Client) Release(ctx context.Context, id, reason string) error {
	body, err := json.Marshal(ReleaseRequest{Reason: reason})
	if err != nil {
		return err
	}

	_, err = call[struct{}](ctx, c, http.MethodPost, "/v1/machines/"+url.PathEscape(id)+"/release", body)

	return err
}

// Power has serve carry out a power act with the BMC access that it keeps; it
// waits until that is done or ctx ends. Errors wrap ErrNotFound, ErrInvalid,
// ErrRefused where the machine must not be touched, ErrInCluster, or a kind of
// package power.
func (c *Client) Power(ctx context.Context, id string, act PowerRequest) error {
	body, err := json.Marshal(act)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, powerTimeout)
	defer cancel()

	_, err = answer[struct{}](ctx, c, http.MethodPost, "/v1/machines/"+url.PathEscape(id)+"/power", body)

	return err
}

// History returns the events that serve keeps, those of earlier runs included,
// the oldest first.
func (c *Client) History(ctx context.Context, query HistoryQuery) ([]Event, error) {
	values := url.Values{}
	if query.Machine != "" {
		values.Set("machine", query.Machine)
	}

	if !query.Since.IsZero() {
		values.Set("since", query.Since.Format(time.RFC3339Nano))
	}

	list, err := call[EventList](ctx, c, http.MethodGet, "/v1/history?"+values.Encode(), nil)

	return list.Items, err
}

// Events yields the events that are newer than since (zero: all that are kept;
// Now: only new ones) and goes on until ctx ends, which ends it without an
// error. When the stream breaks it yields one error and ends; to go on, call it
// again with the Seq of the last event.
func (c *Client) Events(ctx context.Context, since uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		err := c.stream(ctx, since, func(event Event) bool { return yield(event, nil) })
		if err != nil && ctx.Err() == nil {
			yield(Event{}, err)
		}
	}
}

func (c *Client) stream(ctx context.Context, since uint64, yield func(Event) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream when the caller stops early

	path := "/v1/events"
	if since != Now {
		path += "?since=" + strconv.FormatUint(since, 10)
	}

	response, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}

	defer response.Body.Close() //nolint:errcheck // read only

	if response.StatusCode != http.StatusOK {
		return remoteError(response)
	}

	return readEvents(response.Body, yield)
}

// readEvents returns nil when yield wants no more, otherwise why the stream
// ended. Only the data lines matter: each event carries its own number.
func readEvents(body io.Reader, yield func(Event) bool) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEvent)

	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}

		var event Event
		if err := json.Unmarshal(data, &event); err != nil {
			return fmt.Errorf("event stream: %w", err)
		}

		if !yield(event) {
			return nil
		}
	}

	if err := lines.Err(); err != nil {
		return fmt.Errorf("event stream: %w", err)
	}

	return fmt.Errorf("event stream ended: %w", ErrNotRunning)
}

func call[T any](ctx context.Context, c *Client, method, path string, body []byte) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()

	return answer[T](ctx, c, method, path, body)
}

func answer[T any](ctx context.Context, c *Client, method, path string, body []byte) (T, error) {
	var result T

	response, err := c.do(ctx, method, path, body)
	if err != nil {
		return result, err
	}

	defer response.Body.Close() //nolint:errcheck // read only

	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNoContent:
		return result, nil
	default:
		return result, remoteError(response)
	}

	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&result); err != nil {
		return result, fmt.Errorf("answer of %s %s on %s: %w", method, path, c.path, err)
	}

	return result, nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://bmctl"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}

	response, err := c.http.Do(request)
	if err == nil {
		return response, nil
	}

	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err // its method and made-up URL say nothing to the reader
	}

	return nil, fmt.Errorf("%w", dialError(c.path, err))
}

func dialError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nothing answers on %s", ErrNotRunning, path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w on %s", ErrPermission, path)
	default:
		return fmt.Errorf("ask serve on %s: %w", path, err)
	}
}

// remoteError turns an answer back into the kind that the server had.
func remoteError(response *http.Response) error {
	var document ErrorDocument

	err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(&document)
	if err != nil || document.Error.Code == "" {
		return fmt.Errorf("serve answered %s", response.Status)
	}

	for _, known := range wireKinds() {
		if document.Error.Code == known.code {
			return &RemoteError{Kind: known.kind, Message: document.Error.Message}
		}
	}

	return &RemoteError{Message: document.Error.Message}
}

// RemoteError is a failure that serve reported. Kind is one of this package's
// kinds, or nil.
type RemoteError struct {
	Kind    error
	Message string
}

// Error returns serve's own words, which name the machine.
func (e *RemoteError) Error() string { return e.Message }

// Unwrap returns the kind.
func (e *RemoteError) Unwrap() error { return e.Kind }
