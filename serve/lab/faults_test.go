package lab_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/state"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/lab"
	"github.com/bmctl/bmctl/serve/lab/agentsim"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/omnisim"
	"github.com/bmctl/bmctl/serve/pins"
	"github.com/bmctl/bmctl/serve/resources"
)

// view is a machine as serve shows it.
func view(t testing.TB, l *lab.Lab, m *lab.Machine) localapi.Machine {
	t.Helper()

	client := localapi.Dial(l.SocketPath())
	defer client.Close()

	v, err := client.Machine(t.Context(), m.UUID)
	if err != nil {
		return localapi.Machine{Reason: err.Error()}
	}

	return v
}

// script asks for a machine's boot script, as its firmware does.
func script(t *testing.T, l *lab.Lab, m *lab.Machine, serial string) string {
	t.Helper()

	var base string

	for _, v := range l.Environment("") {
		if v.Name == "BMCTL_LAB_HTTP" {
			base = v.Value
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"http://"+base+"/ipxe/boot.ipxe?uuid="+m.UUID+"&mac="+m.MAC+"&serial="+serial+"&arch=x86_64", nil)
	if err != nil {
		t.Fatal(err)
	}

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // read already

	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}

	return string(body)
}

func acceptAll(t *testing.T, l *lab.Lab) {
	t.Helper()

	for _, m := range l.Machines() {
		eventually(t, l, m.Name+" pending", func() bool { return known(l, m) != nil })

		if err := l.Omni().Accept(m.UUID); err != nil {
			t.Fatal(err)
		}
	}
}

func settled(t testing.TB, l *lab.Lab, m *lab.Machine) {
	t.Helper()
	eventually(t, l, m.Name+" ready and off", func() bool { return ready(l, m) && m.BMC.State() == power.StateOff })
}

// TestSilentBMC: a BMC that never answers delays no other machine, and its own
// machine says what is wrong.
func TestSilentBMC(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second})
	silent := l.Machines()[2]

	eventually(t, l, "pending", func() bool { return known(l, silent) != nil })

	if err := silent.BMC.SetFault(bmcsim.FaultSilent, true); err != nil {
		t.Fatal(err)
	}

	acceptAll(t, l)
	settled(t, l, l.Machines()[0])
	settled(t, l, l.Machines()[1])

	if ready(l, silent) || len(silent.Wipes()) != 0 {
		t.Errorf("%s: ready %t, %d wipes, although its BMC never answered", silent.Name, ready(l, silent), len(silent.Wipes()))
	}

	eventually(t, l, "the silent machine's error is shown", func() bool {
		v := view(t, l, silent)

		return v.Status == localapi.StatusError && strings.Contains(v.Reason, "BMC access is not stored")
	})

	if err := silent.BMC.SetFault(bmcsim.FaultSilent, false); err != nil {
		t.Fatal(err)
	}

	settled(t, l, silent)
}

// TestLostState: a machine in a cluster whose record is gone is held, boots its
// own disk, and is in use again, unwiped, when the operator says so.
func TestLostState(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second, Machines: 2})
	m := l.Machines()[1]

	acceptAll(t, l)
	settled(t, l, m)

	if err := l.Omni().Allocate(m.UUID, "prod", "1.13.5", nil); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "installed", m.Installed)
	eventually(t, l, "running", func() bool { return view(t, l, m).Status == localapi.StatusRunning })
	l.KillServe()

	wipe := resources.NewWipeStatus("bare-metal", m.UUID)
	if err := l.Omni().State().Destroy(t.Context(), wipe.Metadata(), state.WithDestroyOwner("bare-metal.WipeStatusController")); err != nil {
		t.Fatal(err)
	}

	if err := l.StartServe(t.Context()); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "held", func() bool { return view(t, l, m).Held != "" })

	if s := script(t, l, m, m.Serial); !strings.Contains(s, "exit") || !strings.Contains(s, "held") {
		t.Errorf("a held machine that is installed gets its disk, not:\n%s", s)
	}

	before := len(kinds(m))
	client := localapi.Dial(l.SocketPath())

	defer client.Close()

	eventually(t, l, "released", func() bool {
		err := client.Release(t.Context(), m.UUID, "it runs etcd")
		if err != nil && !errors.Is(err, localapi.ErrNotYet) {
			t.Fatal(err)
		}

		return err == nil
	})
	eventually(t, l, "running again", func() bool { return view(t, l, m).Status == localapi.StatusRunning })

	if len(m.Wipes()) != 1 || len(kinds(m)) != before {
		t.Errorf("wiped %d times, acts %v: want one wipe of its first life and no act since", len(m.Wipes()), kinds(m))
	}
}

