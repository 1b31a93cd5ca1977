package pxeclient

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func TestBootMenus(t *testing.T) {
	id, pxe := dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 2, 5)), dhcpv4.OptClassIdentifier("PXEClient")
	const menu = "\x09\x0e\x80\x02\x04Disk\x00\x00\x04Quit" // type 0x8002, then 0
	const servers = "\x08\x07\x80\x02\x01\x0a\x00\x02\x09"
	file := dhcpv4.OptBootFileName("a.0")
	for _, c := range []struct {
		name   string
		packet *dhcpv4.DHCPv4
		phases int
		asked  string
	}{
		{"a menu", offerOf("", "10.0.2.5", id, pxe, vendor(menu+"\xff")), 2, "10.0.2.5"},
		{"a menu and its servers", offerOf("", "10.0.2.5", id, pxe, vendor(menu+servers+"\xff")), 2, "10.0.2.9"},
		{"a menu beside a file", offerOf("", "10.0.2.5", id, pxe, file, vendor("\x06\x01\x00"+menu+"\xff")), 2, "10.0.2.5"},
		{"a menu to be skipped for the file", offerOf("", "10.0.2.5", id, pxe, file, vendor("\x06\x01\x08"+menu+"\xff")), 1, "10.0.2.5"},
		{"a menu to be skipped for nothing", offerOf("", "10.0.2.5", id, pxe, vendor("\x06\x01\x08"+menu+"\xff")), 2, "10.0.2.5"},
		{"a truncated menu", offerOf("", "10.0.2.5", id, pxe, vendor("\x09\x05\x80\x02\x04Di\xff")), 1, "10.0.2.5"},
	} {
		for _, fw := range []Firmware{BIOS, UEFI} {
			o := read(fw, c.packet, netip.MustParseAddrPort("10.0.2.5:67"))
			if o.twoPhase() != (c.phases == 2) || o.requestFrom().String() != c.asked || o.Kind != ProxyPXE10 {
				t.Errorf("%s: %+v asks %s", c.name, o, o.requestFrom())
			}
		}
	}
	first := menuOf([]byte("\x80\x02\x04Disk\x00\x00\x04Quit"))[0]
	if got := string(first.choice()); got != "\x47\x04\x80\x02\x00\x00\xff" || first.Text != "Disk" {
		t.Errorf("%+v is chosen by %q", first, got)
	}
}

func TestVerdicts(t *testing.T) {
	from := netip.MustParseAddrPort("10.0.2.5:67")
	server := from.Addr()
	won := Offer{Kind: ProxyPXE10, From: from, Server: server, File: "a", Won: true, Why: "because"}
	for _, c := range []struct {
		o     Offer
		found bool
		want  string
	}{
		{won, true, "wins as proxy-pxe10: because"},
		{Offer{Kind: Useless, Why: "because"}, true, "not accepted: because"},
		{Offer{Kind: DHCPOnly}, true, "gives an address"},
		{Offer{Kind: DHCPBINL}, true, "loses as dhcp-binl: proxy-pxe10 is preferred"},
		{Offer{Kind: ProxyPXE10}, true, "loses: another proxy-pxe10 was first or complete"},
		{Offer{Kind: ProxyPXE10, Server: server}, false, "not enough as proxy-pxe10: it names no file"},
		{Offer{Kind: ProxyPXE10, File: "a"}, false, "not enough as proxy-pxe10: it names no server"},
		{Offer{Kind: ProxyBINL, Server: server}, false, "not enough as proxy-binl: nobody offers an address"},
	} {
		if got := c.o.verdict(won, c.found); got != c.want {
			t.Errorf("%+v: %q, not %q", c.o, got, c.want)
		}
	}
}

func TestHintsWhereNoOfferIsOfUse(t *testing.T) {
	from := netip.MustParseAddrPort("10.0.2.5:67")
	address := Offer{Kind: DHCPOnly, From: netip.MustParseAddrPort("10.0.2.1:67"), Address: netip.MustParseAddr("10.0.2.141")}
	for _, c := range []struct {
		offers []Offer
		want   string
	}{
		{nil, "broadcast domain"},
		{[]Offer{address}, "broadcast domain"},
		{[]Offer{address, {Kind: Useless, From: from, cure: "do this"}}, "10.0.2.5: do this"},
		{[]Offer{{Kind: ProxyBINL, From: from}}, "must give out addresses"},
		{[]Offer{address, {Kind: ProxyPXE10, From: from}}, "10.0.2.5 must name a boot file"},
	} {
		b := &boot{Client: Client{Interface: "eth0"}}
		if got := b.noOfferHint(c.offers); !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q", c.offers, got)
		}
	}
	b := &boot{Client: Client{DHCP: from}}
	if got := b.noOfferHint(nil); !strings.Contains(got, "must run there") {
		t.Error(got)
	}
}

func TestRivalsAreNamed(t *testing.T) {
	proxy := Offer{Kind: ProxyBINL, From: netip.MustParseAddrPort("10.0.2.5:67")}
	site := Offer{Kind: DHCPBINL, From: netip.MustParseAddrPort("10.0.2.1:67"), Won: true}
	b := &boot{warned: map[string]bool{}}
	b.judge([]Offer{proxy, site}, site)
	if got := strings.Join(b.warnings, "\n"); !strings.Contains(got, "10.0.2.5 offers a network boot too") || !strings.Contains(got, "10.0.2.1 sends option 60") {
		t.Errorf("warns of %q", got)
	}
}

func TestMadeUpUUIDsAreRecognised(t *testing.T) {
	one, two := MadeUpUUID(), MadeUpUUID()
	if !strings.HasPrefix(one, MadeUpUUIDPrefix) || one == two || one[14] != '4' || !strings.ContainsRune("89ab", rune(one[19])) {
		t.Errorf("%s, %s", one, two)
	}
	if got := MadeUpMAC(); !strings.HasPrefix(got, "02:00:00:") || got == MadeUpMAC() {
		t.Error(got)
	}
}
