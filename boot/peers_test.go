package boot_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/bmctl/bmctl/boot"
)

const (
	// peersEnv asks for the comparisons, which take minutes and a quiet machine.
	peersEnv = "BMCTL_BENCH_PEERS"
	// serveEnv makes this test binary a server alone: an address, and a folder.
	serveEnv = "BOOT_TEST_SERVE"

	peerRounds = 7
)

// serveAlone runs the server as a process of its own until its input ends, beside
// peers that are processes as well.
func serveAlone(place string) error {
	address, dir, _ := strings.Cut(place, " ")
	addr := netip.MustParseAddr(address)
	config := boot.Config{Decider: &decider{}, Advertise: addr, ListenAddr: addr, Interface: address, IPXEDir: dir, HTTPPort: 50042}

	if addr.IsLoopback() {
		config.DisableDHCPProxy = true
	} else { // a namespace of our own: the ports are free there
		config.DHCPPort, config.PXEPort, config.TFTPPort = 67, 4011, 69
	}

	server, err := boot.New(config)
	if err != nil {
		return err
	}

	if err := server.Bind(); err != nil {
		return err
	}

	fmt.Println(server.Addrs().TFTP)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()

	if err := server.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}

	return nil
}

func wantPeers(t *testing.T, programs ...string) {
	t.Helper()

	if os.Getenv(peersEnv) == "" {
		t.Skip("a comparison for a quiet machine: set " + peersEnv + "=1")
	}

	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: make bench-peers installs it", err)
		}
	}
}

// startServer runs a server until the test ends, and returns what it prints.
func startServer(t *testing.T, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()

	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})

	return bufio.NewReader(stdout)
}

// startOurs runs serveAlone, below the words of before, and returns where TFTP is.
func startOurs(t *testing.T, place string, before ...string) netip.AddrPort {
	t.Helper()

	words := append(before, os.Args[0])
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(os.Environ(), serveEnv+"="+place)
	cmd.Stderr = os.Stderr

	line, err := startServer(t, cmd).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}

	return netip.MustParseAddrPort(strings.TrimSpace(line))
}

// spread is the median of the values, and the smallest and greatest of them.
func spread(values []float64) (median, least, most float64) {
	sorted := slices.Sorted(slices.Values(values))

	return sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1]
}
