package boot

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/ipv4"
	"golang.org/x/sync/errgroup"
)

// Config is what a Server is told.
type Config struct {
	// Decider says what each machine boots. Required.
	Decider Decider
	// Observe gets every event, one at a time and in order, from a goroutine of
	// its own: it may take its time, but events that find 8,192 others waiting
	// are dropped, which is an event. nil: nobody watches.
	Observe func(Event)
	// Log gets the same for humans. nil: nothing is logged.
	Log *slog.Logger

	// Advertise is the IPv4 address that machines are told. Required.
	Advertise netip.Addr
	// HTTPPort is the port, at Advertise, of the server that has Handler mounted.
	// It may be given later, by SetHTTPPort.
	HTTPPort int
	// ListenAddr is where TFTP listens; the zero value is every IPv4 address.
	ListenAddr netip.Addr
	// Interface is where the proxy listens: an interface's name or an IPv4 address
	// of it. Empty is every interface, and machines are then told the address of
	// the interface that they were heard on.
	Interface string
	// DHCPPort, PXEPort and TFTPPort are 67, 4011 and 69 outside of tests and the
	// lab; 0 is any free one.
	DHCPPort, PXEPort, TFTPPort int

	// DisableDHCPProxy: neither DHCP socket; the site's DHCP server names the
	// loader. The EFI loaders then find the script by themselves.
	DisableDHCPProxy bool
	// DisableBroadcast: only the ProxyDHCP port (4011), for a host whose port 67
	// belongs to the site's DHCP server, which must then send option 60.
	DisableBroadcast bool
	// Style is how EFI machines are answered; empty is StyleAuto.
	Style Style
	// DHCPReplyDelay is waited before each answer: some ROMs miss an instant one.
	DHCPReplyDelay time.Duration
	// TFTPSinglePort sends files from the port that was asked, for containers
	// behind a port mapping, instead of from a new port for each transfer.
	TFTPSinglePort bool
	// IPXEDir holds the operator's own iPXE builds (undionly.kpxe, ipxe.efi,
	// ipxe-arm64.efi), served instead of the embedded ones, and other files to be
	// served beside them. It is read by New and SetHTTPPort. Empty: none.
	//
	// A build may also come in its parts: undionly.kpxe.bin and undionly.kpxe.zinfo
	// are patched and compressed to undionly.kpxe, and so on.
	IPXEDir string
	// IPXERoot is the only authority that iPXE trusts for https URLs, instead of its
	// own one; servers must send it with their chain. CheckIPXERoot says which ones
	// iPXE can use. It cannot be put into compressed builds, the embedded one for BIOS
	// among them. nil: iPXE's own.
	IPXERoot *x509.Certificate
	// DiskMethod is used where a Decision names none; empty is DiskExit.
	DiskMethod DiskMethod

	// Conns are sockets bound already, used instead of binding.
	Conns Conns
}

// Conns are the sockets of a Server. Those for DHCP must be UDP over IPv4.
type Conns struct {
	DHCP, ProxyDHCP, TFTP net.PacketConn
}

// Addrs are the addresses that a Server is bound to; a zero one is not served.
type Addrs struct {
	DHCP, ProxyDHCP, TFTP netip.AddrPort
}

// Server answers machines that boot from the network. Make it with New, then
// Bind, then Run; its Handler belongs into the caller's HTTP server. All methods
// are safe for concurrent use, except Bind, Close and Run among each other.
type Server struct {
	config     Config
	recorder   *recorder
	stations   *stations
	interfaces *interfaces
	loaders    atomic.Pointer[loaders]
	httpPort   atomic.Int64
	conns      Conns
	proxies    []*proxy
	tftp       *tftpServer
	rivals     *rivals // nil: others are not watched
}

// New checks the configuration; the error holds every problem with it. Nothing
// is bound yet.
func New(config Config) (*Server, error) {
	if config.Style == "" {
		config.Style = StyleAuto
	}
	if config.DiskMethod == "" {
		config.DiskMethod = DiskExit
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Observe == nil {
		config.Observe = func(Event) {}
	}
	if err := config.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		config: config, recorder: newRecorder(config.Log, config.Observe),
		stations: newStations(), interfaces: &interfaces{},
	}
	s.warnOfBIOS()
	return s, s.SetHTTPPort(config.HTTPPort)
}

// warnOfBIOS says that a compressed build for BIOS does not trust the authority.
func (s *Server) warnOfBIOS() {
	_, err := os.Stat(filepath.Join(s.config.IPXEDir, "undionly.kpxe.zinfo"))
	if s.config.IPXERoot != nil && (s.config.IPXEDir == "" || err != nil) {
		s.config.Log.Warn("the iPXE of BIOS machines is compressed and trusts what it was built with",
			"filename", "undionly.kpxe", "hint", "put undionly.kpxe.bin and undionly.kpxe.zinfo into --ipxe-dir")
	}
}

