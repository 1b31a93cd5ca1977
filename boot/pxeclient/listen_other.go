//go:build !linux

package pxeclient

import (
	"errors"
	"net"
)

// broadcast is not known here: name a server instead.
func broadcast(string) (net.PacketConn, error) {
	return nil, errors.New("broadcasting on one interface is supported on Linux only: name a server")
}
