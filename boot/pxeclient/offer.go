package pxeclient

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// OfferKind is what a firmware takes an offer for. The names are those of EDK2
// (PxeBcDhcp4.h).
type OfferKind string

// The kinds of offer.
const (
	DHCPOnly   OfferKind = "dhcp-only"    // an address, no PXE
	DHCPPXE10  OfferKind = "dhcp-pxe10"   // an address and the file
	DHCPBINL   OfferKind = "dhcp-binl"    // an address; the file is asked for on 4011
	ProxyPXE10 OfferKind = "proxy-pxe10"  // the file
	ProxyBINL  OfferKind = "proxy-binl"   // the file is asked for on 4011
	BootURL    OfferKind = "http"         // a URL for HTTP Boot
	Useless    OfferKind = "not accepted" // dropped; Why says why
)

// Offer is a DHCP offer as a firmware reads it.
type Offer struct {
	Kind OfferKind
	// Why is the reason of Kind.
	Why string
	// From is where the packet came from.
	From netip.AddrPort
	// Address is the address offered; zero from a proxy.
	Address netip.Addr
	// Server is where the file is, and File its name or URL.
	Server netip.Addr
	File   string
	// Menu is the boot menu of a one-phase offer that does not say to use the file at
	// once: its first item is asked for on port 4011.
	Menu []MenuItem
	// After is the time from the question to this offer; Won says that the firmware
	// takes it.
	After time.Duration
	Won   bool
	// Verdict says in words what the firmware makes of the offer beside the others.
	Verdict string

	menuServer netip.Addr // of the first item
	cure       string     // what makes a useless offer useful
}

// twoPhase says that the file is asked for on port 4011.
func (o Offer) twoPhase() bool {
	return o.Kind == DHCPBINL || o.Kind == ProxyBINL || len(o.Menu) > 0
}

// requestFrom is the server that is asked.
func (o Offer) requestFrom() netip.Addr {
	if len(o.Menu) > 0 && o.menuServer.IsValid() {
		return o.menuServer
	}
	return o.Server
}

// same says that an offer is the repetition of another.
func (o Offer) same(other Offer) bool {
	return o.From == other.From && o.Kind == other.Kind && o.Address == other.Address && o.Server == other.Server && o.File == other.File
}

// read classifies an offer for a firmware. Its rules are EDK2's: those of BIOS
// ROMs are the same but laxer, as far as they are known.
func read(fw Firmware, packet *dhcpv4.DHCPv4, from netip.AddrPort) Offer {
	o := Offer{From: from, Address: addr(packet.YourIPAddr), Server: bootServer(packet), File: bootFile(packet)}
	switch fw {
	case UBoot:
		o.readUBoot(packet)
	case RPi:
		o.readPi(packet)
	default:
		o.Kind, o.Why = kindOf(fw, packet)
		o.readMenu(vendorOptions(packet))
	}
	if o.Kind == Useless && o.cure == "" {
		o.cure = cureOf(fw, packet)
	}
	return o
}

// readMenu takes over the boot menu, unless the offer has a file and says that the
// menu is to be skipped for it (43.6, bit 3).
func (o *Offer) readMenu(vendor dhcpv4.Options) {
	control := vendor[6]
	skip := len(control) == 1 && control[0]&(1<<3) != 0 && o.File != ""
	if skip || o.Kind != ProxyPXE10 && o.Kind != DHCPPXE10 {
		return
	}
	if o.Menu = menuOf(vendor[9]); len(o.Menu) > 0 {
		o.menuServer = bootServers(vendor[8])[o.Menu[0].Type]
	}
}

// cureOf says what the sender of an offer that is not accepted has to change, or
// nothing where it is no network boot at all.
func cureOf(fw Firmware, packet *dhcpv4.DHCPv4) string {
	class := string(packet.Options.Get(dhcpv4.OptionClassIdentifier))
	switch {
	case !strings.HasPrefix(class, "PXEClient") && !strings.HasPrefix(class, "HTTPClient"):
		return ""
	case !addr(packet.ServerIdentifier()).IsValid():
		return "its offers must carry option 54 (server identifier); bmctl serve's do"
	case fw == UEFIHTTP && strings.HasPrefix(class, "HTTPClient"):
		return "for HTTP Boot the boot file must be a URL"
	case fw == UEFIHTTP:
		return "for HTTP Boot the offer must carry option 60 HTTPClient and a URL"
	default:
		return "its offers must have an option 52 of 1, 2 or 3, or none"
	}
}

func kindOf(fw Firmware, packet *dhcpv4.DHCPv4) (OfferKind, string) {
	if fw != IPXE && !addr(packet.ServerIdentifier()).IsValid() {
		return Useless, "no server identifier (option 54): EDK2 drops the packet silently"
	}
	if over := packet.Options.Get(dhcpv4.OptionOptionOverload); over != nil && (len(over) != 1 || over[0] < 1 || over[0] > 3) {
		return Useless, fmt.Sprintf("option overload (52) of %v: EDK2 drops the packet", over)
	}
	class := string(packet.Options.Get(dhcpv4.OptionClassIdentifier))
	proxy := !addr(packet.YourIPAddr).IsValid()
	switch {
	case fw == UEFIHTTP && strings.HasPrefix(class, "HTTPClient"):
		return bootURL(bootFile(packet))
	case fw == UEFIHTTP || !strings.HasPrefix(class, "PXEClient"):
		return plain(proxy, class)
	case fw == IPXE && bootFile(packet) != "" && bootServer(packet).IsValid():
		return pick(proxy, ProxyPXE10, DHCPPXE10), "file and server are in the offer"
	case fw != IPXE && hasPXE10(packet):
		return pick(proxy, ProxyPXE10, DHCPPXE10), "option 43 makes it one phase"
	default:
		return pick(proxy, ProxyBINL, DHCPBINL), "two phases, the file is asked for on port 4011"
	}
}

