package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// socket is one that the server needs.
type socket struct {
	what   string
	conn   *net.PacketConn // where it is kept; not nil once it is bound
	addr   netip.AddrPort
	device string
	err    error // why it cannot even be tried
}

// sockets are those that the configuration asks for.
func (s *Server) sockets() []socket {
	var list []socket
	if !s.config.DisableDHCPProxy {
		addr, device, err := listenOn(s.config.Interface)
		if err != nil {
			err = fmt.Errorf("DHCP proxy: %w", err)
		}
		if !s.config.DisableBroadcast {
			list = append(list, socket{"DHCP", &s.conns.DHCP, netip.AddrPortFrom(addr, uint16(s.config.DHCPPort)), device, err})
		}
		list = append(list, socket{"ProxyDHCP", &s.conns.ProxyDHCP, netip.AddrPortFrom(addr, uint16(s.config.PXEPort)), device, err})
	}
	addr := s.config.ListenAddr
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	return append(list, socket{"TFTP", &s.conns.TFTP, netip.AddrPortFrom(addr, uint16(s.config.TFTPPort)), "", nil})
}

func (w socket) bind() (net.PacketConn, error) {
	if w.err != nil {
		return nil, w.err
	}
	conn, err := listenUDP(context.Background(), w.addr.String(), w.device)
	if err != nil {
		return nil, BindError(w.what, "udp", w.addr.String(), err)
	}
	return conn, nil
}

// Bind binds every socket, or none: when one fails, those bound before are
// closed. The error names the address, what it is for, and, as far as it can be
// found out, the process that has it.
func (s *Server) Bind() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.conns = s.config.Conns
	list := s.sockets()
	for _, wanted := range list {
		if *wanted.conn != nil {
			continue
		}
		if *wanted.conn, err = wanted.bind(); err != nil {
			return err
		}
	}
	if !s.config.DisableDHCPProxy {
		if err = s.makeProxies(); err != nil {
			return err
		}
		s.watchRivals(list[0].addr.Addr(), list[0].device)
	}
	s.tftp, err = newTFTP(s, s.conns.TFTP)
	return err
}

func (s *Server) makeProxies() error {
	for _, conn := range []net.PacketConn{s.conns.DHCP, s.conns.ProxyDHCP} {
		if conn == nil {
			continue
		}
		p, err := newProxy(s, conn, conn == s.conns.ProxyDHCP)
		if err != nil {
			return err
		}
		s.proxies = append(s.proxies, p)
	}
	return nil
}

// watchRivals is not needed to serve. Where there is no real DHCP port there is no
// real network, in tests and in the lab.
func (s *Server) watchRivals(addr netip.Addr, device string) {
	given := s.config.Conns.DHCP != nil || s.config.Conns.ProxyDHCP != nil
	if addr.IsLoopback() || given || s.config.DHCPPort != dhcpServerPort {
		return
	}
	var err error
	if s.rivals, err = newRivals(s, device); err != nil {
		s.config.Log.Warn("other servers that answer machines are not seen", "reason", err.Error(), "hint", "it takes CAP_NET_RAW, on Linux")
	}
}

// Trial is what TryBind found of one socket.
type Trial struct {
	// Name is what the socket is for: DHCP, ProxyDHCP or TFTP.
	Name string
	// Addr is where it was bound; the zero value when it was not.
	Addr netip.AddrPort
	// Err is nil, or says what Bind would fail with.
	Err error
}

// TryBind binds each socket that Bind would bind, gives it up again, and goes on
// with the others where one fails. It is for a server that does not Run.
func (s *Server) TryBind() []Trial {
	var trials []Trial
	for _, wanted := range s.sockets() {
		trial := Trial{Name: wanted.what}
		conn, err := wanted.bind()
		if err == nil {
			trial.Addr = addrPort(conn)
			err = conn.Close()
		}
		trial.Err = err
		trials = append(trials, trial)
	}
	return trials
}

// BindError puts the failure to listen into an operator's words: what for, where,
// and, of a port in use, the process that has it as far as that can be found out
// (on Linux, with the rights over that process). The network is udp or tcp. What
// err wraps stays to be found.
func BindError(what, network, address string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // without the address once more
	}
	_, port, _ := net.SplitHostPort(address)
	number, _ := strconv.Atoi(port)
	if by := holder(network, number); errors.Is(err, syscall.EADDRINUSE) && by != "" {
		return fmt.Errorf("listen for %s on %s: %w by %s", what, address, syscall.EADDRINUSE, by)
	}
	return fmt.Errorf("listen for %s on %s: %w", what, address, err)
}
