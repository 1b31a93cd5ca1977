package pxeclient

import (
	"context"
	"net"
	"os"
	"strconv"
	"syscall"
)

// listenOn binds a port on one interface. The port is shared with a DHCP client
// of this host that shares it too: each gets the broadcasts.
func listenOn(ctx context.Context, device string, port int) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		control := raw.Control(func(fd uintptr) {
			if err = syscall.BindToDevice(int(fd), device); err == nil {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
			}
		})
		if control != nil {
			return control
		}
		return os.NewSyscallError("setsockopt on "+device, err)
	}}
	return config.ListenPacket(ctx, "udp4", "0.0.0.0:"+strconv.Itoa(port))
}
