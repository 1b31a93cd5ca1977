//go:build !linux

package pxeclient

import (
	"context"
	"errors"
	"net"
)

var errLinux = errors.New("broadcasting on one interface is supported on Linux only: name a server")

// broadcast is not known here: name a server instead.
func broadcast(string) (net.PacketConn, error) { return nil, errLinux }

func listenShared(context.Context, int) (net.PacketConn, error) { return nil, errLinux }
