package boot_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/pin/tftp/v3"
	"go.uber.org/goleak"

	"github.com/bmctl/bmctl/boot"
)

func TestMain(m *testing.M) {
	if place := os.Getenv(serveEnv); place != "" {
		if err := serveAlone(place); err != nil {
			panic(err)
		}

		return
	}

	goleak.VerifyTestMain(m)
}

var loopback = netip.MustParseAddr("127.0.0.1")

// decider answers every machine alike and remembers them.
type decider struct {
	mu       sync.Mutex
	decision boot.Decision
	err      error
	asked    []boot.Machine
}

func (d *decider) Decide(_ context.Context, m boot.Machine) (boot.Decision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, m)
	return d.decision, d.err
}

func (d *decider) machines() []boot.Machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]boot.Machine(nil), d.asked...)
}

// fixture is a running server on free ports of loopback.
type fixture struct {
	*boot.Server
	http   string
	events chan boot.Event
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

func start(t *testing.T, config boot.Config) *fixture {
	t.Helper()
	f := &fixture{events: make(chan boot.Event, 1000), log: &lockedBuffer{}}
	if !config.Advertise.IsValid() {
		config.Advertise = loopback
	}
	config.Interface, config.ListenAddr = "127.0.0.1", loopback
	config.Observe = func(e boot.Event) { f.events <- e }
	config.Log = slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if config.Decider == nil {
		config.Decider = &decider{decision: boot.Decision{Kind: boot.Wait, Reason: "test"}}
	}
	server, err := boot.New(config)
	if err != nil {
		t.Fatal(err)
	}
	f.Server = server
	web := httptest.NewServer(server.Handler())
	f.http = web.URL
	addr := netip.MustParseAddrPort(web.Listener.Addr().String())
	if err := server.SetHTTPPort(int(addr.Port())); err != nil {
		t.Fatal(err)
	}
	if err := server.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		web.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return f
}

// event waits for the next event of a type.
func (f *fixture) event(t *testing.T, kind boot.EventType) boot.Event {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		select {
		case e := <-f.events:
			if e.Type == kind {
				return e
			}
		case <-deadline:
			t.Fatalf("no event of type %s in 5 s; the log says:\n%s", kind, f.log.text())
		}
	}
}

// exchange sends a packet from an address of loopback and returns the answer.
func exchange(t *testing.T, from string, to netip.AddrPort, packet []byte) (*dhcpv4.DHCPv4, netip.AddrPort) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.WriteToUDPAddrPort(packet, to); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 2048)
	n, source, err := conn.ReadFromUDPAddrPort(buffer)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := dhcpv4.FromBytes(buffer[:n])
	if err != nil {
		t.Fatal(err)
	}
	return answer, source
}

func discover(t *testing.T, mac string, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	t.Helper()
	hardware, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	packet, err := dhcpv4.NewDiscovery(hardware)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range options {
		packet.UpdateOption(o)
	}
	return packet
}

func TestOfferGoesBackToItsSource(t *testing.T) {
	f := start(t, boot.Config{Advertise: netip.MustParseAddr("10.9.8.7")})
	packet := discover(t, "02:00:00:00:00:01", dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016"),
		dhcpv4.OptGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{0, 7}),
		dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, []byte("\x00DELLB\x00\x106\x80T\xb4\xc0OVD3")))
	answer, source := exchange(t, "127.77.1.2", f.Addrs().DHCP, packet.ToBytes())
	if source != f.Addrs().DHCP {
		t.Errorf("answered from %v, not from %v", source, f.Addrs().DHCP)
	}
	if got := answer.ServerIdentifier().String(); got != "10.9.8.7" {
		t.Errorf("option 54 is %s, not the advertised address", got)
	}
	e := f.event(t, boot.EventDiscover)
	if e.UUID != "4c4c4544-0042-3610-8054-b4c04f564433" || e.Firmware != "UEFI" {
		t.Errorf("event %+v", e)
	}
	if e.MAC != "02:00:00:00:00:01" || e.Arch != "amd64" || e.File != "ipxe.efi" || e.Interface != "lo" || e.Addr.String() != "127.77.1.2" {
		t.Errorf("event %+v", e)
	}
	if log := f.log.text(); !strings.Contains(log, `msg="offering boot response" source=02:00:00:00:00:01 boot_filename=ipxe.efi`) {
		t.Errorf("log:\n%s", log)
	}
}

