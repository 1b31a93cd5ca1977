package pxeclient

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// stammerer answers each DISCOVER twice with the same offer, and then with one that
// is not for this machine. It tells what it was asked.
func stammerer(t *testing.T) (netip.AddrPort, <-chan *dhcpv4.DHCPv4) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	asked, done := make(chan *dhcpv4.DHCPv4, 10), make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDP(buffer)
			if err != nil {
				return
			}
			request, err := dhcpv4.FromBytes(buffer[:n])
			if err != nil {
				t.Error(err)
				return
			}
			asked <- request
			offer := offerOf("", "127.0.0.1", dhcpv4.OptServerIdentifier(net.IPv4(127, 0, 0, 1)), dhcpv4.OptClassIdentifier("PXEClient"), dhcpv4.OptBootFileName("a.efi"))
			offer.TransactionID, offer.ClientHWAddr = request.TransactionID, request.ClientHWAddr
			for range 2 {
				_, _ = conn.WriteToUDP(offer.ToBytes(), from)
			}
			offer.TransactionID[0]++
			offer.UpdateOption(dhcpv4.OptBootFileName("b.efi"))
			_, _ = conn.WriteToUDP(offer.ToBytes(), from)
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort(), asked
}

func TestOffersOfAWindow(t *testing.T) {
	server, asked := stammerer(t)
	var packets []Packet
	b := examiner(t, func(c *Client) {
		c.DHCP, c.Window, c.OnPacket = server, 200*time.Millisecond, func(p Packet) { packets = append(packets, p) }
	})
	begun := time.Now()
	offer, err := b.discover(t.Context(), b.firmwareIdentity())
	if err != nil || offer.File != "a.efi" || time.Since(begun) < b.Window {
		t.Errorf("%+v, %v after %v", offer, err, time.Since(begun))
	}
	if len(b.result.Offers) != 1 || !b.result.Offers[0].Won || b.result.Offers[0].After <= 0 || b.result.Offers[0].After > b.Window {
		t.Errorf("offers %+v", b.result.Offers)
	}
	request := <-asked
	if !request.ClientIPAddr.Equal(net.IPv4(127, 0, 0, 1)) || !request.GatewayIPAddr.IsUnspecified() || request.HopCount != 0 {
		t.Errorf("asked with ciaddr %v, giaddr %v", request.ClientIPAddr, request.GatewayIPAddr)
	}
	if len(packets) != 3 || packets[0].To != server || packets[1].From != server || packets[0].From != packets[1].To {
		t.Errorf("packets %+v", packets)
	}
}

// A failure is one step, wherever it comes to in the end.
func TestAFailureIsToldOnce(t *testing.T) {
	result, _, err := runScript(t.Context(), t, "#!ipxe\nchain --replace a.ipxe", map[string]string{"/dir/a.ipxe": "#!ipxe\nkernel nothing"})
	if err == nil {
		t.Fatal("it works")
	}
	if len(result.Steps) != 2 || result.Steps[1].Name != "kernel" || result.Steps[1].OK || result.Steps[1].Hint == "" {
		t.Errorf("steps %+v", result.Steps)
	}
	b := examiner(t, nil)
	_ = b.report(Step{Name: "again"}, err)
	if len(b.result.Steps) != 0 {
		t.Errorf("told again: %+v", b.result.Steps)
	}
}

func TestImagesOverTFTP(t *testing.T) {
	server := tftpServer(t, map[string][]byte{"k": []byte("kernel")})
	for _, fetch := range []bool{false, true} {
		b := examiner(t, func(c *Client) { c.TFTPPort, c.Fetch = int(server.Port()), fetch })
		base := &url.URL{Scheme: "tftp", Host: "127.0.0.1", Path: "/"}
		i := &interpreter{boot: b, builtins: builtins(), settings: b.settings(Offer{})}
		if err := i.run(t.Context(), "#!ipxe\nkernel k", base); err != nil || b.result.Steps[0].Bytes != 6 {
			t.Errorf("fetch %v: %v, %+v", fetch, err, b.result.Steps)
		}
		if err := i.run(t.Context(), "#!ipxe\ninitrd tftp://127.0.0.1/missing", base); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("fetch %v: %v", fetch, err)
		}
	}
}

func TestAReadingMayEndEarly(t *testing.T) {
	server := tftpServer(t, map[string][]byte{"x": make([]byte, 100000)})
	b := examiner(t, nil)
	content, err := b.again(t.Context(), server, "x", wish{block: 1024, options: true, limit: 10000})
	if err != nil || len(content) != 10240 {
		t.Errorf("%d bytes, %v", len(content), err)
	}
}
