package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/siderolabs/image-factory/pkg/schematic"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/assetcache"
	"github.com/bmctl/bmctl/serve/factory"
)

// newImages is an image factory. Its scripts' URLs end in the suffix; the images'
// answer is the status, unless that is 0.
func newImages(t *testing.T, suffix string, status int) *httptest.Server {
	t.Helper()

	mux := http.NewServeMux()
	mux.HandleFunc("POST /schematics", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}

		wish, err := schematic.Unmarshal(body)
		if err != nil {
			t.Error(err)
		}

		id, err := wish.ID()
		if err != nil {
			t.Error(err)
		}

		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]string{"id": id})
	})
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /pxe/{id}/{version}/{file}", func(w http.ResponseWriter, r *http.Request) {
		base := schemeOf(r) + "://" + r.Host + "/image/" + r.PathValue("id") + "/" + r.PathValue("version")
		_, _ = fmt.Fprintf(w, "#!ipxe\nimgfree\nkernel %s/kernel-amd64%s talos.platform=metal\ninitrd %s/initramfs-amd64.xz%s\nboot\n", base, suffix, base, suffix)
	})
	mux.HandleFunc("GET /image/{id}/{version}/{file}", func(w http.ResponseWriter, r *http.Request) {
		if status != 0 {
			http.Error(w, "no", status)

			return
		}

		_, _ = io.WriteString(w, "this is "+r.URL.Path)
	})

	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	return server
}

func schemeOf(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}

	return "http"
}

// newAssets is a serve's way to boot assets, and the handler that machines reach.
func newAssets(t *testing.T, images *httptest.Server, dir string, change func(*Config)) (*assets, *Server, *httptest.Server) {
	t.Helper()

	cfg := DefaultConfig()
	cfg.AssetCacheDir = dir

	if change != nil {
		change(&cfg)
	}

	s := &Server{cfg: cfg, log: slog.New(slog.DiscardHandler), events: newEventRing()}

	var err error
	if s.cache, err = s.newCache(nil); err != nil {
		t.Fatal(err)
	}

	client, err := factory.New(factory.Config{BaseURL: images.URL, PXEBaseURL: images.URL, Pause: 1})
	if err != nil {
		t.Fatal(err)
	}

	web := httptest.NewServer(s.cache)

	t.Cleanup(func() {
		web.Close()

		if err := s.cache.Close(); err != nil {
			t.Error(err)
		}
	})

	us := netip.MustParseAddrPort(web.Listener.Addr().String())

	return &assets{
		cfg: cfg, factory: client, cache: s.cache, log: s.log, at: func() netip.AddrPort { return us },
		agentAt: us.String, inline: func() (string, error) { return "jointoken: hush", nil },
	}, s, web
}

// load asks for a file of a decision as a machine does.
func load(t *testing.T, target string) (int, string) {
	t.Helper()

	response, err := http.Get(strings.ReplaceAll(target, "${uuid}", "9C41E0AA-7A1E-4B02-9F3C-1B5D3C9BE6F1"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}

	return response.StatusCode, string(body)
}

// stored waits until the decision's files are in the cache.
func stored(t *testing.T, c *assetcache.Cache, urls ...string) {
	t.Helper()

	for _, url := range urls {
		path, _, _ := strings.Cut(url, "?")

		key, err := assetcache.KeyOf(path)
		if err == nil {
			_, err = c.Fetch(t.Context(), key, nil)
		}

		if err != nil {
			t.Fatal(err)
		}
	}
}

func agentBoot(t *testing.T, a *assets) boot.Decision {
	t.Helper()

	d, err := a.Agent(t.Context(), "amd64", []string{"x=1"})
	if err != nil {
		t.Fatal(err)
	}

	return d
}

// With the cache machines load from us; once it is filled neither another run of
// serve nor its machines need the factory.
func TestMachinesBootWithoutTheFactory(t *testing.T) {
	images, dir := newImages(t, "", 0), t.TempDir()
	a, _, web := newAssets(t, images, dir, nil)
	d := agentBoot(t, a)

	if !strings.HasPrefix(d.Kernel, web.URL+"/image/") || !strings.HasPrefix(d.Initrd, web.URL+"/image/") || d.Args[0] != "talos.platform=metal" {
		t.Fatalf("got %+v, want our URLs", d)
	}

	code, body := load(t, d.Kernel)
	if code != http.StatusOK || !strings.HasSuffix(body, "/kernel-amd64") {
		t.Errorf("kernel: %d, %q", code, body)
	}

	stored(t, a.cache, d.Kernel, d.Initrd)
	images.Close()

	// Its address is part of the schematic, so it must be the same one.
	at := a.at
	again, _, web := newAssets(t, images, dir, nil)
	us := again.at
	again.at, again.agentAt = at, a.agentAt

	b := agentBoot(t, again)
	if b.Kernel != d.Kernel || b.Initrd != d.Initrd {
		t.Errorf("got %+v, want %+v", b, d)
	}

	for _, target := range []string{b.Kernel, b.Initrd} {
		if code, body := load(t, strings.Replace(target, at().String(), us().String(), 1)); code != http.StatusOK || !strings.HasPrefix(body, "this is /image/") {
			t.Errorf("%s at %s: %d, %q", target, web.URL, code, body)
		}
	}

	if d, err := again.Agent(t.Context(), "amd64", []string{"another=1"}); !errors.Is(err, factory.ErrUnavailable) {
		t.Errorf("a boot that is not in the cache: %+v, %v; want the reason why it must wait", d, err)
	}
}

// Where the factory has no such asset, machines wait and are told so; where the
// cache cannot keep it, they load from the factory.
func TestFallBack(t *testing.T) {
	a, s, _ := newAssets(t, newImages(t, "", http.StatusNotFound), t.TempDir(), nil)
	d := agentBoot(t, a)

	if code, body := load(t, d.Kernel); code != http.StatusBadGateway || !strings.Contains(body, "HTTP 404") {
		t.Errorf("%d, %q; want 502 with the reason", code, body)
	}

	if d, err := a.Agent(t.Context(), "amd64", []string{"x=1"}); !errors.Is(err, assetcache.ErrOrigin) || !strings.Contains(err.Error(), "HTTP 404") {
		t.Errorf("got %+v, %v; want the reason to wait", d, err)
	}

	events, _, _ := s.events.after(0)
	if len(events) != 1 || !strings.Contains(events[0].Text+events[0].Reason, "HTTP 404") {
		t.Errorf("events %+v, want one that says why", events)
	}

	images := newImages(t, "", 0)
	a, _, _ = newAssets(t, images, t.TempDir(), func(cfg *Config) { cfg.AssetCacheSize = 10 })
	d = agentBoot(t, a)

	if code, body := load(t, d.Kernel); code != http.StatusOK || !strings.HasSuffix(body, "/kernel-amd64") {
		t.Errorf("%d, %q; want it from the factory", code, body)
	}

	if d := agentBoot(t, a); !strings.HasPrefix(d.Kernel, images.URL) {
		t.Errorf("got %+v, want the factory's URLs", d)
	}
}

// A script with a token, and our own secrets, are nowhere in the cache.
func TestSecretsAreNotKept(t *testing.T) {
	for suffix, want := range map[string]string{"?token=hush": "/pxe/", "": "talos.config.inline="} {
		dir := t.TempDir()
		images := newImages(t, suffix, 0)
		a, _, _ := newAssets(t, images, dir, func(cfg *Config) { cfg.TLSEnabled = suffix == "" })
		d := agentBoot(t, a)

		if got := d.Chain + strings.Join(d.Args, " "); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}

		if suffix != "" && !strings.HasPrefix(d.Chain, images.URL) {
			t.Errorf("got %+v, want the factory's own script", d)
		}

		paths, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}

		for _, path := range paths {
			if data, err := os.ReadFile(path); err != nil || strings.Contains(string(data), "hush") || strings.Contains(string(data), "inline") {
				t.Errorf("%s: %v, %s", path, err, data)
			}
		}
	}
}