func (c Config) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("boot: "+format, args...))
		}
	}
	check(c.Decider != nil, "no decider")
	check(c.Advertise.Is4() && !c.Advertise.IsUnspecified(), "%v is not an IPv4 address to tell machines", c.Advertise)
	for _, port := range []int{c.HTTPPort, c.DHCPPort, c.PXEPort, c.TFTPPort} {
		check(port >= 0 && port <= 65535, "%d is not a port", port)
	}
	check(c.Style == StyleAuto || c.Style == StyleBINL || c.Style == StylePXE10, "unknown PXE style %q", c.Style)
	check(knownMethod(c.DiskMethod), "unknown method %q to boot from the disk", c.DiskMethod)
	if c.IPXERoot != nil {
		err := CheckIPXERoot(c.IPXERoot)
		check(err == nil, "iPXE's authority: %v", err)
	}
	check(c.DHCPReplyDelay >= 0, "a reply delay of %v", c.DHCPReplyDelay)
	return errors.Join(errs...)
}

// SetHTTPPort tells the port of the HTTP server, when it was not known to New.
// Without it no script can be offered.
func (s *Server) SetHTTPPort(port int) error {
	s.httpPort.Store(int64(port))
	chain := ""
	if s.config.DisableDHCPProxy {
		chain = s.scriptURL(s.config.Advertise)
	}
	files, err := newLoaders(s.config.IPXEDir, chain, s.config.IPXERoot)
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	s.loaders.Store(&files)
	return nil
}

// Addrs returns what Bind bound.
func (s *Server) Addrs() Addrs {
	return Addrs{DHCP: addrPort(s.conns.DHCP), ProxyDHCP: addrPort(s.conns.ProxyDHCP), TFTP: addrPort(s.conns.TFTP)}
}

func addrPort(conn net.PacketConn) netip.AddrPort {
	if conn == nil {
		return netip.AddrPort{}
	}
	addr, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	return addr
}

// Close releases what Bind bound, for a caller that does not Run. A second
// Close does nothing.
func (s *Server) Close() error {
	var errs []error
	for _, conn := range []net.PacketConn{s.conns.DHCP, s.conns.ProxyDHCP, s.conns.TFTP} {
		if conn == nil {
			continue
		}
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.rivals != nil {
		if err := s.rivals.sniffer.close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Run answers until the context ends, or until a socket fails, which is the
// error. When it returns all its sockets are closed and its goroutines ended.
func (s *Server) Run(ctx context.Context) error {
	s.sayWhatDHCPNeeds()
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	var records errgroup.Group
	records.Go(func() error { s.recorder.run(recording); return nil })

	group, ctx := errgroup.WithContext(ctx)
	for _, p := range s.proxies {
		group.Go(p.serve)
		group.Go(func() error { p.sendLater(ctx); return nil })
	}
	if r := s.rivals; r != nil {
		group.Go(func() error { r.watch(ctx); return nil })
		group.Go(func() error { r.ask(ctx); return nil })
	}
	group.Go(func() error { return s.tftp.serve(ctx) })
	group.Go(func() error { <-ctx.Done(); return s.Close() })
	err := group.Wait()
	stopRecording()
	return errors.Join(err, records.Wait())
}

// addressFor is the address of ours that the sender of a packet can reach.
func (s *Server) addressFor(request *dhcpv4.DHCPv4, control *ipv4.ControlMessage) netip.Addr {
	advertise := s.config.Advertise
	oneAddress := s.config.Interface != "" || s.config.ListenAddr.IsValid() && !s.config.ListenAddr.IsUnspecified()
	if oneAddress || control == nil {
		return advertise
	}
	if relay, ok := netip.AddrFromSlice(request.GatewayIPAddr.To4()); ok && !relay.IsUnspecified() {
		return sourceTowards(relay, advertise)
	}
	link := s.interfaces.get(control.IfIndex)
	for _, addr := range link.addrs {
		if addr == advertise {
			return advertise
		}
	}
	if link.loopback || len(link.addrs) == 0 {
		return advertise
	}
	return link.addrs[0]
}

// sourceTowards asks the kernel which address of ours it would send from to get
// to a peer; connecting a UDP socket sends nothing.
func sourceTowards(peer, otherwise netip.Addr) netip.Addr {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(peer, dhcpServerPort)))
	if err != nil {
		return otherwise
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// offer names what a client is to load from the given address of ours.
func (s *Server) offer(c client, server netip.Addr) string {
	switch c.firmware {
	case firmwareIPXE:
		return s.scriptURL(server)
	case firmwareHTTP:
		return s.baseURL(server) + "/tftp/" + loaderFor(c)
	default:
		return loaderFor(c)
	}
}

func (s *Server) baseURL(server netip.Addr) string {
	return "http://" + netip.AddrPortFrom(server, uint16(s.httpPort.Load())).String()
}

func (s *Server) scriptURL(server netip.Addr) string {
	return s.baseURL(server) + "/ipxe/init.ipxe"
}
