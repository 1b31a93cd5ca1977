//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
)

// The addresses of the site, which doc.go has a picture of.
const (
	providerAddr = "10.77.0.1"
	siteAddr     = "10.77.0.2"
	benchAddr    = "10.77.0.3"
)

// site is where a test takes place: a directory for every file and log, and the
// network around the machines.
type site struct {
	dir      string
	bridge   string // of the machines
	machines []*machine
}

// newSite lays the network and starts the site's DHCP server, with the options
// of dnsmasq that are special about this site. The directory is removed at the
// end, or kept and named when the test failed.
func newSite(t *testing.T, dhcpOptions ...string) *site {
	t.Helper()

	dir, err := os.MkdirTemp("", "bmctl-e2e-")
	if err != nil {
		t.Fatal(err)
	}

	s := &site{dir: dir, bridge: "br0"}

	t.Cleanup(func() {
		if t.Failed() {
			s.explain(t)

			return
		}

		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})

	layNetwork(t)
	// A plain server: nothing in it speaks of booting, unless the test says so.
	// Router advertisements, because every DHCP of iPXE otherwise waits 4 to 16 s
	// for IPv6.
	s.start(t, "dnsmasq", append(strings.Fields(`ip netns exec site dnsmasq --keep-in-foreground --conf-file=/dev/null
		--interface=eth0 --bind-interfaces --port=0 --dhcp-authoritative --no-ping --user=root
		--dhcp-range=10.77.0.100,10.77.0.200,255.255.255.0,10m --dhcp-option=3 --dhcp-option=6
		--enable-ra --dhcp-range=fd77::,ra-only,64
		--log-dhcp --log-facility=- --pid-file= --dhcp-leasefile=`+s.path("leases")), dhcpOptions...)...)
	s.start(t, "dumpcap", "dumpcap", "-q", "-i", "br0", "-s", "400", "-w", s.path("network.pcapng"))

	return s
}

// layNetwork makes what the picture in doc.go shows. It ends with the test's
// namespaces.
func layNetwork(t *testing.T) {
	t.Helper()
	ip(t, `link set lo up
		link add br0 type bridge forward_delay 0 stp_state 0
		addr add `+providerAddr+`/24 dev br0
		link set br0 up
		route add 255.255.255.255 dev br0`)
	connect(t, "site", "eth0", "br0", siteAddr+"/24")
	connect(t, "bench", "eth0", "br0", benchAddr+"/24")
	ip(t, `-n site addr add fd77::2/64 dev eth0 nodad`)
}

// connect makes a host, if there is none of that name, which is a network
// namespace, and connects it to a bridge by an interface with an address.
func connect(t *testing.T, host, device, bridge, address string) {
	t.Helper()

	if _, err := os.Stat("/run/netns/" + host); err != nil {
		ip(t, `netns add `+host+`
			-n `+host+` link set lo up`)
	}

	port := host + "-" + device
	ip(t, `link add `+port+` type veth peer name `+device+` netns `+host+`
		link set `+port+` master `+bridge+` up
		-n `+host+` addr add `+address+` dev `+device+`
		-n `+host+` link set `+device+` up`)
}

// ip runs ip(8), once for each line.
func ip(t *testing.T, commands string) {
	t.Helper()

	for line := range strings.Lines(commands) {
		run(t, "ip", strings.Fields(line)...)
	}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// explain names what was kept and shows the end of each log.
func (s *site) explain(t *testing.T) {
	t.Helper()
	t.Logf("kept in %s: the logs, a capture (network.pcapng), and of each machine its serial console (serial.log) and power acts (acts)", s.dir)

	logs, err := filepath.Glob(s.path("*.log"))
	if err != nil {
		t.Fatal(err)
	}

	for _, m := range s.machines {
		logs = append(logs, m.path("acts"), m.path("serial.log"))
	}

	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Logf("%v", err)

			continue
		}

		lines := strings.Split(strings.TrimSpace(ansi.Strip(string(text))), "\n")
		t.Logf("the end of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
}

// start runs a program in the background until the end of the test, its output
// in <name>.log. It must not end before.
func (s *site) start(t *testing.T, name string, command ...string) {
	t.Helper()
	start(t, s.dir, name, exec.Command(command[0], command[1:]...))
}

func start(t *testing.T, dir, name string, process *exec.Cmd) {
	t.Helper()

	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}

	process.Dir, process.Stdout, process.Stderr = dir, log, log

	if err := process.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}

	ended := make(chan error, 1)

	go func() { ended <- process.Wait() }()

	t.Cleanup(func() {
		select {
		case err := <-ended:
			t.Errorf("%s ended before the test: %v; see %s", name, err, log.Name())
		default:
			process.Process.Signal(syscall.SIGTERM) //nolint:errcheck // the namespace ends it otherwise

			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Errorf("%s did not end within 10 s of SIGTERM", name)
			}
		}

		log.Close() //nolint:errcheck // the process wrote it
	})
}

// run runs a program to its end and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()

	text, err := output(exec.Command(name, args...)) // also in cleanups, where t's context has ended
	if err != nil {
		t.Fatal(err)
	}

	return text
}

func output(command *exec.Cmd) (string, error) {
	text, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(command.Args, " "), err, strings.TrimSpace(string(text)))
	}

	return strings.TrimSpace(string(text)), nil
}

// eventually asks until the answer is no error, and fails with the last one.
func eventually(t *testing.T, what string, patience time.Duration, ask func(context.Context) error) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	begun := time.Now()

	for {
		err := ask(ctx)
		if err == nil {
			t.Logf("%s after %s", what, time.Since(begun).Round(100*time.Millisecond))

			return
		}

		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s: %v", patience, what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
