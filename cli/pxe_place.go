package cli

import (
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// pxePlace is where a test asks. In the lab the well-known ports are elsewhere.
type pxePlace struct {
	iface        string
	dhcp, proxy  netip.AddrPort
	tftp         int
	local, relay netip.Addr
}

func (a *app) pxePlace(f pxeFlags) (pxePlace, error) {
	lab := a.env("BMCTL_LAB_DHCP") != "" && f.iface == "" && f.server == ""

	switch {
	case f.relay != "" && f.server == "" && !lab:
		return pxePlace{}, usagef("--relay needs --server: a relay agent asks one server")
	case lab:
		return a.labPXEPlace(f)
	case f.server != "":
		return serverPlace(f)
	case f.iface != "":
		if _, err := net.InterfaceByName(f.iface); err != nil {
			return pxePlace{}, usagef("--interface %s: %w", f.iface, err)
		}

		return pxePlace{iface: f.iface}, nil
	default:
		name, err := defaultInterface()

		return pxePlace{iface: name}, err
	}
}

func (a *app) labPXEPlace(f pxeFlags) (p pxePlace, err error) {
	for name, to := range map[string]*netip.AddrPort{"BMCTL_LAB_DHCP": &p.dhcp, "BMCTL_LAB_PROXYDHCP": &p.proxy} {
		if *to, err = netip.ParseAddrPort(a.env(name)); err != nil {
			return p, usagef("%s: %w", name, err)
		}
	}

	tftp, err := netip.ParseAddrPort(a.env("BMCTL_LAB_TFTP"))
	if err != nil {
		return p, usagef("BMCTL_LAB_TFTP: %w", err)
	}

	p.tftp = int(tftp.Port())

	return p.unicast(f)
}

func serverPlace(f pxeFlags) (p pxePlace, err error) {
	if p.dhcp, err = netip.ParseAddrPort(f.server); err != nil {
		addr, err := netip.ParseAddr(f.server)
		if err != nil {
			return p, usagef("--server %q: want an IPv4 address", f.server)
		}

		p.dhcp = netip.AddrPortFrom(addr, dhcpv4.ServerPort)
	}

	if !p.dhcp.Addr().Is4() {
		return p, usagef("--server %q: want an IPv4 address: DHCP for IPv6 has no ProxyDHCP", f.server)
	}

	return p.unicast(f)
}

// unicast completes a place with the addresses of this host: the client's, as if it
// was leased already, or the relay agent's.
func (p pxePlace) unicast(f pxeFlags) (pxePlace, error) {
	if f.relay != "" {
		relay, err := netip.ParseAddr(f.relay)
		if err != nil || !relay.Is4() {
			return p, usagef("--relay %q: want an IPv4 address of this host", f.relay)
		}

		p.relay = relay

		return p, nil
	}

	local, err := sourceTowards(p.dhcp)
	p.local = local

	return p, err
}

// sourceTowards is the address that this host uses towards a peer. Connecting a
// UDP socket sends nothing.
func sourceTowards(peer netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(peer))
	if err != nil {
		return netip.Addr{}, failf(codeUsage, "ip route get "+peer.Addr().String(), "no way to %s from here: %w", peer.Addr(), err)
	}

	defer conn.Close() //nolint:errcheck // nothing was sent

	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// defaultInterface is the one of the default route: of several networks it is the
// one that a person means who names none.
func defaultInterface() (string, error) {
	somewhere := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), dhcpv4.ServerPort) // TEST-NET-1 (RFC 5737)
	which := failf(codeUsage, "bmctl pxe test --interface IF, or --server ADDR", "no default route says which network is to be tested")

	local, err := sourceTowards(somewhere)
	if err != nil {
		return "", which
	}

	devices, err := net.Interfaces()
	if err != nil {
		return "", err
	}

	for _, device := range devices {
		addrs, err := device.Addrs()
		if err != nil {
			return "", err
		}

		for _, addr := range addrs {
			if prefix, err := netip.ParsePrefix(addr.String()); err == nil && prefix.Addr() == local {
				return device.Name, nil
			}
		}
	}

	return "", which
}
