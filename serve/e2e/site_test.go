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
)

// The addresses of the site; bmc.sh and qemu.sh know the BMC's too.
const (
	providerAddr = "10.77.0.1"
	bmcAddr      = "10.77.1.1"
)

// site is where it all happens: a directory for every file and log, and the
// network around the machine.
type site struct {
	dir string
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

// layNetwork makes what the picture in doc.go shows, and takes it away at the end.
func layNetwork(t *testing.T) {
	t.Helper()

	ip := func(commands string) {
		for line := range strings.Lines(commands) {
			if args := strings.Fields(line); len(args) > 0 {
				run(t, "ip", args...)
			}
		}
	}

	t.Cleanup(func() {
		ip(`link del site0
			netns del site
			link del tap0
			link del br0
			addr del ` + bmcAddr + `/32 dev lo`)
	})
	ip(`link set lo up
		addr add ` + bmcAddr + `/32 dev lo
		link add br0 type bridge forward_delay 0 stp_state 0
		addr add ` + providerAddr + `/24 dev br0
		link set br0 up
		tuntap add tap0 mode tap
		link set tap0 master br0 up
		netns add site
		link add site0 type veth peer name eth0 netns site
		link set site0 master br0 up
		-n site link set lo up
		-n site addr add 10.77.0.2/24 dev eth0
		-n site addr add fd77::2/64 dev eth0 nodad
		-n site link set eth0 up`)
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// explain names what was kept and shows the end of each log.
func (s *site) explain(t *testing.T) {
	t.Helper()
	t.Logf("kept in %s: the logs, the machine's serial console (serial.log), its power acts (acts) and a capture (network.pcapng)", s.dir)

	for _, name := range []string{"acts", "serial.log", "serve.log", "dnsmasq.log"} {
		text, err := os.ReadFile(s.path(name))
		if err != nil {
			t.Logf("%v", err)

			continue
		}

		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		t.Logf("the end of %s:\n%s", s.path(name), strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
}

// start runs a program in the background until the end of the test, its output
// in <name>.log. It must not end before.
func (s *site) start(t *testing.T, name string, command ...string) {
	t.Helper()
	s.startCommand(t, name, exec.Command(command[0], command[1:]...))
}

func (s *site) startCommand(t *testing.T, name string, process *exec.Cmd) {
	t.Helper()

	log, err := os.Create(s.path(name + ".log"))
	if err != nil {
		t.Fatal(err)
	}

	process.Dir, process.Stdout, process.Stderr = s.dir, log, log

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
