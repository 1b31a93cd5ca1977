package assetcache_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bmctl/bmctl/serve/assetcache"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("ASSETCACHE_TEST_FETCH_INTO"); dir != "" {
		fetchInto(dir)
	}

	if dir := os.Getenv("ASSETCACHE_TEST_SERVE"); dir != "" {
		serveFrom(dir)
	}

	goleak.VerifyTestMain(m)
}

var schematic = strings.Repeat("5a", 32)

func key(version, file string) assetcache.Key {
	return assetcache.Key{Schematic: schematic, Version: version, File: file}
}

var (
	kernel = key("v1.13.7", "kernel-amd64")
	initrd = key("v1.13.7", "initramfs-amd64.xz")
)

// content is what the factory holds under the path: it differs from all others.
func content(path string, size int) []byte {
	data := bytes.Repeat([]byte(path+"\n"), size/len(path)+1)

	return data[:size]
}

// origin is an image factory whose next answers can be misbehaviour.
type origin struct {
	*httptest.Server
	size int

	mu     sync.Mutex
	first  []http.HandlerFunc
	ranges []string // the header Range of each request
}

func newOrigin(t *testing.T, first ...http.HandlerFunc) *origin {
	t.Helper()

	o := &origin{size: 1 << 20, first: first}
	o.Server = httptest.NewServer(o)
	t.Cleanup(o.Close)

	return o
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.ranges = append(o.ranges, r.Header.Get("Range"))
	handler := o.whole

	if len(o.first) > 0 {
		handler, o.first = o.first[0], o.first[1:]
	}
	o.mu.Unlock()

	handler(w, r)
}

// whole answers as the factory does.
func (o *origin) whole(w http.ResponseWriter, r *http.Request) {
	data := content(r.URL.Path, o.size)
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (o *origin) asked() []string {
	o.mu.Lock()
	defer o.mu.Unlock()

	return append([]string(nil), o.ranges...)
}

// half answers with half of the asset and breaks off.
func half(w http.ResponseWriter, r *http.Request) {
	data := content(r.URL.Path, 1<<20)
	w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	_, _ = w.Write(data[:len(data)/2])

	panic(http.ErrAbortHandler)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
}

func (o *origin) boot() assetcache.Boot {
	return assetcache.Boot{
		BootKey: assetcache.BootKey{Wish: schematic, Version: "v1.13.7", Arch: "amd64"},
		Kernel:  o.URL + kernel.Path(), Initrd: o.URL + initrd.Path(), Args: []string{"talos.platform=metal"},
	}
}

// notices are what a cache said.
type notices struct {
	mu    sync.Mutex
	lines []string
}

func (n *notices) hear(text, reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.lines = append(n.lines, text+": "+reason)
}

func (n *notices) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()

	return strings.Join(n.lines, "\n")
}

// site is a cache served to machines.
type site struct {
	*assetcache.Cache
	web   *httptest.Server
	notes *notices
	mu    sync.Mutex
	sent  []assetcache.Transfer
}

func open(t *testing.T, dir string, o *origin, change ...func(*assetcache.Config)) *site {
	t.Helper()

	s := &site{notes: &notices{}}
	transport := &http.Transport{}
	cfg := assetcache.Config{
		Dir: dir, HTTP: &http.Client{Transport: transport}, Pause: time.Millisecond, Notice: s.notes.hear,
		Served: func(transfer assetcache.Transfer) {
			s.mu.Lock()
			defer s.mu.Unlock()

			s.sent = append(s.sent, transfer)
		},
	}

	for _, fn := range change {
		fn(&cfg)
	}

	var err error
	if s.Cache, err = assetcache.Open(cfg); err != nil {
		t.Fatal(err)
	}

	if o != nil {
		if err := s.Expect(o.boot()); err != nil {
			t.Fatal(err)
		}
	}

	s.web = httptest.NewServer(s.Cache)

	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}

		s.web.Close()
		transport.CloseIdleConnections()
	})

	return s
}

// get asks the site as a machine does, and follows no redirection.
func (s *site) get(t *testing.T, k assetcache.Key, header ...string) (*http.Response, []byte, error) {
	t.Helper()

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.web.URL+k.Path(), nil)
	if err != nil {
		t.Fatal(err)
	}

	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}

	client := *s.web.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	body, err := io.ReadAll(response.Body)

	return response, body, err
}

