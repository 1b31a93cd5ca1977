package serve

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/google/go-cmp/cmp"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/controllers"
	"github.com/bmctl/bmctl/serve/localapi"
)

// TestBootEvent is the shape that programs read; fields are added, never renamed.
func TestBootEvent(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

	for name, c := range map[string]struct {
		event boot.Event
		want  string
	}{
		"loader": {
			boot.Event{
				Type: boot.EventLoader, Time: at, MAC: "02:00:00:00:00:01", Addr: netip.MustParseAddr("10.0.2.141"), Interface: "eno1",
				Arch: "amd64", File: "ipxe.efi", Bytes: 1 << 20, Duration: 250 * time.Millisecond,
			},
			`{"seq":0,"at":"2026-11-22T12:00:00Z","mac":"02:00:00:00:00:01","type":"loader","text":"loader ipxe.efi","address":"10.0.2.141",` +
				`"interface":"eno1","arch":"amd64","file":"ipxe.efi","bytes":1048576,"durationSeconds":0.25}`,
		},
		"script": {
			boot.Event{Type: boot.EventScript, Time: at, UUID: "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1", Arch: "arm64", Decision: boot.Agent, Reason: "unknown machine"},
			`{"seq":0,"at":"2026-11-22T12:00:00Z","machineId":"9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1","type":"script","text":"script: agent",` +
				`"reason":"unknown machine","arch":"arm64","decision":"agent"}`,
		},
		"discover": {
			boot.Event{Type: boot.EventDiscover, Time: at, MAC: "02:00:00:00:00:01", Addr: netip.IPv4Unspecified(), File: "ipxe.efi"},
			`{"seq":0,"at":"2026-11-22T12:00:00Z","mac":"02:00:00:00:00:01","type":"discover","text":"discover ipxe.efi","file":"ipxe.efi"}`,
		},
	} {
		got, err := json.Marshal(bootEvent(c.event))
		if err != nil {
			t.Fatal(err)
		}

		if diff := cmp.Diff(c.want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestLocalAssets: who loads a local boot asset is told with what was moved; one
// that is not there is told too, and nothing but files is served.
func TestLocalAssets(t *testing.T) {
	dir := t.TempDir()
	content := make([]byte, 3<<20)

	for _, name := range []string{"kernel-amd64", "initramfs-metal-amd64.xz"} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	s := &Server{log: slog.New(slog.DiscardHandler), events: newEventRing()}
	s.cfg.BootAssetsPath = dir
	s.metrics = newMetrics(s)

	var err error
	if s.ctrl, err = controllers.New(controllers.Config{
		ProviderID: "bare-metal", Log: s.log,
		State: state.WrapCore(namespaced.NewState(func(namespace string) state.CoreState { return inmem.NewState(namespace) })),
	}); err != nil {
		t.Fatal(err)
	}

	web := httptest.NewServer(s.assets())

	for path, want := range map[string]int{
		"/assets/kernel-amd64?uuid=9C41E0AA-7A1E-4B02-9F3C-1B5D3C9BE6F1&mac=02-00-00-00-00-01": http.StatusOK,
		"/assets/initramfs-metal-arm64.xz": http.StatusNotFound,
		"/assets/":                         http.StatusNotFound,
		"/assets/../events_test.go":        http.StatusNotFound,
	} {
		response, err := http.Get(web.URL + path)
		if err != nil {
			t.Fatal(err)
		}

		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != want {
			t.Errorf("%s: %s, %v; want %d", path, response.Status, err, want)
		}

		_ = response.Body.Close()
	}

	web.Close() // after which every handler has returned

	events, _, _ := s.events.after(0)
	found := map[string]localapi.Event{}

	for _, e := range events {
		found[e.Type+" "+e.File] = e
	}

	kernel, missing := found["kernel kernel-amd64"], found["ignored initramfs-metal-arm64.xz"]
	if kernel.MachineID != "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1" || kernel.MAC != "02:00:00:00:00:01" || kernel.Arch != "amd64" ||
		kernel.Bytes != 3<<20 || kernel.DurationSeconds <= 0 || kernel.Address != "127.0.0.1" || kernel.Reason != "from the local boot assets" {
		t.Errorf("kernel: %+v", kernel)
	}

	if missing.Reason != `there is no local boot asset "initramfs-metal-arm64.xz"` || len(events) != 4 {
		t.Errorf("missing: %+v; %d events", missing, len(events))
	}
}
