package factory_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/siderolabs/image-factory/pkg/schematic"
	"go.uber.org/goleak"

	"github.com/bmctl/bmctl/serve/factory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// imageFactory behaves as the real one where nothing else is asked of it: it
// takes strict YAML and answers 201 with the digest of the canonical form.
type imageFactory struct {
	*httptest.Server

	posts atomic.Int64
	gets  atomic.Int64
	// first answers the first requests, one after the other.
	first []http.HandlerFunc
	// script is the body at /pxe/...
	script string
	mu     sync.Mutex
}

func newFactory(t *testing.T, first ...http.HandlerFunc) *imageFactory {
	t.Helper()

	f := &imageFactory{first: first}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /schematics", f.post)
	mux.HandleFunc("GET /pxe/{id}/{version}/{file}", func(w http.ResponseWriter, r *http.Request) {
		f.gets.Add(1)
		_, _ = io.WriteString(w, strings.ReplaceAll(f.script, "BASE", "http://"+r.Host))
	})

	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.next(mux)(w, r)
	}))
	t.Cleanup(f.Close)

	return f
}

func (f *imageFactory) next(mux *http.ServeMux) http.HandlerFunc {
	f.mu.Lock()
	defer f.mu.Unlock()

	if len(f.first) == 0 {
		return mux.ServeHTTP
	}

	handler := f.first[0]
	f.first = f.first[1:]

	return handler
}

func (f *imageFactory) post(w http.ResponseWriter, r *http.Request) {
	f.posts.Add(1)

	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)

		return
	}

	wish, err := schematic.Unmarshal(body)
	if err != nil {
		http.Error(w, "invalid schematic: "+err.Error(), http.StatusBadRequest)

		return
	}

	canonical, err := wish.Marshal()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)

		return
	}

	digest := sha256.Sum256(canonical)
	answerID(hex.EncodeToString(digest[:]))(w, r)
}

func answerID(id string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]string{"id": id})
	}
}

func answer(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, body, code) }
}

// breakOff promises more than it sends.
func breakOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, `{"id":"`)

	panic(http.ErrAbortHandler)
}

// hang answers nothing until the client has gone.
func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// client talks to the factory over connections of its own, which end with the
// test.
func client(t *testing.T, f *imageFactory) *factory.Client {
	t.Helper()

	return impatient(t, f, time.Minute)
}

// impatient is a client that gives up on an attempt after the timeout.
func impatient(t *testing.T, f *imageFactory, timeout time.Duration) *factory.Client {
	t.Helper()

	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)

	c, err := factory.New(factory.Config{
		BaseURL: f.URL, PXEBaseURL: f.URL, HTTP: &http.Client{Transport: transport},
		AttemptTimeout: timeout, Pause: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}

	return c
}

func TestEnsureSchematic(t *testing.T) {
	f := newFactory(t)
	c := client(t, f)
	wish := factory.NewSchematic(factory.AgentExtensions(), []string{"console=ttyS0"})

	want, err := wish.ID()
	if err != nil {
		t.Fatal(err)
	}

	for range 3 {
		if id, err := c.EnsureSchematic(t.Context(), wish); id != want || err != nil {
			t.Fatalf("got %q, %v, want %s", id, err, want)
		}
	}

	if n := f.posts.Load(); n != 1 {
		t.Errorf("%d posts, want one", n)
	}
}

func TestConcurrentCallersShareOnePost(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})

	var f *imageFactory
	f = newFactory(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-release
		f.post(w, r)
	})
	c := client(t, f)
	wish := factory.NewSchematic(nil, nil)

	// The caller that came first gives up: the others must not fail with it.
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := c.EnsureSchematic(ctx, wish); first <- err }()
	<-begun
	cancel()

	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that gave up got %v, want context.Canceled", err)
	}

	var others sync.WaitGroup
	for range 10 {
		others.Go(func() {
			if _, err := c.EnsureSchematic(t.Context(), wish); err != nil {
				t.Error(err)
			}
		})
	}

	close(release)
	others.Wait()

	if n := f.posts.Load(); n != 1 {
		t.Errorf("%d posts, want one", n)
	}
}

func TestRepeatedAttempts(t *testing.T) {
	for name, failure := range map[string]http.HandlerFunc{
		"500":              answer(http.StatusInternalServerError, "boom"),
		"503":              answer(http.StatusServiceUnavailable, "later"),
		"429":              answer(http.StatusTooManyRequests, "slow down"),
		"stops half-way":   breakOff,
		"not JSON":         answer(http.StatusCreated, "<html>portal</html>"),
		"id of a stranger": answerID("../../etc/passwd"),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFactory(t, failure, failure)

			id, err := client(t, f).EnsureSchematic(t.Context(), factory.NewSchematic(nil, nil))
			if err != nil || len(id) != 64 {
				t.Errorf("got %q, %v, want an id after two failures", id, err)
			}
		})
	}
}

