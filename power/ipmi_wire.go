package power

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// RMCP+ session header (IPMI 2.0, table 13-8): four bytes of RMCP, then these.
const (
	offsetAuthType      = 4
	offsetPayloadType   = 5
	offsetPayloadLength = 14
	sessionHeaderSize   = 16
	payloadTypeMask     = 0x3f
	openSessionShort    = 8 // an Open Session response that refuses
)

// ipmiConn is the UDP socket under go-ipmi's client. The client takes the first
// datagram during session set-up for the answer, whatever it is; here only
// what answers the last request gets through, so that a doubled or late reply
// does no harm.
type ipmiConn struct {
	net.Conn

	mu          sync.Mutex
	asked       byte
	interrupted bool
}

// dialIPMI connects within the context. go-ipmi itself joins address and port
// without the brackets of IPv6.
func dialIPMI(ctx context.Context, address string) (*ipmiConn, error) {
	conn, err := dialAudible(ctx, "udp", address)
	if err != nil {
		return nil, err
	}

	return &ipmiConn{Conn: conn}, nil
}

// Dial lets an ipmiConn stand in for go-ipmi's UDP proxy: it is connected already.
func (c *ipmiConn) Dial(string, string) (net.Conn, error) { return c, nil }

// Write sends a datagram and remembers what it asks.
func (c *ipmiConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if len(p) > offsetPayloadType {
		c.asked = p[offsetPayloadType] & payloadTypeMask
	}
	c.mu.Unlock()

	return c.Conn.Write(p)
}

// Read gives the next datagram that answers.
func (c *ipmiConn) Read(p []byte) (int, error) {
	for {
		asked, interrupted := c.awaiting()
		if interrupted {
			return 0, os.ErrDeadlineExceeded
		}

		n, err := c.Conn.Read(p)
		if err != nil {
			return n, err
		}

		if answers(p[:n], asked) {
			return lengthen(p, n), nil
		}
	}
}

func (c *ipmiConn) awaiting() (asked byte, interrupted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.asked, c.interrupted
}

// interrupt ends a read that nobody waits for any more; resume allows new ones.
func (c *ipmiConn) interrupt() {
	c.mu.Lock()
	c.interrupted = true
	c.mu.Unlock()

	// It fails only on a closed socket, where no read waits either.
	_ = c.SetReadDeadline(time.Unix(1, 0))
}

func (c *ipmiConn) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.interrupted = false
}

// answers tells whether the datagram is the kind of answer that the payload
// type asks for: the session set-up's answers are the request's type plus one.
func answers(p []byte, asked byte) bool {
	if len(p) < sessionHeaderSize || p[offsetAuthType] != byte(types.AuthTypeRMCPPlus) {
		return false
	}

	got := p[offsetPayloadType] & payloadTypeMask

	switch types.PayloadType(asked) {
	case types.PayloadTypeRmcpOpenSessionRequest, types.PayloadTypeRAKPMessage1, types.PayloadTypeRAKPMessage3:
		return got == asked+1
	default:
		return got == asked
	}
}

// lengthen fills a refused Open Session response up to the eight bytes that the
// specification gives it and go-ipmi insists on: OpenIPMI's simulator sends two.
func lengthen(p []byte, n int) int {
	if p[offsetPayloadType]&payloadTypeMask != byte(types.PayloadTypeRmcpOpenSessionResponse) ||
		n >= sessionHeaderSize+openSessionShort || len(p) < sessionHeaderSize+openSessionShort {
		return n
	}

	clear(p[n : sessionHeaderSize+openSessionShort])
	binary.LittleEndian.PutUint16(p[offsetPayloadLength:], openSessionShort)

	return sessionHeaderSize + openSessionShort
}