func TestBootAskerIsOneWhoCan(t *testing.T) {
	for query, want := range map[string]string{
		"?uuid=9C41E0AA-7A1E-4B02-9F3C-1B5D3C9BE6F1": "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1", "": "", "?uuid=" + strings.Repeat("x", 5000): "",
	} {
		request := httptest.NewRequest(http.MethodGet, "/image/x"+query, nil)
		request.RemoteAddr = "[::ffff:10.0.2.141]:4711"

		if asker := bootAsker(request); asker.UUID != want || asker.Addr.String() != "10.0.2.141" {
			t.Errorf("%.60s: %+v, want %q", query, asker, want)
		}
	}
}

func TestPrefetchIsWhatTheMachineAsks(t *testing.T) {
	images := newImages(t, "", 0)
	cfg := DefaultConfig()
	cfg.AssetCacheDir, cfg.APIAdvertiseAddress, cfg.ImageFactoryBaseURL, cfg.ImageFactoryPXEBaseURL = t.TempDir(), "10.0.2.5", images.URL, images.URL
	log := slog.New(slog.DiscardHandler)

	cache, err := OpenCache(cfg, log, nil)
	if err != nil {
		t.Fatal(err)
	}

	defer cache.Close()

	for _, p := range []Prefetch{{Arch: "amd64"}, {Arch: "amd64", Version: "1.13.8", Extensions: []string{"siderolabs/zfs"}}} {
		if assets, err := cfg.Prefetch(t.Context(), cache, p, log, nil); len(assets) != 2 || err != nil {
			t.Fatalf("%+v, %v; want kernel and initramfs", assets, err)
		}
	}

	images.Close()

	client, err := factory.New(factory.Config{BaseURL: images.URL, PXEBaseURL: images.URL, Pause: 1})
	if err != nil {
		t.Fatal(err)
	}

	s := &Server{cfg: cfg, log: log, advertise: netip.MustParseAddr("10.0.2.5")}
	a := &assets{cfg: cfg, factory: client, cache: cache, log: log, at: s.machinesSee, agentAt: s.agentsDial}

	if d, err := a.Agent(t.Context(), "amd64", nil); err != nil || !strings.HasPrefix(d.Kernel, "http://10.0.2.5:50042/image/") {
		t.Errorf("agent: %+v, %v; want it from the cache", d, err)
	}

	if d, err := a.Talos(t.Context(), "amd64", "v1.13.8", []string{"siderolabs/zfs"}, nil); err != nil || !strings.Contains(d.Kernel, "/v1.13.8/") {
		t.Errorf("Talos: %+v, %v; want it from the cache", d, err)
	}

	cfg.APIPort = 0
	if _, err := cfg.Prefetch(t.Context(), cache, Prefetch{Arch: "amd64"}, log, nil); err == nil || !strings.Contains(err.Error(), "--api-port") {
		t.Errorf("got %v, want that the port is not known", err)
	}
}