// TestSharedUUID: a boot request with another serial number under the same id
// holds the machine: a wipe could hit the wrong board.
func TestSharedUUID(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second, Machines: 1})
	m := l.Machines()[0]

	eventually(t, l, "pending", func() bool { return known(l, m) != nil })
	eventually(t, l, "seen", func() bool { return view(t, l, m).Status == localapi.StatusPending })
	script(t, l, m, m.Serial)
	script(t, l, m, "OTHER1")

	if err := l.Omni().Accept(m.UUID); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "held", func() bool {
		v := view(t, l, m)

		return v.Status == localapi.StatusError && strings.Contains(v.Held, "OTHER1")
	})

	l.KillServe()

	if err := l.StartServe(t.Context()); err != nil {
		t.Fatal(err)
	}

	script(t, l, m, "OTHER1")
	eventually(t, l, "held after a restart as well", func() bool { return view(t, l, m).Held != "" })

	if len(m.Wipes()) != 0 {
		t.Error("it was wiped")
	}

	client := localapi.Dial(l.SocketPath())
	defer client.Close()

	if err := client.Release(t.Context(), m.UUID, "its board was replaced"); err != nil {
		t.Fatal(err)
	}

	settled(t, l, m)
}

// TestOmniAway: without Omni at start no machine is decided upon, and it is told
// so; when Omni goes later, installed machines still boot their disks.
func TestOmniAway(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second, Machines: 2, ServeFlags: []string{"--max-staleness=3s"}})
	used, idle := l.Machines()[1], l.Machines()[0]

	acceptAll(t, l)
	settled(t, l, used)
	settled(t, l, idle)

	if err := l.Omni().Allocate(used.UUID, "prod", "1.13.5", nil); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "running", func() bool { return view(t, l, used).Status == localapi.StatusRunning })
	time.Sleep(1500 * time.Millisecond) // the snapshot is written every second
	l.Omni().SetAway(true)

	eventually(t, l, "stale: an idle machine waits", func() bool { return strings.Contains(script(t, l, idle, ""), "away too long") })

	if s := script(t, l, used, ""); !strings.Contains(s, "installed by what is known") {
		t.Errorf("an installed machine boots its disk while Omni is away, not:\n%s", s)
	}

	l.KillServe()

	if err := l.StartServe(t.Context()); err != nil {
		t.Fatal(err)
	}

	if s := script(t, l, idle, ""); !strings.Contains(s, "not complete yet") || strings.Contains(s, "kernel") {
		t.Errorf("before the first list a machine waits, and gets no agent mode:\n%s", s)
	}

	if s := script(t, l, used, ""); !strings.Contains(s, "installed when we last knew") {
		t.Errorf("before the first list an installed machine boots its disk:\n%s", s)
	}

	client := localapi.Dial(l.SocketPath())
	defer client.Close()

	if _, err := client.Machines(t.Context()); !errors.Is(err, localapi.ErrNotYet) {
		t.Errorf("before the first list the machines are %v, want ErrNotYet: an empty list would say that there are none", err)
	}

	acts := len(kinds(used)) + len(kinds(idle))

	l.Omni().SetAway(false)
	eventually(t, l, "decided again", func() bool { return strings.Contains(script(t, l, idle, ""), "not in a cluster") })

	if now := len(kinds(used)) + len(kinds(idle)); now != acts {
		t.Errorf("the BMCs saw %d acts while Omni was away and came back", now-acts)
	}
}

