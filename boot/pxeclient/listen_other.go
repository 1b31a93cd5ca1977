//go:build !linux

package pxeclient

import (
	"context"
	"errors"
	"net"
)

// listenOn is not known here: name a server instead.
func listenOn(context.Context, string, int) (net.PacketConn, error) {
	return nil, errors.New("broadcasting on one interface is supported on Linux only: name a server")
}
