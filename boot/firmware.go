package boot

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// firmware is what kind of client asks, as far as the answer depends on it.
type firmware int

const (
	firmwareBIOS  firmware = iota // a PXE ROM (arch 0)
	firmwareEFI                   // UEFI's PXE
	firmwareHTTP                  // UEFI's HTTP Boot, and U-Boot's
	firmwareUBoot                 // U-Boot over TFTP
	firmwarePi                    // the Raspberry Pi's boot ROM
	firmwareIPXE                  // any iPXE: it can read our script
)

// String names the firmware for logs and events.
func (f firmware) String() string {
	return [...]string{"BIOS", "UEFI", "UEFI HTTP Boot", "U-Boot", "Raspberry Pi", "iPXE"}[f]
}

const (
	classPXE   = "PXEClient"
	classHTTP  = "HTTPClient"
	classUBoot = "U-Boot"
)

// userClasses are those of a stock iPXE and of ipxedust's builds: both run the
// script that the offer names.
var userClasses = []string{"iPXE", "Tinkerbell"}

// client is a DHCP packet read once, by what it says about its sender.
type client struct {
	firmware firmware
	arch     string // "amd64" or "arm64"
	code     iana.Arch
	mac      net.HardwareAddr
}

// classify says who sent a packet. Its error is the reason for which the packet
// gets no answer.
func classify(packet *dhcpv4.DHCPv4) (client, error) {
	c := client{mac: packet.ClientHWAddr}
	if packet.OpCode != dhcpv4.OpcodeBootRequest {
		return c, fmt.Errorf("op %d is not a request", packet.OpCode)
	}
	if packet.HWType != iana.HWTypeEthernet || len(c.mac) != 6 {
		return c, fmt.Errorf("hardware address %q of type %d is not an Ethernet address", c.mac, packet.HWType)
	}
	class := string(packet.Options.Get(dhcpv4.OptionClassIdentifier))
	if !networkBoot(class) {
		return c, fmt.Errorf("not a network boot: its vendor class is %q", class)
	}
	code, err := architecture(packet.Options.Get(dhcpv4.OptionClientSystemArchitectureType), class)
	if err != nil {
		return c, err
	}
	c.code = code
	if c.firmware, c.arch, err = firmwareOf(code); err != nil {
		return c, err
	}
	switch {
	case isIPXE(packet.Options.Get(dhcpv4.OptionUserClassInformation)):
		c.firmware = firmwareIPXE
	case isPi(c.mac) && code == iana.INTEL_X86PC:
		c.firmware, c.arch = firmwarePi, "arm64"
	case strings.HasPrefix(class, classHTTP):
		c.firmware = firmwareHTTP
	}
	return c, nil
}

func networkBoot(class string) bool {
	return strings.HasPrefix(class, classPXE) || strings.HasPrefix(class, classHTTP) || strings.HasPrefix(class, classUBoot)
}

// architecture reads option 93 (RFC 4578, section 2.1), or, as there are ROMs
// that omit it, the vendor class "PXEClient:Arch:00007:UNDI:003016".
func architecture(option []byte, class string) (iana.Arch, error) {
	if len(option) >= 2 {
		return iana.Arch(uint16(option[0])<<8 | uint16(option[1])), nil
	}
	_, rest, found := strings.Cut(class, ":Arch:")
	if !found {
		return iana.INTEL_X86PC, nil
	}
	digits, _, _ := strings.Cut(rest, ":")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("vendor class %q holds no architecture", class)
	}
	return iana.Arch(n), nil
}

func firmwareOf(code iana.Arch) (firmware, string, error) {
	switch code {
	case iana.INTEL_X86PC:
		return firmwareBIOS, "amd64", nil
	case iana.EFI_IA32, iana.EFI_X86_64, iana.EFI_BC:
		return firmwareEFI, "amd64", nil
	case iana.EFI_ARM32, iana.EFI_ARM64:
		return firmwareEFI, "arm64", nil
	case iana.EFI_X86_HTTP, iana.EFI_X86_64_HTTP:
		return firmwareHTTP, "amd64", nil
	case iana.EFI_ARM32_HTTP, iana.EFI_ARM64_HTTP, iana.UBOOT_ARM64_HTTP:
		return firmwareHTTP, "arm64", nil
	case iana.UBOOT_ARM64:
		return firmwareUBoot, "arm64", nil
	default:
		return 0, "", fmt.Errorf("no loader for architecture %d (%s)", uint16(code), code)
	}
}

// isIPXE takes option 77 raw, as iPXE sends it, and in the form of RFC 3004,
// where each class has its length before it.
func isIPXE(option []byte) bool {
	text := string(option)
	for _, class := range userClasses {
		if text == class || text == string(rune(len(class)))+class {
			return true
		}
	}
	return false
}

// piOUIs are the address blocks of the Raspberry Pi boards. They must be
// recognised by them: a Pi 5 says architecture 0, as a BIOS does.
var piOUIs = [...][3]byte{
	{0xb8, 0x27, 0xeb}, {0xdc, 0xa6, 0x32}, {0xe4, 0x5f, 0x01}, {0x28, 0xcd, 0xc1},
	{0xd8, 0x3a, 0xdd}, {0x2c, 0xcf, 0x67}, {0x88, 0xa2, 0x9e},
}

func isPi(mac net.HardwareAddr) bool {
	for _, oui := range piOUIs {
		if [3]byte(mac[:3]) == oui {
			return true
		}
	}
	return false
}

// expected says whether a packet is answered on the DHCP port (DISCOVER) or on
// the ProxyDHCP port (REQUEST, and INFORM of some ROMs).
func expected(packet *dhcpv4.DHCPv4, proxyPort bool) error {
	kind := packet.MessageType()
	switch {
	case !proxyPort && kind == dhcpv4.MessageTypeDiscover:
		return nil
	case proxyPort && (kind == dhcpv4.MessageTypeRequest || kind == dhcpv4.MessageTypeInform):
		return nil
	case !proxyPort && kind == dhcpv4.MessageTypeRequest:
		return fmt.Errorf("asks the DHCP server %s for an address, which is none of ours to give", packet.ServerIdentifier())
	default:
		return fmt.Errorf("%s gets no answer on this port", kind)
	}
}