// TestLease: a second serve of the same provider waits and says for whom.
func TestLease(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second, Machines: 1})
	m := l.Machines()[0]
	second, socket := secondServe(t, l)
	defer end(t, second)

	client := localapi.Dial(socket)
	defer client.Close()

	eventually(t, l, "the second serve waits for the first", func() bool {
		h, err := client.Health(t.Context())

		return err == nil && !h.Acting && strings.Contains(h.ActingReason, "holds the lease")
	})

	acceptAll(t, l)
	settled(t, l, m)

	l.KillServe()
	within(t, l, time.Minute, "the second serve takes over when the lease ends", func() bool {
		h, err := client.Health(t.Context())

		return err == nil && h.Acting
	})
}

// secondServe starts another serve of the lab's provider.
func secondServe(t *testing.T, l *lab.Lab) (cmd *exec.Cmd, socket string) {
	t.Helper()

	return secondServeWith(t, l, nil)
}

// secondServeWith has further environment.
func secondServeWith(t *testing.T, l *lab.Lab, environment []string) (cmd *exec.Cmd, socket string) {
	t.Helper()

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a temporary folder

	socket = filepath.Join(dir, "sock")
	cmd = exec.Command(exe,
		"serve", "--api-listen-address=127.0.0.1", "--api-advertise-address=127.0.0.1", "--dhcp-proxy-iface-or-ip=127.0.0.1",
		"--api-port=0", "--dhcp-port=0", "--pxe-port=0", "--tftp-port=0", "--metrics-address=",
		"--state-dir="+filepath.Join(dir, "state"), "--socket="+socket,
	)
	cmd.Env = append(os.Environ(), "OMNI_ENDPOINT="+l.Endpoint(), "OMNI_SERVICE_ACCOUNT_KEY="+l.Omni().ProviderKey())
	cmd.Env = append(cmd.Env, environment...)
	cmd.Stderr = t.Output()

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	return cmd, socket
}

func end(t *testing.T, cmd *exec.Cmd) {
	t.Helper()

	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}

	_ = cmd.Wait() // that it was killed is what it says
}

// TestRefusedKey: a key that Omni does not know ends serve at once, with nothing
// bound and the exit code that says so.
func TestRefusedKey(t *testing.T) {
	l := start(t, lab.Config{Machines: 1, Off: true})

	for who, key := range map[string]string{"a stranger": strangersKey(t), "a person": l.Omni().OperatorKey()} {
		var stderr strings.Builder

		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}

		dir := t.TempDir()

		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()

		cmd := exec.CommandContext(ctx, exe, "serve", "--api-advertise-address=127.0.0.1", "--api-port=0", "--dhcp-port=0",
			"--pxe-port=0", "--tftp-port=0", "--state-dir="+dir, "--socket="+filepath.Join(dir, "s"))
		cmd.Env = append(os.Environ(), "OMNI_ENDPOINT="+l.Endpoint(), "OMNI_SERVICE_ACCOUNT_KEY="+key)
		cmd.Stderr = &stderr

		if _ = cmd.Run(); cmd.ProcessState.ExitCode() != 4 { // the code is what counts
			t.Errorf("with the key of %s: exit %d, want 4:\n%s", who, cmd.ProcessState.ExitCode(), stderr.String())
		}

		if strings.Contains(stderr.String(), "start component") || !strings.Contains(stderr.String(), "hint:") {
			t.Errorf("with the key of %s something was started, or there is no hint:\n%s", who, stderr.String())
		}
	}
}

// strangersKey is the key of another Omni's provider.
func strangersKey(t *testing.T) string {
	t.Helper()

	other, err := omnisim.Start(omnisim.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}

	defer other.Close() //nolint:errcheck // only its key is wanted

	return other.ProviderKey()
}

