package bmctest

import (
	"bytes"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
)

// Network is what happens to datagrams on their way to a controller and back.
// The zero value is a network that loses nothing.
type Network struct {
	// Delay is how long each datagram travels.
	Delay time.Duration
	// Loss is the part of all datagrams that is lost, from 0 to 1.
	Loss float64
	// Duplicate doubles each answer, and each request of a session that stands.
	// (A doubled RAKP message 1 makes controllers choose a second random number,
	// which no client survives.)
	Duplicate bool
	// Reorder is the part of the datagrams that is overtaken by the next ones:
	// they travel three times as long.
	Reorder float64
	// Seed makes losses and reordering repeatable.
	Seed uint64
}

// Link is a Network between a client and the IPMI face of a controller.
type Link struct {
	network Network
	server  *net.UDPAddr
	front   *net.UDPConn
	asked   atomic.Int64
	muted   atomic.Bool
	wg      sync.WaitGroup
	stop    chan struct{}

	mu    sync.Mutex
	rng   *rand.Rand
	backs map[string]*net.UDPConn // by the client's address
}

// Through puts the network before the target's IPMI port and returns the target
// that goes through it. The link ends with the test.
func Through(t *testing.T, network Network, target power.Target) (*Link, power.Target) {
	t.Helper()

	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}

	l := &Link{
		network: network,
		server:  &net.UDPAddr{IP: net.ParseIP(target.Address), Port: target.Port},
		front:   front,
		stop:    make(chan struct{}),
		rng:     rand.New(rand.NewPCG(network.Seed, 0)),
		backs:   map[string]*net.UDPConn{},
	}

	l.wg.Go(l.forward)
	t.Cleanup(l.close)

	target.Address, target.Port = "127.0.0.1", front.LocalAddr().(*net.UDPAddr).Port

	return l, target
}

// Asked is the number of different datagrams that the client has sent: one that
// is sent again, as on a busy machine, counts once.
func (l *Link) Asked() int { return int(l.asked.Load()) }

// Mute loses every answer from now on, or no more of them.
func (l *Link) Mute(on bool) { l.muted.Store(on) }

func (l *Link) close() {
	close(l.stop)
	l.front.Close()

	l.mu.Lock()
	for _, back := range l.backs {
		back.Close()
	}
	l.mu.Unlock()

	l.wg.Wait()
}

// forward carries what the clients send.
func (l *Link) forward() {
	buf := make([]byte, 4096)

	var last []byte

	for {
		n, client, err := l.front.ReadFromUDP(buf)
		if err != nil {
			return
		}

		if !bytes.Equal(last, buf[:n]) {
			l.asked.Add(1)
		}

		last = append(last[:0], buf[:n]...)

		if back := l.back(client); back != nil {
			l.carry(append([]byte(nil), buf[:n]...), false, func(p []byte) { _, _ = back.Write(p) })
		}
	}
}

// back is the socket to the server for a client.
func (l *Link) back(client *net.UDPAddr) *net.UDPConn {
	l.mu.Lock()
	defer l.mu.Unlock()

	if back := l.backs[client.String()]; back != nil {
		return back
	}

	back, err := net.DialUDP("udp", nil, l.server)
	if err != nil {
		return nil
	}

	l.backs[client.String()] = back
	l.wg.Go(func() {
		buf := make([]byte, 4096)

		for {
			n, err := back.Read(buf)
			if err != nil {
				return
			}

			l.carry(append([]byte(nil), buf[:n]...), true, func(p []byte) { _, _ = l.front.WriteToUDP(p, client) })
		}
	})

	return back
}

// carry sends the datagram on, as the network has it.
func (l *Link) carry(p []byte, fromServer bool, send func([]byte)) {
	lost, travel := l.fate()
	if lost {
		return
	}

	if travel == 0 {
		l.deliver(p, fromServer, send)

		return
	}

	l.wg.Go(func() {
		timer := time.NewTimer(travel)
		defer timer.Stop()

		select {
		case <-timer.C:
			l.deliver(p, fromServer, send)
		case <-l.stop:
		}
	})
}

func (l *Link) deliver(p []byte, fromServer bool, send func([]byte)) {
	if fromServer && l.muted.Load() {
		return
	}

	send(p)

	if l.network.Duplicate && (fromServer || inSession(p)) {
		send(p)
	}
}

// inSession tells whether the datagram has a session id (IPMI 2.0, table 13-8).
func inSession(p []byte) bool {
	return len(p) >= 16 && p[4] == 0x06 && [4]byte(p[6:10]) != [4]byte{}
}

func (l *Link) fate() (lost bool, travel time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()

	lost, travel = l.rng.Float64() < l.network.Loss, l.network.Delay
	if l.rng.Float64() < l.network.Reorder {
		travel = 3*travel + 5*time.Millisecond
	}

	return lost, travel
}
