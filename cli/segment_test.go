package cli_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// segment is an Ethernet of its own, in network namespaces: a bridge with one
// client, and as many servers as are asked for.
type segment struct {
	t      *testing.T
	prefix string
	wire   string // the namespace of the bridge
	client string
	hosts  int
}

var segments atomic.Int64

// newSegment makes the segment, or skips the test where that is not possible; in
// continuous integration it must be.
func newSegment(t *testing.T) *segment {
	t.Helper()

	if os.Getuid() != 0 && os.Getenv("CI") != "true" {
		t.Skip("skipped: network namespaces need root (CI=true makes this a failure)")
	}

	s := &segment{t: t, prefix: fmt.Sprintf("pxe%d-%d-", os.Getpid(), segments.Add(1))}
	s.wire = s.namespace("wire")
	s.ip("-n", s.wire, "link", "add", "br0", "type", "bridge")
	s.ip("-n", s.wire, "link", "set", "br0", "up")
	s.client = s.host("10.77.0.99")

	return s
}

// host adds a namespace with one interface, net0, of these addresses.
func (s *segment) host(addrs ...string) string {
	s.t.Helper()

	s.hosts++
	port := fmt.Sprintf("port%d", s.hosts)
	name := s.namespace(port)
	s.ip("-n", s.wire, "link", "add", port, "type", "veth", "peer", "name", "net0", "netns", name)
	s.ip("-n", s.wire, "link", "set", port, "master", "br0", "up")

	for _, addr := range addrs {
		s.ip("-n", name, "addr", "add", addr+"/24", "dev", "net0")
	}

	s.ip("-n", name, "link", "set", "lo", "up")
	s.ip("-n", name, "link", "set", "net0", "up")

	return name
}

func (s *segment) namespace(suffix string) string {
	s.t.Helper()

	name := s.prefix + suffix
	s.ip("netns", "add", name)
	s.t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil { //nolint:noctx // after the test's context
			s.t.Errorf("ip netns delete %s: %v: %s", name, err, out)
		}
	})

	return name
}

func (s *segment) ip(args ...string) {
	s.t.Helper()

	if out, err := exec.CommandContext(s.t.Context(), "ip", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// inside opens something in a namespace; sockets stay where they were opened.
func inside[T any](s *segment, namespace string, open func() (T, error)) T {
	s.t.Helper()

	var (
		opened T
		err    error
		done   = make(chan struct{})
	)

	go func() {
		defer close(done)

		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine

		var file *os.File
		if file, err = os.Open(filepath.Join("/run/netns", namespace)); err != nil {
			return
		}

		defer file.Close() //nolint:errcheck // read only

		if err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err == nil {
			opened, err = open()
		}
	}()
	<-done

	if err != nil {
		s.t.Fatal(err)
	}

	return opened
}

// udp opens a socket of a server on every address of its namespace.
func (s *segment) udp(namespace string, port int) *net.UDPConn {
	s.t.Helper()

	conn := inside(s, namespace, func() (*net.UDPConn, error) { return net.ListenUDP("udp4", &net.UDPAddr{Port: port}) })
	s.t.Cleanup(func() { conn.Close() }) //nolint:errcheck // the end of it

	return conn
}

// dnsmasq runs one in a namespace and waits until it serves.
func (s *segment) dnsmasq(namespace string, args ...string) {
	s.t.Helper()

	args = append([]string{
		"netns", "exec", namespace, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--log-facility=-", "--log-dhcp",
		"--dhcp-leasefile=" + filepath.Join(s.t.TempDir(), "leases"), "--pid-file=" + filepath.Join(s.t.TempDir(), "pid"),
	}, args...)
	cmd := exec.CommandContext(s.t.Context(), "ip", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }

	stderr, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}

	log := newLog(stderr)
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-log.done
		_ = cmd.Wait() // it ends by the signal

		if s.t.Failed() {
			s.t.Logf("dnsmasq %s:\n%s", strings.Join(args[4:], " "), log.text.String())
		}
	})

	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()

	if !log.await(ctx, "DHCP") {
		s.t.Fatal("dnsmasq does not start")
	}
}