func bootURL(file string) (OfferKind, string) {
	if !strings.HasPrefix(file, "http://") && !strings.HasPrefix(file, "https://") {
		return Useless, fmt.Sprintf("HTTPClient, but %q is no URL", file)
	}
	return BootURL, "HTTPClient with a URL"
}

func plain(proxy bool, class string) (OfferKind, string) {
	if proxy {
		return Useless, fmt.Sprintf("neither an address nor a network boot (vendor class %q)", class)
	}
	return DHCPOnly, "an address, no network boot"
}

func pick(proxy bool, ifProxy, otherwise OfferKind) OfferKind {
	if proxy {
		return ifProxy
	}
	return otherwise
}

// hasPXE10 says whether option 43 has one of the boot server sub-options 6 to 10.
func hasPXE10(packet *dhcpv4.DHCPv4) bool {
	for code := range vendorOptions(packet) {
		if code >= 6 && code <= 10 {
			return true
		}
	}
	return false
}

// vendorOptions reads option 43, whose sub-options have the form of options.
func vendorOptions(packet *dhcpv4.DHCPv4) dhcpv4.Options {
	options := dhcpv4.Options{}
	if err := options.FromBytes(packet.Options.Get(dhcpv4.OptionVendorSpecificInformation)); err != nil {
		return nil
	}
	return options
}

// bootFile is option 67, else the file field.
func bootFile(packet *dhcpv4.DHCPv4) string {
	if file := packet.Options.Get(dhcpv4.OptionBootfileName); len(file) > 0 {
		return strings.TrimRight(string(file), "\x00")
	}
	return packet.BootFileName
}

// bootServer is the first of option 43.8 if 43.6 says to use it, siaddr and
// option 54.
func bootServer(packet *dhcpv4.DHCPv4) netip.Addr {
	vendor := vendorOptions(packet)
	if control, list := vendor[6], vendor[8]; len(control) == 1 && control[0]&(1<<3) != 0 && len(list) >= 7 {
		return addr(list[3:7]) // after type (2 bytes) and count
	}
	if server := addr(packet.ServerIPAddr); server.IsValid() {
		return server
	}
	return addr(packet.ServerIdentifier())
}

// addr is the zero Addr for 0.0.0.0 and for what is no IPv4 address.
func addr(ip []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if !ok || a.Unmap().IsUnspecified() || !a.Unmap().Is4() {
		return netip.Addr{}
	}
	return a.Unmap()
}

// preference is EDK2's order (PxeBcSelectDhcp4Offer). A proxy's offer needs an
// address from somewhere.
var preference = []OfferKind{DHCPPXE10, ProxyPXE10, DHCPBINL, ProxyBINL, BootURL, DHCPOnly}

// choose returns the offer that the firmware boots from, or false. leased says
// that the machine has an address without any offer.
func choose(fw Firmware, offers []Offer, leased bool) (Offer, bool) {
	// EDK2 combines a proxy's offer with one that gives an address and nothing
	// else, so where the only DHCP server sends option 60, no proxy's is taken.
	beside := leased
	for _, o := range offers {
		leased = leased || o.Address.IsValid()
		beside = beside || o.Address.IsValid() && (o.Kind == DHCPOnly || fw != UEFI)
	}
	for _, kind := range preference {
		for _, o := range offers {
			usable := leased && (beside || !kind.proxy()) && (kind != DHCPOnly || o.File != "") && (o.File != "" || o.twoPhase())
			if o.Kind == kind && usable && o.Server.IsValid() {
				return o, true
			}
		}
	}
	return Offer{}, false
}

func (k OfferKind) proxy() bool { return k == ProxyPXE10 || k == ProxyBINL }

// verdict is what becomes of an offer where another one won, if one did.
func (o Offer) verdict(won Offer, found bool) string {
	switch {
	case o.Kind == Useless:
		return "not accepted: " + o.Why
	case o.Won:
		return fmt.Sprintf("wins as %s: %s", o.Kind, o.Why)
	case o.Kind == DHCPOnly:
		return "gives an address"
	case !found:
		return fmt.Sprintf("not enough as %s: %s", o.Kind, o.lack())
	case o.Kind == won.Kind:
		return fmt.Sprintf("loses: another %s was first or complete", o.Kind)
	default:
		return fmt.Sprintf("loses as %s: %s is preferred", o.Kind, won.Kind)
	}
}

func (o Offer) lack() string {
	switch {
	case o.File == "" && !o.twoPhase():
		return "it names no file"
	case !o.Server.IsValid():
		return "it names no server"
	default:
		return "nobody offers an address"
	}
}

// describe lists offers for an error or a step, one per server.
func describe(offers []Offer) string {
	if len(offers) == 0 {
		return "nobody answered"
	}
	var lines []string
	for _, o := range offers {
		lines = append(lines, fmt.Sprintf("%s %s: %s", o.From.Addr(), o.Kind, o.Why))
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "; ")
}