func TestAttemptThatHangsIsRepeated(t *testing.T) {
	f := newFactory(t, hang)

	id, err := impatient(t, f, 500*time.Millisecond).EnsureSchematic(t.Context(), factory.NewSchematic(nil, nil))
	if err != nil || len(id) != 64 {
		t.Errorf("got %q, %v, want an id after an attempt without answer", id, err)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	failures := make([]http.HandlerFunc, 20)
	for i := range failures {
		failures[i] = answer(http.StatusBadGateway, "upstream is down")
	}

	f := newFactory(t, failures...)
	wish := factory.NewSchematic(nil, nil)
	c := client(t, f)

	_, err := c.EnsureSchematic(t.Context(), wish)
	if !errors.Is(err, factory.ErrUnavailable) || errors.Is(err, factory.ErrRejected) || !strings.Contains(err.Error(), "HTTP 502: upstream is down") {
		t.Errorf("got %v, want ErrUnavailable with the last answer", err)
	}

	if left := len(f.first); left != 15 {
		t.Errorf("%d attempts, want 5", 20-left)
	}

	// A failure is not remembered.
	f.first = nil
	if _, err := c.EnsureSchematic(t.Context(), wish); err != nil {
		t.Errorf("once the factory is back: %v", err)
	}
}

func TestRefusalIsFinal(t *testing.T) {
	refusal := answer(http.StatusBadRequest, "extension \"siderolabs/nonesuch\"\nis not available "+strings.Repeat("x", 5000))
	f := newFactory(t, refusal)

	_, err := client(t, f).EnsureSchematic(t.Context(), factory.NewSchematic([]string{"siderolabs/nonesuch"}, nil))
	if !errors.Is(err, factory.ErrRejected) || errors.Is(err, factory.ErrUnavailable) {
		t.Fatalf("got %v, want ErrRejected", err)
	}

	if text := err.Error(); !strings.Contains(text, `HTTP 400: extension "siderolabs/nonesuch" is not available`) ||
		len(text) > 700 || !strings.Contains(text, f.URL) {
		t.Errorf("the error does not quote the factory in one line: %q", text)
	}

	if n := f.posts.Load(); n != 0 {
		t.Errorf("%d further attempts after a refusal, want none", n)
	}
}

// A factory that completes a schematic by its own rules knows it by its own id.
func TestFactorysOwnID(t *testing.T) {
	own := strings.Repeat("ab", 32)
	f := newFactory(t, answerID(own))
	c := client(t, f)

	for range 2 {
		if id, err := c.EnsureSchematic(t.Context(), factory.NewSchematic(nil, nil)); id != own || err != nil {
			t.Errorf("got %q, %v, want %s", id, err, own)
		}
	}
}

func TestNothingListens(t *testing.T) {
	f := newFactory(t)
	c := client(t, f)
	f.Close()

	if _, err := c.EnsureSchematic(t.Context(), factory.NewSchematic(nil, nil)); !errors.Is(err, factory.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestNewSchematicIsCanonical(t *testing.T) {
	a := factory.NewSchematic([]string{"b", "a", "b"}, []string{"console=tty0", "console=ttyS0"})
	b := factory.NewSchematic([]string{"a", "b"}, []string{"console=tty0", "console=ttyS0"})
	swapped := factory.NewSchematic([]string{"a", "b"}, []string{"console=ttyS0", "console=tty0"})

	idA, _ := a.ID()
	idB, _ := b.ID()
	idSwapped, _ := swapped.ID()

	if idA != idB {
		t.Error("order and repetition of extensions change the id")
	}

	if idA == idSwapped {
		t.Error("the order of kernel arguments is lost")
	}

	// The id of the empty schematic is a well-known constant of the factory.
	empty := factory.NewSchematic(nil, nil)
	if id, err := empty.ID(); id != "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba" || err != nil {
		t.Errorf("the empty schematic is %s, %v", id, err)
	}
}

func TestBadBaseURLs(t *testing.T) {
	_, err := factory.New(factory.Config{BaseURL: "factory.talos.dev", PXEBaseURL: "ftp://user:hush@pxe.example"})
	if err == nil || !strings.Contains(err.Error(), "image factory base URL is") ||
		!strings.Contains(err.Error(), "image factory PXE base URL is") || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v, want both problems and no password", err)
	}

	if _, err := factory.New(factory.Config{}); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
}
