package bmcsim

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/bmctl/bmctl/power"
)

// faultyConn is the UDP socket of the IPMI face with the faults of its network
// on it. It also drops repeated session sequence numbers, as section 6.12.13 of
// IPMI 2.0 asks and go-ipmi's server does not: without that, a datagram that
// the network doubled would power-cycle twice.
type faultyConn struct {
	*net.UDPConn
	faults *faults
	slowBy time.Duration

	mu   sync.Mutex
	seen map[[2]uint32]struct{}
	rng  *rand.Rand
}

func newFaultyConn(conn *net.UDPConn, fs *faults, slowBy time.Duration) *faultyConn {
	return &faultyConn{UDPConn: conn, faults: fs, slowBy: slowBy, seen: map[[2]uint32]struct{}{}, rng: rand.New(rand.NewPCG(1, 2))}
}

func (c *faultyConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, addr, err := c.UDPConn.ReadFrom(p)
		if err != nil {
			return n, addr, err
		}

		if !c.faults.on(power.ProtocolIPMI, FaultSilent) && !c.lost() && !c.repeated(p[:n]) && !c.ignored(p[:n]) {
			return n, addr, nil
		}
	}
}

func (c *faultyConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	if c.faults.on(power.ProtocolIPMI, FaultSlow) {
		time.Sleep(c.slowBy)
	}

	if c.faults.on(power.ProtocolIPMI, FaultSilent) || c.lost() {
		return len(p), nil
	}

	if _, err := c.UDPConn.WriteTo(c.falsified(p), addr); err != nil {
		return 0, err
	}

	return len(p), nil
}

// lost tells whether the fault "drop" swallows this datagram. Its losses are
// the same in every run.
func (c *faultyConn) lost() bool {
	percent := c.faults.value(power.ProtocolIPMI, FaultDrop)

	c.mu.Lock()
	defer c.mu.Unlock()

	return c.rng.IntN(100) < percent
}

// falsified is an Open Session response (IPMI 2.0, table 13-10) as the faults
// have it; every other datagram is left as it is.
func (c *faultyConn) falsified(p []byte) []byte {
	const (
		header, typeAt, lengthAt, status, algorithm = 16, 5, 14, 17, 32
		noResources, sha1, shortRefusal             = 0x01, 0x01, 2
	)

	if len(p) <= status || p[4] != byte(types.AuthTypeRMCPPlus) || p[typeAt]&0x3f != byte(types.PayloadTypeRmcpOpenSessionResponse) {
		return p
	}

	p = append([]byte(nil), p...)

	switch {
	case c.faults.on(power.ProtocolIPMI, FaultSessionLimit):
		p[status] = noResources
	case c.faults.on(power.ProtocolIPMI, FaultWrongAlgorithm) && len(p) > algorithm:
		p[algorithm] = sha1
	}

	if c.faults.on(power.ProtocolIPMI, FaultShortRefusal) && p[status] != 0 {
		p = p[:header+shortRefusal]
		binary.LittleEndian.PutUint16(p[lengthAt:], shortRefusal)
	}

	return p
}

// ignored tells whether the datagram is asked before a session and the fault
// "no-suites" leaves it unanswered.
func (c *faultyConn) ignored(p []byte) bool {
	const command, suites = 19, 0x54

	return c.faults.on(power.ProtocolIPMI, FaultNoSuites) && len(p) > command && p[4] == 0 && p[command] == suites
}

// repeated tells whether the datagram's session and sequence number were here
// before. RMCP+ header: IPMI 2.0, table 13-8.
func (c *faultyConn) repeated(p []byte) bool {
	const header = 16
	if len(p) < header || p[4] != byte(types.AuthTypeRMCPPlus) {
		return false
	}

	key := [2]uint32{binary.LittleEndian.Uint32(p[6:10]), binary.LittleEndian.Uint32(p[10:14])}
	if key[0] == 0 {
		return false
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	_, again := c.seen[key]
	c.seen[key] = struct{}{}

	return again
}

// faultyListener is the TCP socket of the Redfish face. Silence swallows what
// arrives, also on connections that stand.
type faultyListener struct {
	net.Listener
	faults *faults
}

func (l faultyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}

	return &swallowingConn{Conn: conn, faults: l.faults}, nil
}

type swallowingConn struct {
	net.Conn
	faults *faults
}

func (c *swallowingConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.faults.on(power.ProtocolRedfish, FaultSilent) {
			return n, err
		}
	}
}
