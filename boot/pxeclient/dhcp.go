package pxeclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// proxyPort is where the second phase of PXE is (PXE 2.1, section 2.2).
const proxyPort = 4011

const (
	// tries is how often a packet is sent; the wait doubles each time.
	tries = 4
	// EDK2 and iPXE collect offers for this long.
	windowFirmware = 4 * time.Second
	windowIPXE     = 2 * time.Second
)

// identity is what a program says of itself in DHCP.
type identity struct {
	firmware  Firmware
	arch      iana.Arch
	class     string // option 60 before ":Arch:"
	userClass string // option 77
}

func (b *boot) firmwareIdentity() identity {
	id := identity{firmware: b.Firmware, arch: iana.INTEL_X86PC, class: "PXEClient"}
	switch {
	case b.Firmware == UEFIHTTP && b.Arch == "arm64":
		id.arch, id.class = iana.EFI_ARM64_HTTP, "HTTPClient"
	case b.Firmware == UEFIHTTP:
		id.arch, id.class = iana.EFI_X86_64_HTTP, "HTTPClient"
	case b.Arch == "arm64":
		id.arch = iana.EFI_ARM64
	case b.Firmware != BIOS:
		id.arch = iana.EFI_X86_64
	}
	return id
}

// ipxeIdentity is that of the iPXE in the ROM, or of ipxedust's that was loaded.
func (b *boot) ipxeIdentity() identity {
	id := b.firmwareIdentity()
	if id.class == "HTTPClient" {
		id.class, id.arch = "PXEClient", pxeArch(b.Arch)
	}
	id.firmware, id.userClass = IPXE, "Tinkerbell"
	if b.Firmware == IPXE {
		id.userClass = "iPXE"
	}
	return id
}

func pxeArch(arch string) iana.Arch {
	if arch == "arm64" {
		return iana.EFI_ARM64
	}
	return iana.EFI_X86_64
}

// packet makes a DISCOVER or REQUEST with the options of the PXE specification
// (section 2.2.1) and RFC 4578.
func (b *boot) packet(id identity, kind dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	uuid, err := uuidBytes(b.UUID)
	if err != nil {
		return nil, err
	}
	return dhcpv4.New(
		dhcpv4.WithHwAddr(b.mac), dhcpv4.WithMessageType(kind), dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1464)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionVendorSpecificInformation,
			dhcpv4.OptionServerIdentifier, dhcpv4.OptionClassIdentifier, dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName,
			dhcpv4.OptionClientMachineIdentifier),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(fmt.Sprintf("%s:Arch:%05d:UNDI:003016", id.class, uint16(id.arch)))),
		dhcpv4.WithOption(dhcpv4.OptClientArch(id.arch)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 16}),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, append([]byte{0}, uuid[:]...)),
		func(d *dhcpv4.DHCPv4) {
			if id.userClass != "" {
				d.UpdateOption(dhcpv4.OptUserClass(id.userClass))
			}
		},
	)
}

// discover asks for offers and returns the one that the firmware would take.
func (b *boot) discover(ctx context.Context, id identity) (Offer, error) {
	started := time.Now()
	offer, err := b.offers(ctx, id)
	detail := fmt.Sprintf("%s offers %s from %s (%s)", offer.From, offer.File, offer.Server, offer.Kind)
	return offer, b.step(started, "dhcp", detail, err)
}

func (b *boot) offers(ctx context.Context, id identity) (Offer, error) {
	packet, err := b.packet(id, dhcpv4.MessageTypeDiscover)
	if err != nil {
		return Offer{}, &Error{Step: "dhcp", Err: err}
	}
	to := b.DHCP
	if !to.IsValid() {
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), dhcpv4.ServerPort)
	}
	conn, err := b.listenDHCP(ctx)
	if err != nil {
		return Offer{}, &Error{Step: "dhcp", Err: err}
	}
	defer conn.Close()
	var offers []Offer
	err = exchange(ctx, conn, packet, to, patience{b.Timeout, b.window(id)}, func(answer *dhcpv4.DHCPv4, from netip.AddrPort) bool {
		if answer.MessageType() == dhcpv4.MessageTypeOffer {
			offers = append(offers, read(id.firmware, answer, from))
		}
		_, found := choose(offers, b.Local.IsValid())
		return found
	})
	b.result.Offers = append(b.result.Offers, offers...)
	if offer, found := choose(offers, b.Local.IsValid()); found {
		return offer, nil
	}
	if err == nil {
		err = errors.New("no usable offer")
	}
	return Offer{}, &Error{Step: "dhcp", Code: noOffer(id.firmware), Err: fmt.Errorf("%w: %s", err, describe(offers)),
		Hint: "bmctl serve must be on this broadcast domain, or behind a relay that sends to it"}
}

// window is how long offers are collected after the first; 0 is not at all.
func (b *boot) window(id identity) time.Duration {
	switch {
	case b.Window > 0:
		return b.Window
	case b.DHCP.IsValid():
		return 0
	case id.firmware == IPXE:
		return windowIPXE
	default:
		return windowFirmware
	}
}

func noOffer(fw Firmware) string {
	switch fw {
	case BIOS:
		return "PXE-E51"
	case IPXE:
		return ""
	default:
		return "PXE-E16"
	}
}

