//go:build !linux

package boot

import (
	"context"
	"fmt"
	"net"
)

// listenUDP binds a UDP socket. Restricting it to a device is not known here.
func listenUDP(ctx context.Context, address, device string) (net.PacketConn, error) {
	if device != "" {
		return nil, fmt.Errorf("listen on the network interface %s alone: supported on Linux only", device)
	}
	return (&net.ListenConfig{}).ListenPacket(ctx, "udp4", address)
}

// holder is not known here.
func holder(string, int) string { return "" }