func TestTFTPServesWhatHTTPServes(t *testing.T) {
	for _, single := range []bool{false, true} {
		f := start(t, boot.Config{TFTPSinglePort: single})
		for _, name := range []string{"ipxe.efi", "undionly.kpxe", "arm64/snp.efi", "autoexec.ipxe"} {
			over := map[string][]byte{"TFTP": fetchTFTP(t, f, name), "HTTP": fetchHTTP(t, f.http+"/tftp/"+name)}
			if len(over["TFTP"]) == 0 || !bytes.Equal(over["TFTP"], over["HTTP"]) {
				t.Errorf("%s: %d bytes over TFTP, %d over HTTP, not the same", name, len(over["TFTP"]), len(over["HTTP"]))
			}
			for range over {
				if e := f.event(t, boot.EventLoader); e.File != name || e.Bytes != int64(len(over["TFTP"])) {
					t.Errorf("event %+v", e)
				}
			}
		}
	}
}

func fetchTFTP(t *testing.T, f *fixture, name string) []byte {
	t.Helper()
	client, err := tftp.NewClient(f.Addrs().TFTP.String())
	if err != nil {
		t.Fatal(err)
	}
	client.SetBlockSize(1468)
	from, err := client.Receive(name, "octet")
	if err != nil {
		t.Fatal(err)
	}
	var content bytes.Buffer
	if _, err := from.WriteTo(&content); err != nil {
		t.Fatal(err)
	}
	return content.Bytes()
}

func fetchHTTP(t *testing.T, url string) []byte {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, response.Status, err)
	}
	return content
}

func TestIgnoredPacketsLeaveAReason(t *testing.T) {
	f := start(t, boot.Config{})
	conn, err := net.Dial("udp4", f.Addrs().DHCP.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := discover(t, "02:00:00:00:00:09", dhcpv4.OptClassIdentifier("PXEClient"), dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 2, 1)))
	decline := discover(t, "02:00:00:00:00:09", dhcpv4.OptClassIdentifier("PXEClient"), dhcpv4.OptMessageType(dhcpv4.MessageTypeDecline))
	request.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeRequest))
	for _, c := range []struct {
		packet []byte
		reason string
	}{
		{[]byte("junk"), "malformed DHCP packet of 4 bytes"},
		{nil, "malformed DHCP packet of 0 bytes"},
		{bytes.Repeat([]byte{1}, 2000), "malformed DHCP packet of 2000 bytes"},
		{discover(t, "02:00:00:00:00:09").ToBytes(), "not a network boot"},
		{request.ToBytes(), "asks the DHCP server 10.0.2.1 for an address"},
		{decline.ToBytes(), "DECLINE gets no answer on this port"},
	} {
		if _, err := conn.Write(c.packet); err != nil {
			t.Fatal(err)
		}
		if e := f.event(t, boot.EventIgnored); !strings.Contains(e.Reason, c.reason) || e.Addr != loopback || e.Interface != "lo" || e.Time.IsZero() {
			t.Errorf("%q: event %+v", c.reason, e)
		}
	}
}