// wantWhole asks for the asset, compares all of it, and waits until it is stored:
// a machine has the last byte before that.
func (s *site) wantWhole(t *testing.T, k assetcache.Key) {
	t.Helper()

	response, body, err := s.get(t, k)
	if err != nil || response.StatusCode != http.StatusOK || !bytes.Equal(body, content(k.Path(), 1<<20)) {
		t.Errorf("%s: %s, %d bytes, %v; want all of it; notices: %s", k, response.Status, len(body), err, s.notes)
	}

	if _, err := s.Fetch(t.Context(), k, nil); err != nil {
		t.Errorf("%s: %v", k, err)
	}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)

	return hex.EncodeToString(sum[:])
}

func TestAssetIsDownloadedOnceAndKept(t *testing.T) {
	o, dir := newOrigin(t), t.TempDir()
	s := open(t, dir, o)

	for range 3 {
		s.wantWhole(t, kernel)
	}

	if n := len(o.asked()); n != 1 {
		t.Errorf("%d requests, want one", n)
	}

	list := s.List()
	if len(list) != 1 || list[0].Key != kernel || list[0].Size != 1<<20 || list[0].SHA256 != digest(content(kernel.Path(), 1<<20)) {
		t.Fatalf("listed %+v, want the kernel", list)
	}

	if _, ready, found := s.Boot(o.boot().BootKey); ready || !found {
		t.Errorf("boot ready %v, found %v; want found, and not ready without its initramfs", ready, found)
	}

	s.wantWhole(t, initrd)

	// The factory is away, and this is another run.
	o.Close()

	again := open(t, dir, nil)
	again.Verify(t.Context())

	if boot, ready, _ := again.Boot(o.boot().BootKey); !ready || boot.Args[0] != "talos.platform=metal" {
		t.Errorf("boot %+v, ready %v; want ready without the factory", boot, ready)
	}

	again.wantWhole(t, kernel)
	again.wantWhole(t, initrd)

	response, body, err := again.get(t, kernel, "Range", "bytes=100-199")
	if err != nil || response.StatusCode != http.StatusPartialContent || !bytes.Equal(body, content(kernel.Path(), 1<<20)[100:200]) {
		t.Errorf("range: %s, %q, %v", response.Status, body, err)
	}

	if again.notes.String() != "" {
		t.Errorf("notices %s, want none", again.notes)
	}
}

// The first machine gets bytes before the factory has sent all, those who come later
// get all, and there is one download.
func TestPassedOnWhileDownloading(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		data := content(r.URL.Path, 1<<20)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:1000])
		_ = http.NewResponseController(w).Flush()

		<-release

		_, _ = w.Write(data[1000:])
	})
	s := open(t, t.TempDir(), o)

	response, err := s.web.Client().Get(s.web.URL + kernel.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	first := make([]byte, 1000)
	if _, err := io.ReadFull(response.Body, first); err != nil || response.ContentLength != 1<<20 {
		t.Fatalf("length %d, %v; want the length and the first bytes at once", response.ContentLength, err)
	}

	close(arrived)

	var others sync.WaitGroup
	for range 5 {
		others.Go(func() { s.wantWhole(t, kernel) })
	}

	close(release)
	others.Wait()

	rest, err := io.ReadAll(response.Body)
	if err != nil || !bytes.Equal(append(first, rest...), content(kernel.Path(), 1<<20)) {
		t.Errorf("%d bytes, %v; want all", len(rest), err)
	}

	if n := len(o.asked()); n != 1 {
		t.Errorf("%d requests, want one", n)
	}
}

// Whatever the factory does first, the machine gets all bytes in one answer.
func TestMisbehaviourThatPasses(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1048576")
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(content(r.URL.Path, 1<<20)[:1000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}

	for name, first := range map[string][]http.HandlerFunc{
		"moved": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"?signature=hush", http.StatusFound)
		}},
		"unavailable":      {status(503), status(500), status(429)},
		"broke off":        {half},
		"broke off twice":  {half, half},
		"stopped half-way": {hang},
		"no ranges": {half, func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			(&origin{size: 1 << 20}).whole(w, r)
		}},
		"without a length": {func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(content(r.URL.Path, 1<<20))
		}},
		"empty": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1048576")
			panic(http.ErrAbortHandler)
		}},
		"connection is closed": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), newOrigin(t, first...), func(cfg *assetcache.Config) { cfg.Stall = 100 * time.Millisecond })
			s.wantWhole(t, kernel)

			if list := s.List(); len(list) != 1 || list[0].SHA256 != digest(content(kernel.Path(), 1<<20)) {
				t.Errorf("listed %+v", list)
			}

			if err := s.Trouble(kernel); err != nil || strings.Contains(s.notes.String(), "hush") {
				t.Errorf("trouble %v, notices %s", err, s.notes)
			}
		})
	}
}

