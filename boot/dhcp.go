package boot

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Style is how an EFI machine is told its loader.
type Style string

// The styles. Auto begins with BINL and changes to the other for a machine that
// asks again without having followed the last answer; what works is kept.
const (
	StyleAuto  Style = "auto"
	StyleBINL  Style = "binl"  // two phases: the offer, then a request on port 4011
	StylePXE10 Style = "pxe10" // one phase: option 43 in the offer
)

const (
	dhcpServerPort = 67
	dhcpClientPort = 68
	// maxFileName is what fits into the 128 bytes of the file field with its NUL.
	maxFileName = 127
	// broadcastFlag is bit 15 of the flags (RFC 2131, section 2).
	broadcastFlag = 0x8000
	// uuidOptionLen is the length of option 97: a type byte and the UUID (RFC 4578).
	uuidOptionLen = 17
)

// Sub-options of option 43 (PXE 2.1, table 2-1).
const (
	pxeDiscoveryControl = 6
	pxeBootMenu         = 9
	pxeMenuPrompt       = 10
	pxeBootItem         = 71
	pxeEnd              = 255
	// pxeUseBootFile is bit 3 of the discovery control: no boot server
	// discovery, use the file name of this very packet.
	pxeUseBootFile = 1 << 3
)

// answer is what goes into an OFFER or ACK.
type answer struct {
	kind   dhcpv4.MessageType
	server netip.Addr // what the machine is told
	file   string
	single bool // with option 43: no second phase
}

// reply builds the answer to a client's packet. Without option 54 EDK2 drops an
// offer silently; options 66 and 67 repeat sname and file because firmware reads
// the one or the other.
func reply(request *dhcpv4.DHCPv4, c client, a answer) *dhcpv4.DHCPv4 {
	ip := net.IP(a.server.AsSlice())
	class := classPXE
	if c.firmware == firmwareHTTP {
		class = classHTTP
	}
	packet := &dhcpv4.DHCPv4{
		OpCode:         dhcpv4.OpcodeBootReply,
		HWType:         request.HWType,
		TransactionID:  request.TransactionID,
		Flags:          request.Flags | broadcastFlag,
		ClientIPAddr:   net.IPv4zero,
		YourIPAddr:     net.IPv4zero,
		ServerIPAddr:   ip,
		GatewayIPAddr:  request.GatewayIPAddr,
		ClientHWAddr:   request.ClientHWAddr,
		ServerHostName: a.server.String(),
		BootFileName:   a.file,
		Options: dhcpv4.OptionsFromList(
			dhcpv4.OptMessageType(a.kind),
			dhcpv4.OptServerIdentifier(ip),
			dhcpv4.OptClassIdentifier(class),
			dhcpv4.OptBootFileName(a.file),
			dhcpv4.OptTFTPServerName(a.server.String()),
		),
	}
	if a.kind == dhcpv4.MessageTypeAck {
		packet.ClientIPAddr = request.ClientIPAddr
	}
	if id := request.Options.Get(dhcpv4.OptionClientMachineIdentifier); len(id) == uuidOptionLen {
		packet.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, id))
	}
	if vendor := vendorOption(request, c, a); vendor != nil {
		packet.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, vendor))
	}
	if c.firmware == firmwareIPXE {
		packet.UpdateOption(dhcpv4.OptGeneric(optionIPXE, ipxePriority))
	}
	return packet
}

// optionIPXE is where iPXE looks for settings of its own, one inside the other
// (RFC 3679 frees the number; ipxe.org/howto/dhcpd).
const optionIPXE = dhcpv4.GenericOptionCode(175)

// ipxePriority raises our settings over those of the site's DHCP server, which
// has none: without it a file name of the site's wins over our script, and as
// that is the loader again in most sites, iPXE loads itself for ever.
var ipxePriority = []byte{1, 1, 1}

// vendorOption returns option 43, or nil where it must not be sent: HTTP Boot
// has none, and its presence takes an EFI machine out of the two-phase protocol.
func vendorOption(request *dhcpv4.DHCPv4, c client, a answer) []byte {
	if c.firmware == firmwareHTTP {
		return nil
	}
	var option []byte
	if c.firmware == firmwarePi {
		option = append(option, pxeBootMenu, 20, 0, 0, 17)
		option = append(option, "Raspberry Pi Boot"...)
		option = append(option, pxeMenuPrompt, 4, 0, 'P', 'X', 'E')
	} else if a.single {
		option = append(option, pxeDiscoveryControl, 1, pxeUseBootFile)
	}
	if item := bootItem(request.Options.Get(dhcpv4.OptionVendorSpecificInformation)); item != nil && a.kind == dhcpv4.MessageTypeAck {
		option = append(append(option, pxeBootItem, byte(len(item))), item...)
	}
	if option == nil {
		return nil
	}
	return append(option, pxeEnd)
}

// bootItem finds sub-option 71 in a client's option 43; a server has to repeat
// it in its acknowledgement.
func bootItem(option []byte) []byte {
	for len(option) >= 2 && option[0] != pxeEnd {
		if option[0] == 0 {
			option = option[1:]
			continue
		}
		size := int(option[1])
		if len(option) < 2+size {
			return nil
		}
		if option[0] == pxeBootItem && size == 4 {
			return option[2:6]
		}
		option = option[2+size:]
	}
	return nil
}

// uuidOf is the UUID of option 97, "" where there is none or it says nothing. Its
// first three parts are little-endian there, as in SMBIOS (SMBIOS 3.8, section 7.2.1).
func uuidOf(request *dhcpv4.DHCPv4) string {
	id := request.Options.Get(dhcpv4.OptionClientMachineIdentifier)
	if len(id) != uuidOptionLen || id[0] != 0 {
		return ""
	}
	id = id[1:]
	little := binary.LittleEndian
	uuid := fmt.Sprintf("%08x-%04x-%04x-%x-%x", little.Uint32(id), little.Uint16(id[4:]), little.Uint16(id[6:]), id[8:10], id[10:])
	if Placeholder(uuid) {
		return ""
	}
	return uuid
}

// addressOf is the address that a client has, or asks its DHCP server for in the
// last step before it has it (RFC 2131, section 4.3.2); else it is not valid.
func addressOf(request *dhcpv4.DHCPv4) netip.Addr {
	ip := request.ClientIPAddr
	if request.MessageType() == dhcpv4.MessageTypeRequest && request.RequestedIPAddress() != nil {
		ip = request.RequestedIPAddress()
	}
	addr, _ := netip.AddrFromSlice(ip.To4())
	return addr
}

// destination says where an answer goes: to the relay, by broadcast to a client
// without an address, else back to where the packet came from.
func destination(request *dhcpv4.DHCPv4, source netip.AddrPort) netip.AddrPort {
	if relay, ok := netip.AddrFromSlice(request.GatewayIPAddr.To4()); ok && !relay.IsUnspecified() {
		return netip.AddrPortFrom(relay, dhcpServerPort)
	}
	if source.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), dhcpClientPort)
	}
	return source
}