func TestAFloodFromOneMACIsCut(t *testing.T) {
	f := start(t, boot.Config{})
	packet := discover(t, "02:00:00:00:00:0a", dhcpv4.OptClassIdentifier("PXEClient")).ToBytes()
	conn, err := net.Dial("udp4", f.Addrs().DHCP.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 40 {
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	if e := f.event(t, boot.EventIgnored); e.Reason != "asks more than 10 times a second" {
		t.Errorf("event %+v", e)
	}
	// Another machine is not affected.
	exchange(t, "127.0.0.1", f.Addrs().DHCP, discover(t, "02:00:00:00:00:0b", dhcpv4.OptClassIdentifier("PXEClient")).ToBytes())
}

func TestSecondPhase(t *testing.T) {
	f := start(t, boot.Config{})
	packet := discover(t, "02:00:00:00:00:0c", dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016"))
	packet.ClientIPAddr = net.IPv4(127, 77, 1, 2)
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform} {
		packet.UpdateOption(dhcpv4.OptMessageType(kind))
		answer, source := exchange(t, "127.77.1.2", f.Addrs().ProxyDHCP, packet.ToBytes())
		if source != f.Addrs().ProxyDHCP || answer.MessageType() != dhcpv4.MessageTypeAck || answer.BootFileName != "ipxe.efi" || !answer.ClientIPAddr.Equal(packet.ClientIPAddr) {
			t.Errorf("from %v: %v", source, answer)
		}
		if e := f.event(t, boot.EventRequest); e.File != "ipxe.efi" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestReplyDelay(t *testing.T) {
	const delay = 200 * time.Millisecond
	f := start(t, boot.Config{DHCPReplyDelay: delay})
	began := time.Now()
	exchange(t, "127.0.0.1", f.Addrs().DHCP, discover(t, "02:00:00:00:00:0d", dhcpv4.OptClassIdentifier("PXEClient")).ToBytes())
	if took := time.Since(began); took < delay {
		t.Errorf("answered after %v", took)
	}
}

func TestWhatIsOffIsNotBound(t *testing.T) {
	for _, c := range []struct {
		config          boot.Config
		dhcp, proxyDHCP bool
	}{
		{boot.Config{}, true, true},
		{boot.Config{DisableBroadcast: true}, false, true},
		{boot.Config{DisableDHCPProxy: true}, false, false},
	} {
		addrs := start(t, c.config).Addrs()
		if addrs.DHCP.IsValid() != c.dhcp || addrs.ProxyDHCP.IsValid() != c.proxyDHCP || !addrs.TFTP.IsValid() {
			t.Errorf("%+v: bound %+v", c.config, addrs)
		}
	}
}

func TestWithTheProxyOffTheLoaderFindsTheScript(t *testing.T) {
	f := start(t, boot.Config{DisableDHCPProxy: true})
	for _, name := range []string{"ipxe.efi", "ipxe-arm64.efi"} {
		if loader := fetchTFTP(t, f, name); !bytes.Contains(loader, []byte("chain "+f.http+"/ipxe/init.ipxe")) {
			t.Errorf("%s does not chain init.ipxe", name)
		}
	}
	if log := f.log.text(); strings.Count(log, "BIOS machines load iPXE for ever") != 1 {
		t.Errorf("the log does not say once what DHCP needs:\n%s", log)
	}
}

func TestOwnBuilds(t *testing.T) {
	dir := t.TempDir()
	room := strings.Repeat("#", 1017)
	for name, content := range map[string]string{
		"ipxe.efi": "MZ\n# *PLACEHOLDER START*" + room + "# *PLACEHOLDER END*\nshell", "sub/grub.cfg": "x",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := start(t, boot.Config{IPXEDir: dir, DisableDHCPProxy: true})
	got := string(fetchTFTP(t, f, "amd64/snp.efi"))
	if !strings.HasPrefix(got, "MZ\n# *PLACEHOLDER START*\nset n:int32 0\n") || !strings.Contains(got, "chain "+f.http+"/ipxe/init.ipxe") ||
		!strings.HasSuffix(got, "\n# *PLACEHOLDER END*\nshell") || len(got) != 3+21+1017+19+6 {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	if got := string(fetchTFTP(t, f, "/sub\\grub.cfg")); got != "x" {
		t.Errorf("sub/grub.cfg is %q", got)
	}
	if len(fetchTFTP(t, f, "undionly.kpxe")) < 50000 {
		t.Error("the embedded BIOS build is gone")
	}
	for name, content := range map[string]string{"a": "# *PLACEHOLDER START*", "b": "# *PLACEHOLDER START*#### *PLACEHOLDER END*"} {
		bad := t.TempDir()
		if err := os.WriteFile(filepath.Join(bad, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := boot.New(boot.Config{Decider: &decider{}, Advertise: loopback, IPXEDir: bad}); err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%q: %v", content, err)
		}
	}
	if _, err := boot.New(boot.Config{Decider: &decider{}, Advertise: loopback, IPXEDir: "/nonesuch"}); err == nil {
		t.Error("a directory that is not there was accepted")
	}
}

func TestNewNamesEveryProblem(t *testing.T) {
	_, err := boot.New(boot.Config{HTTPPort: -1, DHCPPort: 70000, Style: "plain", DiskMethod: "floppy", DHCPReplyDelay: -1})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"no decider", "invalid IP is not an IPv4 address", "-1 is not a port", "70000 is not a port", `PXE style "plain"`, `method "floppy"`, "delay of -1ns"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	for _, iface := range []string{"nonesuch0", "192.0.2.77", "::1"} {
		server, err := boot.New(boot.Config{Decider: &decider{}, Advertise: loopback, Interface: iface})
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Bind(); err == nil || !strings.Contains(err.Error(), iface) {
			t.Errorf("interface %s: %v", iface, err)
		}
	}
}

// Firmware drops an answer that comes from another address than it asked, and so
// does a TFTP client.
func TestAnswersComeFromTheAddressAsked(t *testing.T) {
	server, err := boot.New(boot.Config{Decider: &decider{}, Advertise: loopback, HTTPPort: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	at := func(bound netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.5"), bound.Port())
	}
	packet := discover(t, "02:00:00:00:00:0e", dhcpv4.OptClassIdentifier("PXEClient"))
	answer, source := exchange(t, "127.77.1.2", at(server.Addrs().DHCP), packet.ToBytes())
	if source != at(server.Addrs().DHCP) || answer.ServerIdentifier().String() != "127.0.0.1" {
		t.Errorf("answered from %v, naming %v", source, answer.ServerIdentifier())
	}
	p := newPeer(t, at(server.Addrs().TFTP))
	p.ask(1, "ipxe.efi", "octet")
	p.hearData(1)
	if p.from.Addr() != p.server.Addr() || p.from.Port() == p.server.Port() {
		t.Errorf("TFTP answered from %v", p.from)
	}
	p.say(5, 0, "enough\x00")
}
