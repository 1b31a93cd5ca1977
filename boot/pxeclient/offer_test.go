package pxeclient

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// offerOf builds an offer; yiaddr "" is a proxy's.
func offerOf(yiaddr, siaddr string, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	packet := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootReply, YourIPAddr: net.ParseIP(yiaddr).To4(), ServerIPAddr: net.ParseIP(siaddr).To4(), Options: dhcpv4.OptionsFromList(options...)}
	packet.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))
	return packet
}

func vendor(text string) dhcpv4.Option {
	return dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte(text))
}

func inFields(packet *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	packet.BootFileName = "ipxe-arm64.efi"
	return packet
}

func TestOffersAsFirmwareReadsThem(t *testing.T) {
	id := dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 2, 5))
	pxe, web := dhcpv4.OptClassIdentifier("PXEClient"), dhcpv4.OptClassIdentifier("HTTPClient")
	file := dhcpv4.OptBootFileName("ipxe.efi")
	for _, c := range []struct {
		name   string
		fw     Firmware
		packet *dhcpv4.DHCPv4
		want   OfferKind
		server string
		file   string
	}{
		{"without option 54", UEFI, offerOf("", "10.0.2.5", pxe, file), Useless, "10.0.2.5", "ipxe.efi"},
		{"option 54 of zero", UEFI, offerOf("", "10.0.2.5", dhcpv4.OptServerIdentifier(net.IPv4zero), pxe, file), Useless, "10.0.2.5", "ipxe.efi"},
		{"without option 54, to iPXE", IPXE, offerOf("", "10.0.2.5", pxe, file), ProxyPXE10, "10.0.2.5", "ipxe.efi"},
		{"overload out of range", UEFI, offerOf("", "10.0.2.5", id, pxe, file, dhcpv4.OptGeneric(dhcpv4.OptionOptionOverload, []byte{4})), Useless, "10.0.2.5", "ipxe.efi"},
		{"proxy, no option 43", UEFI, offerOf("", "10.0.2.5", id, pxe, file), ProxyBINL, "10.0.2.5", "ipxe.efi"},
		{"proxy, option 43", UEFI, offerOf("", "10.0.2.5", id, pxe, file, vendor("\x06\x01\x08\xff")), ProxyPXE10, "10.0.2.5", "ipxe.efi"},
		{"proxy, an option 43 without boot servers", UEFI, offerOf("", "10.0.2.5", id, pxe, file, vendor("\x47\x04\x00\x00\x00\x00\xff")), ProxyBINL, "10.0.2.5", "ipxe.efi"},
		{"proxy, a boot server list", UEFI, offerOf("", "10.0.2.5", id, pxe, file, vendor("\x06\x01\x08\x08\x07\x80\x00\x01\x0a\x00\x02\x09\xff")), ProxyPXE10, "10.0.2.9", "ipxe.efi"},
		{"proxy, siaddr 0", UEFI, offerOf("", "", id, pxe, file, vendor("\x06\x01\x08\xff")), ProxyPXE10, "10.0.2.5", "ipxe.efi"},
		{"the site's server, plain", UEFI, offerOf("10.0.2.141", "", id), DHCPOnly, "10.0.2.5", ""},
		{"the site's server, option 60", UEFI, offerOf("10.0.2.141", "", id, pxe), DHCPBINL, "10.0.2.5", ""},
		{"the site's server, option 60 and 43", UEFI, offerOf("10.0.2.141", "10.0.2.1", id, pxe, file, vendor("\x06\x01\x08\xff")), DHCPPXE10, "10.0.2.1", "ipxe.efi"},
		{"nothing", UEFI, offerOf("", "", id), Useless, "10.0.2.5", ""},
		{"HTTP Boot", UEFIHTTP, offerOf("", "10.0.2.5", id, web, dhcpv4.OptBootFileName("http://10.0.2.5/x.efi")), BootURL, "10.0.2.5", "http://10.0.2.5/x.efi"},
		{"HTTP Boot without a URL", UEFIHTTP, offerOf("", "10.0.2.5", id, web, file), Useless, "10.0.2.5", "ipxe.efi"},
		{"HTTP Boot, offered PXE", UEFIHTTP, offerOf("", "10.0.2.5", id, pxe, file), Useless, "10.0.2.5", "ipxe.efi"},
		{"U-Boot, the fields", UBoot, inFields(offerOf("", "10.0.2.5", id)), ProxyPXE10, "10.0.2.5", "ipxe-arm64.efi"},
		{"U-Boot, the fields, and an address", UBoot, inFields(offerOf("10.0.2.141", "10.0.2.1")), DHCPPXE10, "10.0.2.1", "ipxe-arm64.efi"},
		{"U-Boot, options alone", UBoot, offerOf("", "10.0.2.5", id, pxe, file), Useless, "10.0.2.5", ""},
		{"U-Boot, an address and options", UBoot, offerOf("10.0.2.141", "10.0.2.1", id, pxe, file), DHCPOnly, "10.0.2.1", ""},
		{"a Pi, its service", RPi, offerOf("", "10.0.2.5", id, pxe, file, vendor("\x09\x14\x00\x00\x11Raspberry Pi Boot\x0a\x04\x00PXE\xff")), ProxyPXE10, "10.0.2.5", "start4.elf"},
		{"a Pi, another menu", RPi, offerOf("", "10.0.2.5", id, pxe, file, vendor("\x09\x07\x00\x00\x04Boot\xff")), Useless, "10.0.2.5", ""},
		{"a Pi, an address", RPi, offerOf("10.0.2.141", "", id), DHCPOnly, "10.0.2.5", ""},
		{"iPXE, no file", IPXE, offerOf("", "10.0.2.5", id, pxe), ProxyBINL, "10.0.2.5", ""},
	} {
		got := read(c.fw, c.packet, netip.MustParseAddrPort("10.0.2.5:67"))
		if got.Kind != c.want || got.Server.String() != c.server || got.File != c.file || got.Why == "" {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestWhichOfferWins(t *testing.T) {
	of := func(kind OfferKind, address bool, file string) Offer {
		o := Offer{Kind: kind, Server: netip.MustParseAddr("10.0.2.5"), File: file}
		if address {
			o.Address = netip.MustParseAddr("10.0.2.141")
		}
		return o
	}
	var (
		plain, named        = of(DHCPOnly, true, ""), of(DHCPOnly, true, "site.efi")
		proxyBINL, proxyPXE = of(ProxyBINL, false, ""), of(ProxyPXE10, false, "a.efi")
		siteBINL, sitePXE   = of(DHCPBINL, true, ""), of(DHCPPXE10, true, "b.efi")
		fileless, unwelcome = of(ProxyPXE10, false, ""), of(Useless, false, "x")
		nobody              OfferKind
	)
	for _, c := range []struct {
		name   string
		offers []Offer
		leased bool
		want   OfferKind
	}{
		{"none", nil, true, nobody},
		{"a proxy but no address", []Offer{proxyBINL, proxyPXE}, false, nobody},
		{"a proxy and a lease", []Offer{proxyBINL}, true, ProxyBINL},
		{"a proxy and an address", []Offer{plain, proxyBINL}, false, ProxyBINL},
		{"the site's option 60 beats a two-phase proxy", []Offer{proxyBINL, siteBINL}, false, DHCPBINL},
		{"the site's option 60 beats a one-phase proxy", []Offer{siteBINL, proxyPXE}, false, DHCPBINL},
		{"unless another server gives an address", []Offer{siteBINL, proxyPXE, plain}, false, ProxyPXE10},
		{"the site's one-phase offer beats all", []Offer{proxyPXE, siteBINL, sitePXE}, false, DHCPPXE10},
		{"a proxy beats the site's file name", []Offer{named, proxyBINL}, false, ProxyBINL},
		{"the site's file name alone", []Offer{named}, false, DHCPOnly},
		{"an address alone", []Offer{plain}, false, nobody},
		{"one phase without a file", []Offer{plain, fileless}, false, nobody},
		{"dropped ones", []Offer{plain, unwelcome}, false, nobody},
	} {
		if got, found := choose(UEFI, c.offers, c.leased); got.Kind != c.want || found != (c.want != nobody) {
			t.Errorf("%s: %q wins", c.name, got.Kind)
		}
	}
	if got, _ := choose(IPXE, []Offer{siteBINL, proxyPXE}, false); got.Kind != ProxyPXE10 {
		t.Errorf("iPXE, beside the site's option 60: %q wins", got.Kind)
	}
}

func TestNobodyIsNamed(t *testing.T) {
	if got := describe(nil); got != "nobody answered" {
		t.Error(got)
	}
	two := describe([]Offer{{Kind: Useless, Why: "b", From: netip.MustParseAddrPort("10.0.0.2:67")}, {Kind: DHCPOnly, Why: "a", From: netip.MustParseAddrPort("10.0.0.1:67")}, {Kind: DHCPOnly, Why: "a", From: netip.MustParseAddrPort("10.0.0.1:67")}})
	if two != "10.0.0.1 dhcp-only: a; 10.0.0.2 not accepted: b" || strings.Count(two, "10.0.0.1") != 1 {
		t.Error(two)
	}
}

func TestWhichPacketsAreAnswers(t *testing.T) {
	request := &dhcpv4.DHCPv4{TransactionID: dhcpv4.TransactionID{1}, ClientHWAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	for name, change := range map[string]func(*dhcpv4.DHCPv4){
		"":                     func(*dhcpv4.DHCPv4) {},
		"another xid":          func(d *dhcpv4.DHCPv4) { d.TransactionID[0] = 2 },
		"another machine's":    func(d *dhcpv4.DHCPv4) { d.ClientHWAddr = net.HardwareAddr{2, 0, 0, 0, 0, 2} },
		"a request":            func(d *dhcpv4.DHCPv4) { d.OpCode = dhcpv4.OpcodeBootRequest },
		"without option 53":    func(d *dhcpv4.DHCPv4) { d.DeleteOption(dhcpv4.OptionDHCPMessageType) },
		"option 53 of 10":      func(d *dhcpv4.DHCPv4) { d.UpdateOption(dhcpv4.OptMessageType(10)) },
		"option 53 of 2 bytes": func(d *dhcpv4.DHCPv4) { d.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionDHCPMessageType, []byte{2, 2})) },
	} {
		answer := offerOf("", "10.0.2.5")
		answer.TransactionID, answer.ClientHWAddr = request.TransactionID, request.ClientHWAddr
		change(answer)
		if belongs(answer, request) != (name == "") {
			t.Errorf("%q: belongs %v", name, name != "")
		}
	}
}
