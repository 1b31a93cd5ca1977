package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/ipv4"
)

// maxPacket is more than any DHCP packet over Ethernet.
const maxPacket = 2048

// delayedReplies bounds the answers that wait for --dhcp-reply-delay.
const delayedReplies = 4096

// proxy answers the packets of one socket.
type proxy struct {
	server *Server
	conn   *ipv4.PacketConn
	// second is set on the ProxyDHCP port, where the second phase is.
	second bool
	later  chan delayed
}

// outgoing is a packet ready to be sent.
type outgoing struct {
	data    []byte
	control *ipv4.ControlMessage
	to      netip.AddrPort
}

type delayed struct {
	outgoing
	at time.Time
}

func newProxy(s *Server, conn net.PacketConn, second bool) (*proxy, error) {
	p := &proxy{server: s, conn: ipv4.NewPacketConn(conn), second: second, later: make(chan delayed, delayedReplies)}
	if err := p.conn.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true); err != nil {
		return nil, fmt.Errorf("learn the interface of packets to %s: %w", conn.LocalAddr(), err)
	}
	return p, nil
}

// serve reads packets until the socket is closed.
func (p *proxy) serve() error {
	buffer := make([]byte, maxPacket)
	for {
		n, control, source, err := p.conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read DHCP packets: %w", err)
		}
		from := source.(*net.UDPAddr).AddrPort()
		p.handle(buffer[:n], control, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	}
}

// sendLater sends delayed answers when they are due. The delay is the same for
// all, so that their order is the order of their times.
func (p *proxy) sendLater(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-p.later:
			timer := time.NewTimer(time.Until(d.at))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
				if err := p.send(d.outgoing); err != nil {
					p.server.recorder.ignored(Event{Addr: d.to.Addr()}, err.Error())
				}
			}
		}
	}
}

// handle answers one packet or records why it does not.
func (p *proxy) handle(data []byte, control *ipv4.ControlMessage, source netip.AddrPort) {
	event := Event{Addr: source.Addr(), Interface: p.server.interfaces.name(control)}
	request, err := dhcpv4.FromBytes(data)
	if err != nil {
		p.server.recorder.ignored(event, fmt.Sprintf("malformed DHCP packet of %d bytes: %v", len(data), err))
		return
	}
	event.MAC = request.ClientHWAddr.String()
	c, err := classify(request)
	if err == nil {
		event.Arch, event.Firmware, event.UUID = c.arch, c.firmware.String(), uuidOf(request)
		p.server.stations.moved([6]byte(c.mac), addressOf(request), c.arch)
		err = expected(request, p.second)
	}
	if err == nil && !p.server.stations.allow([6]byte(c.mac)) {
		err = fmt.Errorf("asks more than %d times a second", packetsPerSecond)
	}
	if err != nil {
		p.server.recorder.ignored(event, err.Error())
		return
	}
	p.answer(request, c, control, source, event)
}

func (p *proxy) answer(request *dhcpv4.DHCPv4, c client, control *ipv4.ControlMessage, source netip.AddrPort, event Event) {
	a := answer{kind: dhcpv4.MessageTypeOffer, server: p.server.addressFor(request, control)}
	event.Type = EventDiscover
	if p.second {
		a.kind, event.Type = dhcpv4.MessageTypeAck, EventRequest
	}
	a.file, a.single = p.server.offer(c, a.server), p.single(request, c)
	event.File = a.file
	if len(a.file) > maxFileName {
		p.server.recorder.ignored(event, fmt.Sprintf("%q is longer than the %d bytes of a boot file name", a.file, maxFileName))
		return
	}
	packet := outgoing{data: reply(request, c, a).ToBytes(), control: p.server.interfaces.replyFrom(control), to: destination(request, source)}
	if delay := p.server.config.DHCPReplyDelay; delay > 0 {
		select {
		case p.later <- delayed{packet, time.Now().Add(delay)}:
		default:
			p.server.recorder.ignored(event, fmt.Sprintf("%d answers wait for their delay already", delayedReplies))
			return
		}
	} else if err := p.send(packet); err != nil {
		p.server.recorder.ignored(event, err.Error())
		return
	}
	event.Reason = p.why(c, a)
	p.server.recorder.post(record{event: event, level: slog.LevelInfo, text: "offering boot response", attrs: []slog.Attr{
		slog.String("source", event.MAC), slog.String("boot_filename", a.file), slog.String("mac", event.MAC), slog.String("arch", c.arch),
		slog.String("server", a.server.String()), slog.String("interface", event.Interface), slog.String("reason", event.Reason),
	}})
}

// single says whether the answer carries option 43 and so ends the exchange. A
// BIOS ROM always gets it. iPXE and U-Boot take the file name as it is.
func (p *proxy) single(request *dhcpv4.DHCPv4, c client) bool {
	mac := [6]byte(c.mac)
	switch {
	case c.firmware == firmwareBIOS:
		return true
	case c.firmware != firmwareEFI:
		p.server.stations.followed(mac)
		return false
	case p.second:
		p.server.stations.followed(mac)
		return false
	case p.server.config.Style == StyleBINL:
		return false
	case p.server.config.Style == StylePXE10:
		return true
	default:
		return p.server.stations.singlePhase(mac, request.TransactionID)
	}
}

// why says for humans what kind of answer this was.
func (p *proxy) why(c client, a answer) string {
	switch {
	case p.second:
		return fmt.Sprintf("%s asked for its file", c.firmware)
	case c.firmware == firmwareEFI && !a.single:
		return "UEFI: two phases, it asks the ProxyDHCP port next"
	case c.firmware == firmwareEFI:
		return "UEFI: one phase, option 43"
	default:
		return c.firmware.String()
	}
}

func (p *proxy) send(o outgoing) error {
	if _, err := p.conn.WriteTo(o.data, o.control, net.UDPAddrFromAddrPort(o.to)); err != nil {
		return fmt.Errorf("send an answer to %s: %w", o.to, err)
	}
	return nil
}