// TestUnregistered: a provider that is deleted in Omni stops acting, says why,
// goes on asking, and acts again when it is back.
func TestUnregistered(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, Machines: 1, MinRebootInterval: time.Second})
	client := localapi.Dial(l.SocketPath())

	defer client.Close()

	reason := func() string {
		h, err := client.Health(t.Context())
		if err != nil {
			return err.Error()
		}

		return h.ActingReason
	}

	eventually(t, l, "acting", func() bool { return reason() == "" })

	if err := l.Omni().Unregister(); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "the reason is shown", func() bool { return strings.Contains(reason(), `does not know an infra provider "bare-metal"`) })

	if err := l.Omni().Register(); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "acting again", func() bool { return reason() == "" })
}

// TestTerminated: serve ends in order within its 5 s, also while an agent's
// tunnel is open.
func TestTerminated(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, Machines: 1})
	m := l.Machines()[0]

	eventually(t, l, "its agent is there", func() bool { return view(t, l, m).Stage == "agent" })

	begun := time.Now()
	if err := l.StopServe(); err != nil {
		t.Fatal(err)
	}

	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s to end", took)
	}
}

// TestTLS is the story's first half with agents that call over TLS, trust the CA
// they are told of, and get their config inline; a restarted serve has the same CA.
func TestTLS(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second, Machines: 2, ServeFlags: []string{"--tls-enabled", "--tls-api-port=" + freePort(t)}})

	for _, m := range l.Machines() {
		eventually(t, l, m.Name+"'s agent calls over TLS", func() bool { return view(t, l, m).Stage == "agent" })
	}

	l.KillServe()

	if err := l.StartServe(t.Context()); err != nil {
		t.Fatal(err)
	}

	for _, m := range l.Machines() {
		eventually(t, l, m.Name+"'s agent calls again, with the CA that it was told of", func() bool { return view(t, l, m).Stage == "agent" })
	}

	s := script(t, l, l.Machines()[0], "")
	if !strings.Contains(s, "talos.config.inline=") || !strings.Contains(s, "metal.provider.address=https://") || strings.Contains(s, "/config?u=") {
		t.Errorf("with TLS the config travels inline:\n%.300s", s)
	}

	acceptAll(t, l)

	for _, m := range l.Machines() {
		settled(t, l, m)
	}

	pinned(t, l, l.Machines()[0])
}

// pinned waits until serve has kept the certificate of a Redfish BMC.
func pinned(t *testing.T, l *lab.Lab, m *lab.Machine) {
	t.Helper()

	path := filepath.Join(filepath.Dir(l.SocketPath()), "state", pins.File)
	eventually(t, l, m.Name+"'s certificate is pinned", func() bool {
		kept, err := os.ReadFile(path)

		return err == nil && strings.Contains(string(kept), m.UUID) && strings.Contains(string(kept), "sha256:")
	})
}

// freePort is a TCP port that is free now: a restarted serve needs the same.
func freePort(t *testing.T) string {
	t.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}

	return port
}

