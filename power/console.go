package power

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/types"
)

// Pacing of a console.
const (
	// consoleResend is the pause before a packet that was not acknowledged is
	// sent again, and consoleTries how often that is done: as long as consoleDead.
	consoleResend = 250 * time.Millisecond
	consoleTries  = 100
	// consoleQuiet is how long nothing may be heard before the controller is
	// asked for a sign of life. It also keeps the session, which controllers end
	// after 60 s (IPMI 2.0, section 6.12.15).
	consoleQuiet = 10 * time.Second
	// consoleDead is how long nothing may be heard at all.
	consoleDead = 25 * time.Second
	// consoleBuffer is how much of the machine's output waits to be read. What
	// comes on top is not acknowledged, so that the controller sends it again.
	consoleBuffer = 1 << 20
)

// Serial over LAN's control bits (IPMI 2.0, table 15-2).
const (
	solNACK         = 0x40
	solDeactivating = 0x10
	solSequences    = 15 // 1 to 15; 0 carries an acknowledgement alone
)

// console is an active serial over LAN payload. go-ipmi's own stream asks the
// controller ten times a second whether there is something, sends one
// character a packet and ends with the first that is lost; here the controller
// sends when it has something, as section 15.3 has it.
type console struct {
	driver  *ipmi
	session *ipmiSession
	chars   int // most characters a packet
	blame   func(op string, err error) error

	ctx  context.Context // ends with the console
	stop context.CancelFunc
	done chan struct{} // the receiver has ended

	writing sync.Mutex // one writer at a time
	acks    chan types.SOLPayloadPacket

	mu       sync.Mutex
	arrived  sync.Cond // something in output, or err
	output   bytes.Buffer
	err      error // why nothing more comes
	sequence byte  // of our last packet
	theirs   byte  // sequence of the last packet that was taken,
	taken    int   // and how many of its characters
	heard    time.Time

	closing sync.Once
}

func newConsole(d *ipmi, chars int) *console {
	c := &console{
		driver: d, session: d.session, chars: chars, done: make(chan struct{}),
		acks: make(chan types.SOLPayloadPacket, 1),
	}
	c.arrived.L = &c.mu
	c.ctx, c.stop = context.WithCancel(context.Background())

	return c
}

// start begins to receive; blame names the target in errors.
func (c *console) start(blame func(op string, err error) error) {
	c.blame, c.heard = blame, time.Now()

	go c.receive()
}

// Read implements io.Reader.
func (c *console) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	for c.output.Len() == 0 {
		if c.err != nil {
			return 0, c.err
		}

		c.arrived.Wait()
	}

	n, _ := c.output.Read(p) // a buffer that is not empty has no error

	return n, nil
}

// Write implements io.Writer.
func (c *console) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()

	written := 0
	for written < len(p) {
		n, err := c.transmit(p[written:min(written+c.chars, len(p))])
		written += n

		if err != nil {
			return written, err
		}
	}

	return written, nil
}

// Close implements io.Closer.
func (c *console) Close() error {
	c.closing.Do(func() {
		c.fail(io.EOF)
		c.stop()
		c.session.conn.interrupt()
		<-c.done

		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()

		c.session.conn.resume()
		c.driver.deactivate(ctx)

		// IPMI's end of a session has no error.
		_ = c.driver.close(ctx)
	})

	return nil
}

// fail ends the console; only the first reason counts.
func (c *console) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.err == nil {
		c.err = err
	}

	c.stop()
	c.arrived.Broadcast()
}

func (c *console) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()

	if errors.Is(c.err, io.EOF) {
		return c.blame("write to the console", fail(ErrUnreachable, "the console is closed"))
	}

	return c.err
}

// transmit sends a packet until it is acknowledged, and tells how many of its
// characters the controller took.
func (c *console) transmit(p []byte) (int, error) {
	packet := types.SOLPayloadPacket{SequenceNumber: c.next(), CharacterData: p}

	for range consoleTries {
		if err := c.send(packet); err != nil {
			return 0, c.gone("write to the console", err)
		}

		resend := time.NewTimer(consoleResend)
		n, acknowledged, err := c.await(packet, resend.C)
		resend.Stop()

		if acknowledged || err != nil {
			return n, err
		}
	}

	return 0, c.gone("write to the console", nil)
}

// await waits for the packet's acknowledgement. A controller whose buffer is
// full takes a part, or says no: what is left is a new packet's.
func (c *console) await(packet types.SOLPayloadPacket, timeout <-chan time.Time) (n int, acknowledged bool, err error) {
	for {
		select {
		case ack := <-c.acks:
			if ack.AckedSequenceNumber != packet.SequenceNumber {
				continue // a late one
			}

			n = min(int(ack.AcceptedCharacterCount), len(packet.CharacterData))
			if n == 0 && ack.NACK {
				<-timeout
			}

			return n, true, nil
		case <-timeout:
			return 0, false, nil
		case <-c.ctx.Done():
			return 0, false, c.reason()
		}
	}
}