// request is the second phase: the server of the offer is asked for the file,
// from port 4011 to port 4011.
func (b *boot) request(ctx context.Context, offer Offer) (Offer, error) {
	started := time.Now()
	to := b.ProxyDHCP
	if !to.IsValid() {
		to = netip.AddrPortFrom(offer.Server, proxyPort)
	}
	answer, err := b.acknowledge(ctx, to)
	detail := fmt.Sprintf("%s acknowledges %s from %s", to, answer.File, answer.Server)
	return answer, b.step(started, "request", detail, err)
}

func (b *boot) acknowledge(ctx context.Context, to netip.AddrPort) (Offer, error) {
	fail := func(err error) (Offer, error) {
		code := "PXE-E16"
		if b.Firmware == BIOS {
			code = "PXE-E55"
		}
		return Offer{}, &Error{Step: "request", Code: code, Err: fmt.Errorf("%s: %w", to, err),
			Hint: "the server that the offer names must answer on UDP port 4011; is a firewall between, or does the site's DHCP server send option 60?"}
	}
	packet, err := b.packet(b.firmwareIdentity(), dhcpv4.MessageTypeRequest)
	if err != nil {
		return fail(err)
	}
	if b.Local.IsValid() {
		packet.ClientIPAddr = b.Local.AsSlice()
	}
	conn, err := b.listenProxy(ctx)
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	var answers []Offer
	err = exchange(ctx, conn, packet, to, patience{timeout: b.Timeout}, func(answer *dhcpv4.DHCPv4, from netip.AddrPort) bool {
		if answer.MessageType() != dhcpv4.MessageTypeAck || from.Port() != to.Port() {
			return false
		}
		answers = append(answers, read(b.Firmware, answer, from))
		return true
	})
	if len(answers) == 0 {
		return fail(err)
	}
	if got := answers[0]; got.Kind == Useless || got.File == "" {
		return fail(fmt.Errorf("acknowledged, but with no file to load: %s", got.Why))
	}
	return answers[0], nil
}

// patience is how long an exchange waits: for anything at all, and for more
// answers once there is one.
type patience struct{ timeout, window time.Duration }

// wait is the time after the given repetition; all four make up the timeout.
func (p patience) wait(try int) time.Duration {
	return max(p.window, p.timeout<<try/(1<<tries-1))
}

// exchange sends a packet up to four times and hands over each answer that
// belongs to it. It ends when enough says so and the window is over, or without
// an answer that is enough, which is an error.
func exchange(ctx context.Context, conn net.PacketConn, packet *dhcpv4.DHCPv4, to netip.AddrPort, p patience, enough func(*dhcpv4.DHCPv4, netip.AddrPort) bool) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for try := range tries {
		if _, err := conn.WriteTo(packet.ToBytes(), net.UDPAddrFromAddrPort(to)); err != nil {
			return fmt.Errorf("send to %s: %w", to, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(p.wait(try))); err != nil {
			return err
		}
		found, err := collect(ctx, conn, packet, p.window == 0, enough)
		if err != nil || found {
			return err
		}
	}
	return fmt.Errorf("no answer of use to %d packets in %v", tries, p.timeout)
}

// collect reads answers until the deadline of the socket, or until the first
// that is enough.
func collect(ctx context.Context, conn net.PacketConn, packet *dhcpv4.DHCPv4, first bool, enough func(*dhcpv4.DHCPv4, netip.AddrPort) bool) (found bool, err error) {
	buffer := make([]byte, 2048)
	for ctx.Err() == nil {
		n, source, err := conn.ReadFrom(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return found, ctx.Err()
		}
		if err != nil {
			return found, fmt.Errorf("read answers: %w", err)
		}
		answer, err := dhcpv4.FromBytes(buffer[:n])
		if err != nil || !belongs(answer, packet) {
			continue
		}
		found = enough(answer, source.(*net.UDPAddr).AddrPort()) || found
		if found && first {
			return true, nil
		}
	}
	return found, ctx.Err()
}

// belongs says whether a packet answers another, by EDK2's rules.
func belongs(answer, packet *dhcpv4.DHCPv4) bool {
	kind := answer.Options.Get(dhcpv4.OptionDHCPMessageType)
	return answer.OpCode == dhcpv4.OpcodeBootReply && answer.TransactionID == packet.TransactionID &&
		answer.ClientHWAddr.String() == packet.ClientHWAddr.String() && len(kind) == 1 && kind[0] >= 1 && kind[0] <= 9
}

// listenDHCP is the client's socket: port 68 of the interface, or, towards a
// server given by address, any port.
func (b *boot) listenDHCP(ctx context.Context) (net.PacketConn, error) {
	if !b.DHCP.IsValid() {
		return listenOn(ctx, b.Interface, dhcpv4.ClientPort)
	}
	return (&net.ListenConfig{}).ListenPacket(ctx, "udp4", netip.AddrPortFrom(b.source(), 0).String())
}

// listenProxy prefers port 4011, which is what firmware sends from; where this
// host serves ProxyDHCP itself, another one must do.
func (b *boot) listenProxy(ctx context.Context) (net.PacketConn, error) {
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp4", netip.AddrPortFrom(b.source(), proxyPort).String())
	if errors.Is(err, syscall.EADDRINUSE) {
		return config.ListenPacket(ctx, "udp4", netip.AddrPortFrom(b.source(), 0).String())
	}
	return conn, err
}

func (b *boot) source() netip.Addr {
	if b.Local.IsValid() {
		return b.Local
	}
	return netip.IPv4Unspecified()
}
