//go:build !linux

package boot

import (
	"errors"
	"net"
)

// sniffer exists on Linux only.
type sniffer struct{}

func newSniffer(string) (*sniffer, error) { return nil, errors.ErrUnsupported }

func (*sniffer) hear([]byte) (n, index int, err error) { return 0, 0, errors.ErrUnsupported }

func (*sniffer) close() error { return nil }

func askOn(net.Interface) error { return errors.ErrUnsupported }