func TestBrokenDownloadIsResumed(t *testing.T) {
	o, dir := newOrigin(t, half), t.TempDir()
	s := open(t, dir, o)
	s.wantWhole(t, kernel)

	if asked := o.asked(); len(asked) != 2 || asked[1] != "bytes=524288-" {
		t.Errorf("ranges %q, want the second from the middle", asked)
	}

	// Over a restart, too.
	o.mu.Lock()
	o.first, o.ranges = []http.HandlerFunc{half, status(404)}, nil
	o.mu.Unlock()

	if _, err := s.Fetch(t.Context(), initrd, nil); err == nil {
		t.Fatal("want the failure")
	}

	again := open(t, dir, nil)
	again.wantWhole(t, initrd)

	if asked := o.asked(); len(asked) != 3 || asked[2] != "bytes=524288-" {
		t.Errorf("ranges %q, want the last from the middle", asked)
	}
}

// What cannot be had is told to the machine and to people, and nothing of it is
// served as if it were all.
func TestMisbehaviourThatStays(t *testing.T) {
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<html>sign in</html>")
	}

	for name, c := range map[string]struct {
		first  []http.HandlerFunc
		code   int
		reason string
		kind   error
	}{
		"not found":     {[]http.HandlerFunc{status(404)}, 502, "HTTP 404", assetcache.ErrOrigin},
		"broken":        {[]http.HandlerFunc{status(500), status(500), status(500)}, 502, "HTTP 500", assetcache.ErrOrigin},
		"a web page":    {[]http.HandlerFunc{page}, 502, "web page", assetcache.ErrOrigin},
		"too large":     {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "9999999") }}, 302, "the cache may have", assetcache.ErrLocal},
		"half for ever": {[]http.HandlerFunc{half, status(404)}, 200, "HTTP 404", assetcache.ErrOrigin},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, c.first...)
			s := open(t, t.TempDir(), o, func(cfg *assetcache.Config) { cfg.Attempts, cfg.Size = 3, 3<<20 })
			response, body, err := s.get(t, kernel)

			if response.StatusCode != c.code {
				t.Errorf("%s: %q, want %d", response.Status, body, c.code)
			}

			if c.code == 200 && (err == nil || len(body) == 1<<20) {
				t.Errorf("%d bytes, %v; want a broken connection", len(body), err)
			}

			if c.code == 302 && response.Header.Get("Location") != o.URL+kernel.Path() {
				t.Errorf("sent to %q, want the factory", response.Header.Get("Location"))
			}

			if c.code == 502 && !strings.Contains(string(body), c.reason) || !strings.Contains(s.notes.String(), c.reason) {
				t.Errorf("answer %q, notices %q; want %q", body, s.notes, c.reason)
			}

			if trouble := s.Trouble(kernel); !isKind(trouble, c.kind) {
				t.Errorf("trouble %v, want %v", trouble, c.kind)
			}

			if len(s.List()) != 0 {
				t.Errorf("listed %v, want nothing", s.List())
			}
		})
	}
}

func isKind(err, kind error) bool {
	kinds := 0

	for _, k := range []error{assetcache.ErrOrigin, assetcache.ErrLocal, assetcache.ErrBusy, assetcache.ErrUnknown} {
		if is(err, k) {
			kinds++
		}
	}

	return kinds == 1 && is(err, kind)
}

func TestNobodyChoosesWhatIsDownloaded(t *testing.T) {
	o := newOrigin(t)
	s := open(t, t.TempDir(), o)

	for _, path := range []string{
		key("v1.13.8", "kernel-amd64").Path(), key("v1.13.7", "kernel-arm64").Path(), "/image/" + schematic + "/v1.13.7/metal-amd64.iso",
		"/image/" + schematic + "/v1.13.7/../lock", "/image/../index.json", "/image/x/y/z", "/image/",
	} {
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.URL.Path = path
		answer := httptest.NewRecorder()
		s.Cache.ServeHTTP(answer, request)

		if answer.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, answer.Code)
		}
	}

	if n := len(o.asked()); n != 0 {
		t.Errorf("%d requests to the factory, want none", n)
	}
}

