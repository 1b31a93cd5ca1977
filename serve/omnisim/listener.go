package omnisim

import (
	"net"
	"sync"
)

// gate is a listener whose connections can be refused, broken or frozen.
type gate struct {
	net.Listener

	mu    sync.Mutex
	away  bool
	open  chan struct{} // closed while data may flow
	conns map[*gatedConn]struct{}
}

func newGate(listener net.Listener) *gate {
	open := make(chan struct{})
	close(open)

	return &gate{Listener: listener, open: open, conns: map[*gatedConn]struct{}{}}
}

// Accept returns the next connection, and closes those that arrive while away.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}

		if gated := g.admit(conn); gated != nil {
			return gated, nil
		}

		// Whoever dials an absent server gets no answer: nothing to report.
		_ = conn.Close()
	}
}

func (g *gate) admit(conn net.Conn) net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()

	if g.away {
		return nil
	}

	gated := &gatedConn{Conn: conn, gate: g, closed: make(chan struct{})}
	g.conns[gated] = struct{}{}

	return gated
}

func (g *gate) setAway(away bool) {
	g.mu.Lock()
	g.away = away

	var broken []*gatedConn

	if away {
		for conn := range g.conns {
			broken = append(broken, conn)
		}
	}
	g.mu.Unlock()

	for _, conn := range broken {
		_ = conn.Close() // broken on purpose
	}
}

func (g *gate) setSilent(silent bool) {
	g.mu.Lock()
	defer g.mu.Unlock()

	select {
	case <-g.open:
		if silent {
			g.open = make(chan struct{})
		}
	default:
		if !silent {
			close(g.open)
		}
	}
}

func (g *gate) flow() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()

	return g.open
}

// gatedConn passes data on only while its gate is open.
type gatedConn struct {
	net.Conn

	gate   *gate
	once   sync.Once
	closed chan struct{}
}

func (c *gatedConn) wait() error {
	select {
	case <-c.gate.flow():
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

// Read waits after reading, so that what came while silent is held back.
func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if waitErr := c.wait(); waitErr != nil {
		return 0, waitErr
	}

	return n, err
}

func (c *gatedConn) Write(b []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}

	return c.Conn.Write(b)
}

func (c *gatedConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.gate.mu.Lock()
		delete(c.gate.conns, c)
		c.gate.mu.Unlock()
	})

	return c.Conn.Close()
}
