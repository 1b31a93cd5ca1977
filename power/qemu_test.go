package power_test

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmctest"
)

// launcher answers as talosctl's QEMU launcher does.
type launcher struct {
	mu    sync.Mutex
	on    bool
	calls []string
}

func (l *launcher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()

	call := r.Method + " " + r.URL.Path

	switch call {
	case "GET /status":
		if err := json.NewEncoder(w).Encode(map[string]bool{"PoweredOn": l.on}); err != nil {
			panic(err)
		}

		return
	case "POST /poweron":
		l.on = true
	case "POST /poweroff":
		l.on = false
	case "POST /reboot", "POST /pxeboot":
	default:
		http.NotFound(w, r)

		return
	}

	l.calls = append(l.calls, call)
}

func startLauncher(t *testing.T) (*launcher, power.Target) {
	t.Helper()

	l := &launcher{}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)

	host, portText, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	port, err := strconv.Atoi(portText)
	if err != nil {
		t.Fatal(err)
	}

	return l, power.Target{Name: "vm", Address: host, Port: port, Protocol: power.ProtocolQEMU}
}

func TestQEMUMachine(t *testing.T) {
	t.Parallel()

	l, target := startLauncher(t)
	bmc := open(t, target)

	bmctest.WantState(t, bmc, power.StateOff)
	bmctest.WantKind(t, bmc.Do(bmctest.Context(t), power.Reset), target, power.ErrRefused)

	if err := bmc.SetBoot(bmctest.Context(t), power.Boot{Device: power.DevicePXE}); err != nil {
		t.Fatal(err)
	}

	bmctest.Do(t, bmc, power.On, power.On, power.Reset, power.Cycle, power.Off)

	want := []string{"POST /pxeboot", "POST /poweron", "POST /reboot", "POST /reboot", "POST /poweroff"}
	if !slices.Equal(l.calls, want) {
		t.Errorf("got %v, want %v", l.calls, want)
	}

	for _, boot := range []power.Boot{{}, {Device: power.DeviceDisk}, {Device: power.DevicePXE, Persistent: true}} {
		bmctest.WantKind(t, bmc.SetBoot(bmctest.Context(t), boot), target, power.ErrUnsupported)
	}

	if info, err := bmc.Info(bmctest.Context(t)); err != nil || info.Protocol != power.ProtocolQEMU {
		t.Errorf("info %+v, %v", info, err)
	}

	bmctest.Do(t, bmc, power.On)
	bmctest.WantKind(t, bmc.Do(bmctest.Context(t), power.Soft), target, power.ErrUnsupported)
}

func TestQEMUMachineThatIsNotThere(t *testing.T) {
	t.Parallel()

	target := power.Target{Name: "vm", Address: "127.0.0.1", Port: 9, Protocol: power.ProtocolQEMU}
	_, err := open(t, target).State(bmctest.Context(t))
	bmctest.WantKind(t, err, target, power.ErrUnreachable)
}

func TestQEMUTarget(t *testing.T) {
	t.Parallel()

	const (
		newer = "4c4c4544-0042-4a10-8053-b9c04f4a3232"
		older = "5c4c4544-0042-4a10-8053-b9c04f4a3232"
	)

	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.config"), `{"NodeUUID":"`+newer+`",
		"Network":{"GatewayAddrs":["10.5.0.1","fd00::1"]},"APIBindAddress":{"IP":"10.5.0.1","Port":4001,"Zone":""}}`, 0o600)
	write(t, filepath.Join(dir, "b.config"), `{"NodeUUID":"`+older+`","GatewayAddrs":["10.5.0.2"],"APIPort":4002}`, 0o600)
	write(t, filepath.Join(dir, "notes.txt"), `none`, 0o600)

	for uuid, want := range map[string]power.Target{
		newer: {Address: "10.5.0.1", Port: 4001, Protocol: power.ProtocolQEMU, UUID: newer},
		older: {Address: "10.5.0.2", Port: 4002, Protocol: power.ProtocolQEMU, UUID: older},
	} {
		if got, err := power.QEMUTarget(dir, uuid); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}

	if _, err := power.QEMUTarget(dir, "6c4c4544-0042-4a10-8053-b9c04f4a3232"); !errors.Is(err, power.ErrNoQEMUMachine) {
		t.Errorf("got %v", err)
	}

	if _, err := power.QEMUTarget(dir, "nonsense"); err == nil || errors.Is(err, power.ErrNoQEMUMachine) {
		t.Errorf("got %v", err)
	}

	write(t, filepath.Join(dir, "0.config"), `{`, 0o600)

	if _, err := power.QEMUTarget(dir, newer); err == nil {
		t.Error("a broken file passed unseen")
	}
}

// Who answers on the port and is no launcher, or an ailing one, is told apart.
func TestQEMUAnswersOfOthers(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		status int
		body   string
		kind   error // nil: the power is unknown
	}{
		"another server": {http.StatusNotFound, "", power.ErrUnsupported},
		"it fails":       {http.StatusInternalServerError, "", power.ErrRefused},
		"no JSON":        {http.StatusOK, "<html>", power.ErrUnsupported},
		"no power":       {http.StatusOK, "{}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body)) // the client may have gone
			}))
			t.Cleanup(server.Close)

			port := server.Listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // httptest listens on TCP
			target := power.Target{Name: "vm1", Address: "127.0.0.1", Port: port, Protocol: power.ProtocolQEMU}

			state, err := open(t, target).State(bmctest.Context(t))
			if c.kind != nil {
				bmctest.WantKind(t, err, target, c.kind)
			} else if err != nil || state != power.StateUnknown {
				t.Errorf("got %s, %v", state, err)
			}
		})
	}
}
