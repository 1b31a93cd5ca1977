package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/assetcache"
)

// scrape reads the numbers as Prometheus does: by name and labels.
func scrape(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()

	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}))
	defer server.Close()

	response, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	if response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}

	found := map[string]float64{}

	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); err == nil {
			found[name] = number
		}
	}

	return found
}

func wantNumbers(t *testing.T, got, want map[string]float64) {
	t.Helper()

	for name, value := range want {
		if number, found := got[name]; !found || number != value {
			t.Errorf("%s is %v (found: %v), want %v", name, number, found, value)
		}
	}
}

// newServer is a serve that does not run.
func newServer(t *testing.T, change func(*Config)) *Server {
	t.Helper()

	cfg := DefaultConfig()
	cfg.OmniAPIEndpoint, cfg.OmniServiceAccountKey = "http://127.0.0.1:9", power.NewSecret(key)
	cfg.APIAdvertiseAddress, cfg.StateDir = "127.0.0.1", t.TempDir()

	if change != nil {
		change(&cfg)
	}

	s, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = s.omni.Close() })

	return s
}

// TestMetricsOfNetworkBoot are counted from its events, by step and kind.
func TestMetricsOfNetworkBoot(t *testing.T) {
	s := newServer(t, nil)

	for _, e := range []boot.Event{
		{Type: boot.EventDiscover, MAC: "02:00:00:00:00:01"}, {Type: boot.EventDiscover, MAC: "02:00:00:00:00:02"},
		{Type: boot.EventLoader, Bytes: 1000}, {Type: boot.EventKernel, Bytes: 500},
		{Type: boot.EventScript, Decision: boot.Agent}, {Type: boot.EventScript, Decision: boot.Disk}, {Type: boot.EventIgnored},
	} {
		s.sawBoot(e)
	}

	wantNumbers(t, scrape(t, s.metrics.registry), map[string]float64{
		`bmctl_boot_events_total{step="discover"}`: 2, `bmctl_boot_events_total{step="loader"}`: 1, `bmctl_boot_events_total{step="kernel"}`: 1,
		`bmctl_boot_events_total{step="ignored"}`: 1, `bmctl_boot_decisions_total{kind="agent"}`: 1, `bmctl_boot_decisions_total{kind="disk"}`: 1,
		`bmctl_boot_sent_bytes_total`: 1500, `bmctl_acting`: 0,
	})
}

// TestMetricsOfBMCs: how long readings took, why they failed.
func TestMetricsOfBMCs(t *testing.T) {
	s := newServer(t, nil)
	meter := s.metrics.bmcs
	meter.read(20*time.Millisecond, nil)
	meter.read(3*time.Second, nil)
	meter.read(time.Second, fmt.Errorf("b1: %w", power.ErrUnreachable))
	meter.read(time.Second, power.ErrAuth)
	meter.read(time.Second, errors.Join(power.ErrAuth))
	meter.read(time.Second, context.Canceled)

	wantNumbers(t, scrape(t, s.metrics.registry), map[string]float64{
		`bmctl_bmc_read_seconds_count`: 2, `bmctl_bmc_read_seconds_bucket{le="0.03"}`: 1, `bmctl_bmc_read_seconds_bucket{le="5"}`: 2,
		`bmctl_bmc_errors_total{kind="unreachable"}`: 1, `bmctl_bmc_errors_total{kind="auth"}`: 2, `bmctl_bmc_errors_total{kind="busy"}`: 0,
		`bmctl_bmc_errors_total{kind="other"}`: 1, `bmctl_bmc_polls_late_total`: 0,
	})
}

// TestMetricsOfTheCache follow a download, a second machine, a failure, and an
// asset that has to make room; without a cache there are none.
func TestMetricsOfTheCache(t *testing.T) {
	for name := range scrape(t, newServer(t, nil).metrics.registry) {
		if strings.HasPrefix(name, "bmctl_asset_cache") {
			t.Errorf("%s without a cache", name)
		}
	}

	a, s, _ := newAssets(t, newImages(t, "", 0), t.TempDir(), func(cfg *Config) { cfg.AssetCacheSize = 250 })
	s.metrics = &metrics{registry: prometheus.NewRegistry()}
	s.metrics.registry.MustRegister(cacheNumbers{func() *assetcache.Cache { return s.cache }})

	d, err := a.Agent(t.Context(), "amd64", nil)
	if err != nil {
		t.Fatal(err)
	}

	_, kernel := load(t, d.Kernel)
	load(t, d.Kernel)

	size := float64(len(kernel))
	if size < 90 || size > 125 {
		t.Fatalf("the kernel has %v bytes, and two shall fit in 250", size)
	}

	numbers := scrape(t, s.metrics.registry)
	wantNumbers(t, numbers, map[string]float64{
		`bmctl_asset_cache_requests_total{result="miss"}`: 1, `bmctl_asset_cache_requests_total{result="hit"}`: 1,
		`bmctl_asset_cache_sent_bytes_total`: 2 * size, `bmctl_asset_cache_assets`: 1, `bmctl_asset_cache_bytes`: size,
		`bmctl_asset_cache_limit_bytes`: 250, `bmctl_asset_cache_evictions_total`: 0, `bmctl_asset_cache_download_failures_total`: 0,
	})

	load(t, d.Initrd) // the second that fits

	if d, err = a.Talos(t.Context(), "amd64", "1.13.8", nil, nil); err != nil {
		t.Fatal(err)
	}

	load(t, d.Kernel)
	wantNumbers(t, scrape(t, s.metrics.registry), map[string]float64{
		`bmctl_asset_cache_evictions_total`: 1, `bmctl_asset_cache_assets`: 2, `bmctl_asset_cache_requests_total{result="miss"}`: 3,
	})
}

// TestMetricsOfDownloadsThatFail counts them once for all who wait.
func TestMetricsOfDownloadsThatFail(t *testing.T) {
	a, s, _ := newAssets(t, newImages(t, "", http.StatusNotFound), t.TempDir(), nil)

	d, err := a.Agent(t.Context(), "amd64", nil)
	if err != nil {
		t.Fatal(err)
	}

	if status, _ := load(t, d.Kernel); status != http.StatusBadGateway {
		t.Errorf("status %d", status)
	}

	if got := s.cache.Stats(); got.Failed != 1 || got.Misses != 1 || got.Hits != 0 || got.Assets != 0 {
		t.Errorf("%+v", got)
	}
}

// TestMetricsAreDocumented: docs/metrics.md is what the registry describes, and
// each name keeps the conventions.
func TestMetricsAreDocumented(t *testing.T) {
	s := newServer(t, nil)
	described := make(chan *prometheus.Desc, 1000)
	s.metrics.registry.Describe(described)
	close(described)

	form := regexp.MustCompile(`fqName: "([^"]+)", help: "(.*)", constLabels: \{[^}]*\}, variableLabels: \{([^}]*)\}`)

	var want []string

	for d := range described {
		found := form.FindStringSubmatch(d.String())
		if found == nil {
			t.Fatalf("not understood: %s", d)
		}

		if strings.HasPrefix(found[1], "bmctl_") {
			want = append(want, fmt.Sprintf("| `%s` | %s | %s |", found[1], found[3], found[2]))
		}
	}

	slices.Sort(want)

	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}

	got := regexp.MustCompile("(?m)^\\| `.*$").FindAllString(string(page), -1)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/metrics.md (-registry +page):\n%s", diff)
	}
}