func (c *console) next() byte {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.sequence = c.sequence%solSequences + 1

	return c.sequence
}

// gone is the end of a console whose controller does not answer.
func (c *console) gone(op string, cause error) error {
	f := fail(ErrUnreachable, "%s does not answer any more", c.driver.address)
	f.cause = cause
	err := c.blame(op, f)
	c.fail(err)

	return err
}

func (c *console) send(packet types.SOLPayloadPacket) error {
	return c.put(&types.SOLPayloadRequest{SOLPayloadPacket: packet})
}

// put sends a request into the session and waits for nothing.
func (c *console) put(request types.Request) error {
	s := c.session

	c.mu.Lock()
	defer c.mu.Unlock()

	rmcp, err := s.client.BuildRmcpRequest(c.ctx, request)
	if err != nil {
		return err
	}

	_, err = s.conn.Conn.Write(rmcp.Pack()) // a datagram's socket does not block

	return err
}

// receive takes what the controller sends, until the console ends.
func (c *console) receive() {
	defer close(c.done)

	buffer := make([]byte, 4096)

	for c.ctx.Err() == nil {
		conn := c.session.conn.Conn
		if err := conn.SetReadDeadline(time.Now().Add(consoleQuiet)); err != nil {
			_ = c.gone("read the console", err) // whoever reads or writes next is told

			return
		}

		n, err := conn.Read(buffer)

		switch {
		case c.ctx.Err() != nil:
			return
		case err == nil:
			c.take(buffer[:n])
		case !isTimeout(err) || c.silence() > consoleDead:
			_ = c.gone("read the console", err)
		default:
			c.ping()
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error

	return errors.As(err, &timeout) && timeout.Timeout()
}

// ping asks for a sign of life; what becomes of it, the next silence tells.
func (c *console) ping() {
	if err := c.put(&app.GetDeviceIDRequest{}); err != nil {
		_ = c.gone("read the console", err)
	}
}

func (c *console) silence() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()

	return time.Since(c.heard)
}

// take handles a datagram of the session.
func (c *console) take(datagram []byte) {
	if len(datagram) < sessionHeaderSize || datagram[offsetAuthType] != byte(types.AuthTypeRMCPPlus) {
		return
	}

	c.mu.Lock()
	c.heard = time.Now()
	c.mu.Unlock()

	if types.PayloadType(datagram[offsetPayloadType]&payloadTypeMask) != types.PayloadTypeSOL {
		return // the answer to a ping
	}

	var packet types.SOLPayloadResponse
	if err := c.session.client.ParseRmcpResponse(c.ctx, datagram, types.CommandSOLPayload, &packet); err != nil {
		return // not from this session, or broken: it will be sent again
	}

	if packet.AckedSequenceNumber != 0 {
		c.acknowledge(packet.SOLPayloadPacket)
	}

	if packet.SequenceNumber != 0 {
		c.deliver(packet.SOLPayloadPacket)
	}

	if packet.ControlByte&solDeactivating != 0 {
		c.fail(c.blame("read the console", fail(ErrRefused, "%s has ended the console", c.driver.address)))
	}
}

// acknowledge hands an acknowledgement to the writer that may wait for it; the
// latest counts.
func (c *console) acknowledge(packet types.SOLPayloadPacket) {
	packet.NACK = packet.ControlByte&solNACK != 0

	select {
	case <-c.acks:
	default:
	}

	c.acks <- packet // only the receiver sends, and there is room now
}

// deliver takes the characters of a packet and acknowledges it. One that is
// sent again may hold more than the first time (IPMI 2.0, section 15.11).
func (c *console) deliver(packet types.SOLPayloadPacket) {
	c.mu.Lock()

	fresh := packet.CharacterData
	if packet.SequenceNumber == c.theirs {
		fresh = fresh[min(c.taken, len(fresh)):]
	}

	if c.overtaken(packet.SequenceNumber) || c.output.Len()+len(fresh) > consoleBuffer {
		c.mu.Unlock()

		return
	}

	c.theirs, c.taken = packet.SequenceNumber, len(packet.CharacterData)
	c.output.Write(fresh)
	c.arrived.Broadcast()
	c.mu.Unlock()

	// A lost acknowledgement brings the packet again.
	_ = c.send(types.SOLPayloadPacket{
		AckedSequenceNumber: packet.SequenceNumber, AcceptedCharacterCount: byte(len(packet.CharacterData)),
	})
}

// overtaken tells whether the sequence lies behind the one taken last: the
// network doubled or delayed that packet. mu is held.
func (c *console) overtaken(sequence byte) bool {
	behind := (int(c.theirs) - int(sequence) + solSequences) % solSequences

	return c.theirs != 0 && behind > 0 && behind <= solSequences/2
}
