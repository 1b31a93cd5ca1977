package pxeclient

import (
	"context"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// broadcast is a raw socket on one interface, which need not have an address: it
// sends from 0.0.0.0 as firmware does, so that servers answer by broadcast, and
// hears answers whatever DHCP client of this host has port 68.
func broadcast(device string) (net.PacketConn, error) {
	return nclient4.NewRawUDPConn(device, dhcpv4.ClientPort)
}

// listenShared hears the broadcasts to a port, beside other programs that share it.
func listenShared(ctx context.Context, port int) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		control := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
		if control != nil {
			return control
		}
		return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}}
	return config.ListenPacket(ctx, "udp4", "0.0.0.0:"+strconv.Itoa(port))
}
