package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bmctl/bmctl/serve/lab"
)

// TestRush measures how long 1,000 machines wait for their boot scripts that all
// ask in one moment, as when a datacentre's power comes back. Each comes from an
// address that serve has not seen it at, which is on the disk before it is
// answered. Omni's stand-in and the machines share the cores with serve.
func TestRush(t *testing.T) {
	const (
		machines = 1000
		rounds   = 7
	)

	l := fleet(t, machines)
	health := served(t, l)

	within(t, l, 10*time.Minute, "all are ready and polled", allPolled(l))

	var middle, slow, busy []float64

	for round := range rounds {
		before := cpuTime(t, health.PID)
		waits := rush(t, l, health.HTTP, byte(128+round))
		middle = append(middle, quantile(waits, 0.5))
		slow = append(slow, quantile(waits, 0.99))
		busy = append(busy, float64(cpuTime(t, health.PID)-before)/float64(time.Millisecond))
	}

	fmt.Printf("| %d | %.0f ms (%s) | %.0f ms (%s) | %.0f ms | %s |\n", machines,
		median(middle), spread(middle, "%.0f"), median(slow), spread(slow, "%.0f"), median(busy), loadAverage(t))
}

// rush has all machines ask at once, from addresses in 127.block.0.0/16, and
// returns how long each waited, in milliseconds.
func rush(t *testing.T, l *lab.Lab, at string, block byte) []float64 {
	t.Helper()

	var (
		waits = make([]float64, len(l.Machines()))
		fails = make([]error, len(waits))
		begin = make(chan struct{})
		wg    sync.WaitGroup
	)

	for i, m := range l.Machines() {
		from := netip.AddrFrom4([4]byte{127, block, byte(i >> 8), byte(i)})

		wg.Go(func() {
			<-begin

			asked := time.Now()
			fails[i] = askForScript(t.Context(), at, m, from)
			waits[i] = float64(time.Since(asked)) / float64(time.Millisecond)
		})
	}

	close(begin)
	wg.Wait()

	for i, err := range fails {
		if err != nil {
			t.Fatalf("%s: %v", l.Machines()[i].Name, err)
		}
	}

	return waits
}

// askForScript gets boot.ipxe as iPXE on the machine does, from the address.
func askForScript(ctx context.Context, at string, m *lab.Machine, from netip.Addr) (err error) {
	dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: 10 * time.Second}

	conn, err := dialer.DialContext(ctx, "tcp", at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()

	query := url.Values{"uuid": {m.UUID}, "mac": {strings.ReplaceAll(m.MAC, ":", "-")}, "serial": {m.Serial}, "arch": {"x86_64"}}
	request := "GET /ipxe/boot.ipxe?" + query.Encode() + " HTTP/1.1\r\nHost: " + at + "\r\nConnection: close\r\n\r\n"

	if err := errors.Join(conn.SetDeadline(time.Now().Add(10*time.Second)), write(conn, request)); err != nil {
		return err
	}

	answer, err := io.ReadAll(conn)
	if err == nil && !strings.Contains(string(answer), "/metal-amd64") {
		return fmt.Errorf("no Talos in the answer:\n%s", answer)
	}

	return err
}

func write(to io.Writer, text string) error {
	_, err := io.WriteString(to, text)

	return err
}
