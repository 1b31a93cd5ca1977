package pxeclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// proxyPort is where the second phase of PXE is (PXE 2.1, section 2.2).
const proxyPort = 4011

// legsDHCP are the ways to whoever answers DHCP.
func (b *boot) legsDHCP(ctx context.Context) ([]leg, error) {
	switch {
	case b.Relay.IsValid():
		l, err := legUDP(ctx, netip.AddrPortFrom(b.Relay, dhcpv4.ServerPort), b.DHCP)
		return []leg{l}, err
	case b.DHCP.IsValid():
		from, err := b.towards(b.DHCP)
		if err != nil {
			return nil, err
		}
		l, err := legUDP(ctx, netip.AddrPortFrom(from, 0), b.DHCP)
		return []leg{l}, err
	}
	raw, err := broadcast(b.Interface)
	if err != nil {
		return nil, err
	}
	legs := []leg{{
		conn: raw,
		from: netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpv4.ClientPort),
		to:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), dhcpv4.ServerPort),
	}}
	own, err := legsOwn(ctx, addressOf(b.Interface))
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return append(legs, own...), nil
}

// legsOwn are the ways to servers on this very host, at the address of the
// interface: what leaves by a raw socket does not come back. Some answer where they
// were asked from, others by a broadcast, which a raw socket does not hear either;
// that leg is missing where another program has port 68 for itself.
func legsOwn(ctx context.Context, own netip.Addr) ([]leg, error) {
	if !own.IsValid() {
		return nil, nil
	}
	ask, err := legUDP(ctx, netip.AddrPortFrom(own, 0), netip.AddrPortFrom(own, dhcpv4.ServerPort))
	if err != nil {
		return nil, err
	}
	conn, err := listenShared(ctx, dhcpv4.ClientPort)
	if err != nil {
		return []leg{ask}, nil
	}
	everywhere := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), dhcpv4.ClientPort)
	return []leg{ask, {conn: conn, from: everywhere, only: own}}, nil
}

// legProxy prefers port 4011, which is what firmware sends from; where this host
// serves ProxyDHCP itself, another one must do.
func (b *boot) legProxy(ctx context.Context, to netip.AddrPort) (leg, error) {
	from, err := b.towards(to)
	if err != nil {
		return leg{}, err
	}
	l, err := legUDP(ctx, netip.AddrPortFrom(from, proxyPort), to)
	if errors.Is(err, syscall.EADDRINUSE) {
		return legUDP(ctx, netip.AddrPortFrom(from, 0), to)
	}
	return l, err
}

func legUDP(ctx context.Context, from, to netip.AddrPort) (leg, error) {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp4", from.String())
	if err != nil {
		return leg{}, err
	}
	return leg{conn: conn, from: conn.LocalAddr().(*net.UDPAddr).AddrPort(), to: to}, nil
}

// addressOf is an IPv4 address of an interface, or the zero Addr.
func addressOf(name string) netip.Addr {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return netip.Addr{}
	}
	addrs, err := device.Addrs()
	if err != nil {
		return netip.Addr{}
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() {
			return prefix.Addr()
		}
	}
	return netip.Addr{}
}

// towards is the address of ours that a peer is asked from; connecting a UDP
// socket sends nothing.
func (b *boot) towards(peer netip.AddrPort) (netip.Addr, error) {
	if b.Local.IsValid() {
		return b.Local, nil
	}
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(peer))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no way there from here (does the interface have an address?): %w", err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}
