package pxeclient

import (
	"net"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// broadcast is a raw socket on one interface, which need not have an address: it
// sends from 0.0.0.0 as firmware does, so that servers answer by broadcast, and
// hears answers whatever DHCP client of this host has port 68.
func broadcast(device string) (net.PacketConn, error) {
	return nclient4.NewRawUDPConn(device, dhcpv4.ClientPort)
}