// An asset that was altered or truncated while nobody looked is dropped, told, and
// downloaded again.
func TestDamagedFiles(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, string){
		"altered": func(t *testing.T, path string) {
			t.Helper()

			file, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()

			if _, err := file.WriteAt([]byte("X"), 700_000); err != nil {
				t.Fatal(err)
			}
		},
		"truncated": func(t *testing.T, path string) {
			t.Helper()

			if err := os.Truncate(path, 1000); err != nil {
				t.Fatal(err)
			}
		},
		"missing": func(t *testing.T, path string) {
			t.Helper()

			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, dir := newOrigin(t), t.TempDir()
			s := open(t, dir, o)
			s.wantWhole(t, kernel)
			damage(t, fileOf(t, dir, "kernel"))

			again := open(t, dir, nil)
			again.Verify(t.Context())

			if len(again.List()) != 0 || !strings.Contains(again.notes.String(), "dropped kernel-amd64") {
				t.Errorf("listed %v, notices %q; want it dropped", again.List(), again.notes)
			}

			again.wantWhole(t, kernel)
		})
	}
}

func fileOf(t *testing.T, dir, part string) string {
	t.Helper()

	paths, err := filepath.Glob(filepath.Join(dir, schematic+"*"+part+"*"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("%v, %v; want one file of the %s", paths, err, part)
	}

	return paths[0]
}

func TestDamagedIndex(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `{"format":2}`, `{"format":1,"assets":[{"schematic":"../../x"}]}`, "\x00\x00"} {
		o, dir := newOrigin(t), t.TempDir()
		s := open(t, dir, o)
		s.wantWhole(t, kernel)

		if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}

		again := open(t, dir, o)
		if len(again.List()) != 0 || !strings.Contains(again.notes.String(), "index") {
			t.Errorf("%q: listed %v, notices %q; want nothing left, and why", text, again.List(), again.notes)
		}

		again.wantWhole(t, kernel)
	}
}

// The least recently used assets make room; one that is being served is served whole.
func TestQuota(t *testing.T) {
	o := newOrigin(t)
	s := open(t, t.TempDir(), o, func(cfg *assetcache.Config) { cfg.Size = 2 << 20 })

	other := o.boot()
	other.Version = "v1.13.8"
	third := key("v1.13.8", "kernel-amd64")
	other.Kernel, other.Initrd = o.URL+third.Path(), o.URL+key("v1.13.8", "initramfs-amd64.xz").Path()

	if err := s.Expect(other); err != nil {
		t.Fatal(err)
	}

	s.wantWhole(t, kernel)
	s.wantWhole(t, initrd)
	s.wantWhole(t, kernel) // used later than the initramfs
	s.wantWhole(t, third)

	list := s.List()
	if len(list) != 2 || list[0].Key != kernel || list[1].Key != third {
		t.Errorf("listed %+v, want the two that were used last", list)
	}

	if !strings.Contains(s.notes.String(), "dropped initramfs-amd64.xz v1.13.7") {
		t.Errorf("notices %q, want what was dropped", s.notes)
	}
}

func TestTransfersAreTold(t *testing.T) {
	s := open(t, t.TempDir(), newOrigin(t))
	s.wantWhole(t, kernel)
	s.wantWhole(t, kernel)

	s.web.Close() // after which every handler has returned
	s.mu.Lock()
	defer s.mu.Unlock()

	if len(s.sent) != 2 {
		t.Fatalf("%d transfers, want 2", len(s.sent))
	}

	for _, transfer := range s.sent {
		if transfer.Key != kernel || transfer.Bytes != 1<<20 || !transfer.Complete || transfer.Request.RemoteAddr == "" {
			t.Errorf("told of %+v", transfer)
		}
	}
}

// A cache that is closed in the middle of a download leaves what has arrived to the
// next, and machines with a broken connection.
func TestCloseDuringDownload(t *testing.T) {
	arrived := make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		data := content(r.URL.Path, 1<<20)
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:300_000])
		_ = http.NewResponseController(w).Flush()
		close(arrived)
		<-r.Context().Done()
	})
	dir := t.TempDir()
	s := open(t, dir, o)
	done := make(chan error, 1)
	reached := make(chan struct{}, 1000)

	go func() {
		_, err := s.Fetch(context.Background(), kernel, func(n, _ int64) {
			if n == 300_000 {
				reached <- struct{}{}
			}
		})
		done <- err
	}()

	<-arrived
	<-reached

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	if err := <-done; !is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}

	again := open(t, dir, nil)
	again.wantWhole(t, kernel)

	if asked := o.asked(); len(asked) != 2 || asked[1] != "bytes=300000-" {
		t.Errorf("ranges %q, want the second from where the first ended", asked)
	}
}
