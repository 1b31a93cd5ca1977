package lab_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/serve/eventlog"
	"github.com/bmctl/bmctl/serve/lab"
	"github.com/bmctl/bmctl/serve/localapi"
)

// TestAssetCache: machines load agent mode from serve, which says so, also after it
// was killed and begun again. The lab's firmware only looks whether the files are
// there; the test loads them.
func TestAssetCache(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second, Machines: 2, ServeFlags: []string{"--asset-cache-dir=" + t.TempDir()}})
	m := l.Machines()[0]

	for _, m := range l.Machines() {
		eventually(t, l, m.Name+"'s agent calls", func() bool { return view(t, l, m).Stage == "agent" })
	}

	s := script(t, l, m, "")
	if !strings.Contains(s, "/kernel-amd64?uuid=${uuid}&mac=${netX/mac:hexhyp} ") || strings.Count(s, ":"+port(t, s)+"/image/") != 2 {
		t.Errorf("the machine does not load from serve:\n%s", s)
	}

	for word := range strings.FieldsSeq(s) {
		if strings.Contains(word, "/image/") {
			load(t, strings.NewReplacer("${uuid}", m.UUID, "${netX/mac:hexhyp}", "02-00-00-00-00-01").Replace(word))
		}
	}

	loaded := func() bool {
		client := localapi.Dial(l.SocketPath())
		defer client.Close()

		events, err := client.History(t.Context(), localapi.HistoryQuery{Machine: m.UUID})
		has := func(kind string) bool {
			return slices.ContainsFunc(events, func(e localapi.Event) bool {
				return e.Type == kind && e.Reason == "from the asset cache" && e.Bytes > 0 && e.Arch == "amd64" && e.MAC == "02:00:00:00:00:01"
			})
		}

		return err == nil && has("kernel") && has("initrd")
	}

	eventually(t, l, "kernel and initramfs in the machine's history", loaded)
	eventually(t, l, "both in the event log", func() bool {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(l.SocketPath()), "state", eventlog.File))

		return err == nil && strings.Count(string(data), "from the asset cache") == 2
	})
	l.KillServe()

	if err := l.StartServe(t.Context()); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "the same after serve was killed", loaded)
}

func load(t *testing.T, target string) {
	t.Helper()

	response, err := http.Get(target)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK || len(body) == 0 {
		t.Errorf("%s: %s, %q, %v", target, response.Status, body, err)
	}
}

// port is the port of the script's config URL, which is serve's own.
func port(t *testing.T, script string) string {
	t.Helper()

	_, rest, found := strings.Cut(script, "talos.config=http://127.0.0.1:")
	port, _, more := strings.Cut(rest, "/")

	if !found || !more {
		t.Fatalf("no config URL in the script:\n%s", script)
	}

	return port
}
