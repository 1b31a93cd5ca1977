package boot

import (
	"context"
	"net"
	"os"
	"time"

	"golang.org/x/net/ipv4"
)

// ownPort is a socket for one transfer, connected to its client: the kernel
// drops what others send to it.
type ownPort struct{ conn *net.UDPConn }

// dialOwnPort makes one that sends from the address that the client asked at.
func dialOwnPort(local net.IP, client *net.UDPAddr) (ownPort, error) {
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: local}, client)
	return ownPort{conn}, err
}

func (p ownPort) send(packet []byte) error {
	_, err := p.conn.Write(packet)
	return err
}

func (p ownPort) receive(ctx context.Context, buffer []byte, wait time.Duration) (int, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return 0, err
	}
	// After the deadline was set: interrupt, which sets it too, comes later then.
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.conn.Read(buffer)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return n, err
}

func (p ownPort) interrupt()   { _ = p.conn.SetReadDeadline(time.Unix(1, 0)) }
func (p ownPort) close() error { return p.conn.Close() }

// sharedPort is one client's part of the single port.
type sharedPort struct {
	conn    *ipv4.PacketConn
	control *ipv4.ControlMessage
	client  *net.UDPAddr
	inbox   chan []byte
}

// inboxSize is more than the packets that a client has a reason to send before
// they are read.
const inboxSize = 8

func (p *sharedPort) send(packet []byte) error {
	_, err := p.conn.WriteTo(packet, p.control, p.client)
	return err
}

func (p *sharedPort) receive(ctx context.Context, buffer []byte, wait time.Duration) (int, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case packet := <-p.inbox:
		return copy(buffer, packet), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-timer.C:
		return 0, os.ErrDeadlineExceeded
	}
}

func (p *sharedPort) close() error { return nil }

// deliver hands a packet over; where the inbox is full it is lost, as on a wire.
func (p *sharedPort) deliver(packet []byte) {
	select {
	case p.inbox <- append([]byte(nil), packet...):
	default:
	}
}
