package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pin/tftp/v3/netascii"
	"golang.org/x/net/ipv4"
)

const (
	// maxTransfers bounds the sockets and goroutines; beyond it requests are not
	// answered, and clients ask again.
	maxTransfers = 2000
	// maxTransfersOfOne bounds those of one address. That is many machines where
	// addresses are translated on the way, by a port mapping or a router; yet one
	// address cannot keep the others from being served.
	maxTransfersOfOne = maxTransfers / 4
	// tftpGrace is what running transfers get to end after the socket was closed.
	tftpGrace = 2 * time.Second
)

// tftpServer answers read requests. Of pin/tftp, which served here at first, it
// keeps the netascii conversion; that package has no windows (RFC 7440), one
// error code for everything, an interface lookup for each packet, and a single
// port mode limited to blocks of 512 bytes.
type tftpServer struct {
	*Server
	conn   *ipv4.PacketConn
	single bool

	mu      sync.Mutex
	active  map[netip.AddrPort]*sharedPort // nil with a port for each transfer
	each    map[netip.Addr]int             // how many of active each address has
	running sync.WaitGroup
}

func newTFTP(s *Server, conn net.PacketConn) (*tftpServer, error) {
	t := &tftpServer{Server: s, conn: ipv4.NewPacketConn(conn), single: s.config.TFTPSinglePort,
		active: map[netip.AddrPort]*sharedPort{}, each: map[netip.Addr]int{}}
	if err := t.conn.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true); err != nil {
		return nil, fmt.Errorf("learn the interface of packets to %s: %w", conn.LocalAddr(), err)
	}
	return t, nil
}

// serve serves until the socket is closed, and returns when the transfers have
// ended: by themselves, or after tftpGrace.
func (t *tftpServer) serve(ctx context.Context) error {
	transfers, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer func() {
		grace := time.AfterFunc(tftpGrace, cancel)
		t.running.Wait()
		grace.Stop()
	}()
	buffer := make([]byte, maxPacket)
	for {
		n, control, source, err := t.conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read TFTP packets: %w", err)
		}
		t.handle(transfers, buffer[:n], control, source.(*net.UDPAddr))
	}
}

// handle starts a transfer, or hands a packet to the one that it belongs to.
func (t *tftpServer) handle(ctx context.Context, packet []byte, control *ipv4.ControlMessage, client *net.UDPAddr) {
	peer := client.AddrPort()
	event := Event{Type: EventLoader, Addr: peer.Addr().Unmap(), Interface: t.interfaces.name(control)}
	event.MAC, event.Arch = t.stations.loads(event.Addr)
	t.mu.Lock()
	port, busy := t.active[peer]
	full := t.full(peer.Addr())
	t.mu.Unlock()
	if busy {
		// Without a port of its own this is a repeated request: its answer is under way.
		if port != nil {
			port.deliver(packet)
		}
		return
	}
	request, err := parseRequest(packet)
	if err == nil {
		err = full
	}
	if err != nil {
		t.refuse(event, err, control, client)
		return
	}
	t.start(ctx, request, event, control, client)
}

// full says why an address cannot have another transfer; nil if it can. Where the
// server is full nobody is told: a machine that was would give up, and one that was
// not asks again. The caller holds the lock.
func (t *tftpServer) full(addr netip.Addr) error {
	switch {
	case t.each[addr] >= maxTransfersOfOne:
		return &refusal{tftpExceeded, fmt.Sprintf("%d transfers to this address run already", maxTransfersOfOne)}
	case len(t.active) >= maxTransfers:
		return fmt.Errorf("%d transfers run already", maxTransfers)
	default:
		return nil
	}
}

func (t *tftpServer) begin(peer netip.AddrPort, shared *sharedPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active[peer] = shared
	t.each[peer.Addr()]++
}

func (t *tftpServer) end(peer netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.active, peer)
	if t.each[peer.Addr()]--; t.each[peer.Addr()] == 0 {
		delete(t.each, peer.Addr())
	}
}

// refuse records why a request is not served, and tells the client.
func (t *tftpServer) refuse(event Event, err error, control *ipv4.ControlMessage, client *net.UDPAddr) {
	t.recorder.ignored(event, err.Error())
	var r *refusal
	if errors.As(err, &r) {
		// A client that cannot be told asks again.
		_, _ = t.conn.WriteTo(r.packet(), t.interfaces.replyFrom(control), client)
	}
}

// start opens the way to the client and runs the transfer beside it.
func (t *tftpServer) start(ctx context.Context, request readRequest, event Event, control *ipv4.ControlMessage, client *net.UDPAddr) {
	event.File = cleanName(request.name)
	t.recorder.post(record{level: slog.LevelInfo, text: "file requested",
		attrs: []slog.Attr{slog.String("filename", event.File), slog.String("source", event.Addr.String())}})
	content, ok := t.file(event.File, t.baseURL(t.config.Advertise))
	if !ok {
		t.refuse(event, &refusal{tftpNotFound, fmt.Sprintf("there is no file %q", clip(request.name))}, control, client)
		return
	}
	if request.netascii {
		// Reading from memory does not fail.
		content, _ = io.ReadAll(netascii.ToReader(bytes.NewReader(content)))
	}
	way, shared, err := t.open(control, client)
	if err != nil {
		t.refuse(event, &refusal{tftpNotDefined, err.Error()}, control, client)
		return
	}
	peer := client.AddrPort()
	t.begin(peer, shared)
	oack := request.grant(int64(len(content)), t.interfaces.mtu(control))
	t.running.Go(func() {
		run := &transfer{link: way, request: request, content: content}
		began := time.Now()
		err := t.send(ctx, run, oack)
		t.end(peer)
		event.Bytes, event.Duration = run.sent(), time.Since(began)
		t.finished(event, errors.Join(err, way.close()))
	})
}

func (t *tftpServer) open(control *ipv4.ControlMessage, client *net.UDPAddr) (link, *sharedPort, error) {
	if t.single {
		shared := &sharedPort{conn: t.conn, control: t.interfaces.replyFrom(control), client: client, inbox: make(chan []byte, inboxSize)}
		return shared, shared, nil
	}
	var local net.IP
	if control != nil {
		local = t.interfaces.local(control)
	}
	own, err := dialOwnPort(local, client)
	return own, nil, err
}

// send runs a transfer and tells the client where it failed on our side.
func (t *tftpServer) send(ctx context.Context, run *transfer, oack []byte) error {
	if own, ok := run.link.(ownPort); ok {
		defer context.AfterFunc(ctx, own.interrupt)()
	}
	err := run.run(ctx, oack)
	if ctx.Err() != nil {
		_ = run.link.send((&refusal{tftpNotDefined, "the server is shutting down"}).packet())
	}
	return err
}

// finished records a transfer. A client that aborts before the first block only
// wanted the size: EDK2 takes it from the option acknowledgement and asks again.
func (t *tftpServer) finished(event Event, err error) {
	var abort *aborted
	if errors.As(err, &abort) && event.Bytes == 0 {
		return
	}
	if err != nil {
		t.recorder.ignored(event, fmt.Sprintf("sending %s ended after %d bytes: %v", event.File, event.Bytes, err))
		return
	}
	t.recorder.post(record{event: event, level: slog.LevelInfo, text: "file sent", attrs: []slog.Attr{
		slog.String("filename", event.File), slog.Int64("bytes", event.Bytes), slog.String("source", event.Addr.String())}})
}
