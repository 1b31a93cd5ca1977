//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	bmcNet       = "10.77.1.0/24"
	farBenchAddr = "10.78.0.3"
)

// site is where a test takes place: a directory for every file and log, and the
// network around the machines.
type site struct {
	dir        string
	machinesAt string // the host on which QEMU runs
	machines   []*machine
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

	s := &site{dir: dir}

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
	ip(t, here, `link set lo up`)
	addBridge(t, here, providerAddr)
	ip(t, here, `route add 255.255.255.255 dev br0`)
	addHost(t, "site", siteAddr, here)
	addHost(t, "bench", benchAddr, here)
	ip(t, "site", `addr add fd77::2/64 dev eth0 nodad`)
}

// addSubnet adds a subnet with a bench in it behind a router, on which QEMU then
// runs the machines.
func (s *site) addSubnet(t *testing.T) {
	t.Helper()

	s.machinesAt = "router"

	addHost(t, "router", "10.77.0.4", here)
	addBridge(t, "router", "10.78.0.1")
	addHost(t, "farbench", farBenchAddr, "router")
	run(t, "ip", "netns", "exec", "router", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	ip(t, "router", `route add `+bmcNet+` via `+providerAddr)
	ip(t, "farbench", `route add default via 10.78.0.1`)

	for _, host := range []string{here, "site"} {
		ip(t, host, `route add 10.78.0.0/24 via 10.77.0.4`)
	}
}

// addBridge gives a host a network of its own with it at an address.
func addBridge(t *testing.T, host, address string) {
	t.Helper()
	ip(t, host, `link add br0 type bridge forward_delay 0 stp_state 0
		addr add `+address+`/24 dev br0
		link set br0 up`)
}

// addHost makes a host, which is a network namespace, in the network of another.
func addHost(t *testing.T, host, address, network string) {
	t.Helper()
	ip(t, here, `netns add `+host)
	ip(t, network, `link add `+host+` type veth peer name eth0 netns `+host+`
		link set `+host+` master br0 up`)
	ip(t, host, `link set lo up
		addr add `+address+`/24 dev eth0
		link set eth0 up`)
}

// here is the host that the test runs on.
const here = ""

// ip runs ip(8) on a host, once for each line.
func ip(t *testing.T, host, commands string) {
	t.Helper()

	for line := range strings.Lines(commands) {
		args := strings.Fields(line)
		if host != here {
			args = slices.Insert(args, 0, "-n", host)
		}

		run(t, "ip", args...)
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