// TestPersonsPower: a person's power act through serve's socket is carried out
// where a machine may be touched, and refused with the reason where it may not.
func TestPersonsPower(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second, Machines: 2})
	pending, m := l.Machines()[0], l.Machines()[1]
	client := localapi.Dial(l.SocketPath())

	defer client.Close()

	eventually(t, l, "pending", func() bool { return known(l, pending) != nil && known(l, m) != nil })

	before := len(kinds(pending))

	err := client.Power(t.Context(), pending.UUID, localapi.PowerRequest{Action: "off"})
	if !errors.Is(err, localapi.ErrRefused) || !strings.Contains(err.Error(), "waits to be accepted") {
		t.Errorf("got %v, want a refusal with the reason", err)
	}

	if len(kinds(pending)) != before {
		t.Errorf("the BMC of a pending machine saw %v", kinds(pending)[before:])
	}

	if err := l.Omni().Accept(m.UUID); err != nil {
		t.Fatal(err)
	}

	settled(t, l, m)

	if err := l.Omni().Allocate(m.UUID, "prod", "1.13.5", nil); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "running", func() bool { return view(t, l, m).Status == localapi.StatusRunning })

	if v := view(t, l, m); v.Cluster != "prod" || v.Role != localapi.RoleWorker {
		t.Errorf("it is shown as %q in cluster %q", v.Role, v.Cluster)
	}

	if err := client.Power(t.Context(), m.UUID, localapi.PowerRequest{Action: "cycle"}); !errors.Is(err, localapi.ErrInCluster) {
		t.Errorf("got %v, want ErrInCluster", err)
	}

	if err := client.Power(t.Context(), m.UUID, localapi.PowerRequest{Action: "cycle", InCluster: true}); err != nil {
		t.Fatal(err)
	}

	if n := count(m, bmcsim.ActCycle); n != 1 {
		t.Errorf("%d cycles, want the one that was ordered: %v", n, kinds(m))
	}
}

// TestServiceManager: a service manager is told when everything is bound, that we
// live, and that we stop.
func TestServiceManager(t *testing.T) {
	l := start(t, lab.Config{Machines: 1, Off: true})
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "n"), Net: "unixgram"})

	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close() //nolint:errcheck // read already

	cmd, _ := secondServeWith(t, l, []string{"NOTIFY_SOCKET=" + manager.LocalAddr().String(), "WATCHDOG_USEC=300000"})
	defer end(t, cmd)

	buffer := make([]byte, 256)

	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if err := manager.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}

		n, err := manager.Read(buffer)
		if err != nil || string(buffer[:n]) != want {
			t.Fatalf("the service manager was told %q (%v), want %q", buffer[:n], err, want)
		}
	}
}

// twin is a second host that says it is somebody else's machine.
type twin struct{ called atomic.Int32 }

func (h *twin) IPMIAddress(context.Context) (string, int, error) {
	h.called.Add(1)

	return "127.0.0.1", 623, nil
}
func (h *twin) UserExists(context.Context, string) (bool, error) { return false, nil }
func (h *twin) SetUser(context.Context, string, string) error    { h.called.Add(1); return nil }
func (h *twin) Wipe(context.Context, bool) error                 { h.called.Add(1); return nil }
func (h *twin) Reboot(context.Context) error                     { h.called.Add(1); return nil }

// TestTwoAgents: while hosts at two addresses answer for one machine neither is
// asked anything; when one is gone the story goes on.
func TestTwoAgents(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second, Machines: 1})
	m := l.Machines()[0]

	eventually(t, l, "its agent is there", func() bool { return view(t, l, m).Stage == "agent" })

	var base string

	for _, v := range l.Environment("") {
		if v.Name == "BMCTL_LAB_HTTP" {
			base = v.Value
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	other, done := &twin{}, make(chan struct{})

	go func() {
		defer close(done)

		a := &agentsim.Agent{
			MachineID: m.UUID, Hardware: other, LocalAddr: netip.MustParseAddr("127.79.0.1"),
			Args: agentsim.Args{ConfigURL: "http://" + base + "/config", ProviderAddress: base},
		}
		_ = a.Run(ctx) // until it is cancelled
	}()

	eventually(t, l, "held", func() bool { return strings.Contains(view(t, l, m).Held, "127.79.0.1") })

	if err := l.Omni().Accept(m.UUID); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "accepted and held", func() bool {
		v := view(t, l, m)

		return v.Accepted && v.Status == localapi.StatusError && strings.Contains(v.Reason, "both answer")
	})

	if other.called.Load() != 0 || len(m.Wipes()) != 0 {
		t.Errorf("the twin was called %d times, the machine wiped %d times", other.called.Load(), len(m.Wipes()))
	}

	cancel()
	<-done
	settled(t, l, m)

	if other.called.Load() != 0 {
		t.Errorf("the twin was called %d times", other.called.Load())
	}
}
