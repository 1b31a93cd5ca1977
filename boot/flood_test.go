package boot_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/bmctl/bmctl/boot"
)

// hostile makes packets that are random, or valid ones that were cut off or changed
// in places; the same ones each time.
func hostile(seed uint64) func() []byte {
	random := rand.New(rand.NewPCG(seed, seed))
	valid := [][]byte{validDiscover(1), []byte("\x00\x01ipxe.efi\x00octet\x00blksize\x001468\x00tsize\x000\x00")}
	return func() []byte {
		packet := append([]byte(nil), valid[random.IntN(len(valid))]...)
		switch random.IntN(3) {
		case 0:
			packet = make([]byte, random.IntN(1400))
			for n := range packet {
				packet[n] = byte(random.Uint32())
			}
		case 1:
			packet = packet[:random.IntN(len(packet))]
		default:
			for range 1 + random.IntN(8) {
				packet[random.IntN(len(packet))] = byte(random.Uint32())
			}
		}
		return packet
	}
}

// validDiscover is that of a UEFI machine, of which there are as many as numbers.
func validDiscover(number uint32) []byte {
	mac := binary.BigEndian.AppendUint32(net.HardwareAddr{2, 1}, number)
	packet, err := dhcpv4.NewDiscovery(mac, dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016")))
	if err != nil {
		panic(err)
	}
	return packet.ToBytes()
}

// asker is a valid client of the DHCP port.
type asker struct {
	conn   *net.UDPConn
	number uint32
}

func newAsker(t testing.TB, server netip.AddrPort) *asker {
	t.Helper()
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &asker{conn: conn}
}

// ask is one DISCOVER and its OFFER.
func (a *asker) ask(t testing.TB) {
	t.Helper()
	a.number++
	if _, err := a.conn.Write(validDiscover(a.number)); err != nil {
		t.Fatal(err)
	}
	if err := a.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 2048)
	n, err := a.conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	offer, err := dhcpv4.FromBytes(buffer[:n])
	if err != nil || binary.BigEndian.Uint32(offer.ClientHWAddr[2:]) != a.number || offer.BootFileName != "ipxe.efi" {
		t.Fatalf("answer %v, %v", offer, err)
	}
}

// Ten thousand packets of nonsense, to each port in turn: a valid client in between
// is answered each time, and files are served afterwards.
func TestNonsenseStopsNobody(t *testing.T) {
	f := running(t)
	next, valid := hostile(1), newAsker(t, f.Addrs().DHCP)
	flood, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 77, 1, 66)})
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	ports := []netip.AddrPort{f.Addrs().DHCP, f.Addrs().ProxyDHCP, f.Addrs().TFTP}
	for n := range 10000 {
		if _, err := flood.WriteToUDPAddrPort(next(), ports[n%len(ports)]); err != nil {
			t.Fatal(err)
		}
		if n%50 == 0 {
			valid.ask(t)
		}
	}
	if got := drainTFTP(f.Addrs().TFTP); got < 1<<20-1<<16 {
		t.Errorf("%d bytes of the loader", got)
	}
}

// BenchmarkDiscoverInAFlood is the time of a valid client's DISCOVER and OFFER,
// alone and beside 10,000 packets a second of nonsense on the three ports.
func BenchmarkDiscoverInAFlood(b *testing.B) {
	for _, rate := range []int{0, 10000} {
		name := map[int]string{0: "alone", 10000: "flood"}[rate]
		b.Run(name, func(b *testing.B) {
			server := running(b)
			sent, stop := floodAt(b, rate, []netip.AddrPort{server.Addrs().DHCP, server.Addrs().ProxyDHCP, server.Addrs().TFTP})
			valid := newAsker(b, server.Addrs().DHCP)
			began := time.Now()
			for b.Loop() {
				valid.ask(b)
			}
			took := time.Since(began)
			stop()
			b.ReportMetric(float64(*sent)/took.Seconds(), "nonsense/s")
		})
	}
}

// floodAt sends packets of nonsense at a rate until stopped; sent is valid then.
func floodAt(b *testing.B, rate int, to []netip.AddrPort) (sent *int, stop func()) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 77, 1, 66)})
	if err != nil {
		b.Fatal(err)
	}
	sent, next := new(int), hostile(2)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		began := time.Now()
		for pace := time.NewTicker(time.Millisecond); ; {
			select {
			case <-done:
				return
			case <-pace.C:
			}
			for due := int(time.Since(began).Seconds() * float64(rate)); *sent < due; *sent++ {
				_, _ = conn.WriteToUDPAddrPort(next(), to[*sent%len(to)])
			}
		}
	}()
	return sent, func() { close(done); <-ended; conn.Close() }
}

// running is a server on free ports of loopback, without a log.
func running(b testing.TB) *boot.Server {
	b.Helper()
	server, err := boot.New(boot.Config{Decider: &decider{}, Advertise: loopback, Interface: "lo", ListenAddr: loopback})
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Bind(); err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Run(b.Context()) }()
	b.Cleanup(func() { // after the context's end
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return server
}
