package pxeclient

import (
	"fmt"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// identity is what a program says of itself in DHCP.
type identity struct {
	firmware  Firmware
	arch      iana.Arch
	class     string // option 60 before ":Arch:"
	userClass string // option 77
}

// classUBoot is CONFIG_BOOTP_VCI_STRING of U-Boot on arm64.
const classUBoot = "U-Boot.armv8"

func (id identity) vendorClass() string {
	if id.class == classUBoot {
		return id.class
	}
	return fmt.Sprintf("%s:Arch:%05d:UNDI:003016", id.class, uint16(id.arch))
}

// wants are the options that the program asks for. A server may put a file name into
// option 67 alone where that is asked for, which U-Boot does not.
func (id identity) wants() []dhcpv4.OptionCode {
	if id.class == classUBoot {
		return []dhcpv4.OptionCode{dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionHostName, dhcpv4.OptionRootPath}
	}
	return []dhcpv4.OptionCode{dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionVendorSpecificInformation,
		dhcpv4.OptionServerIdentifier, dhcpv4.OptionClassIdentifier, dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName,
		dhcpv4.OptionClientMachineIdentifier}
}

func (b *boot) firmwareIdentity() identity {
	id := identity{firmware: b.Firmware, arch: iana.INTEL_X86PC, class: "PXEClient"}
	switch {
	case b.Firmware == UBoot:
		id.arch, id.class = iana.UBOOT_ARM64, classUBoot
	case b.Firmware == RPi: // it says what a BIOS says
	case b.Firmware == UEFIHTTP && b.Arch == "arm64":
		id.arch, id.class = iana.EFI_ARM64_HTTP, "HTTPClient"
	case b.Firmware == UEFIHTTP:
		id.arch, id.class = iana.EFI_X86_64_HTTP, "HTTPClient"
	case b.Arch == "arm64":
		id.arch = iana.EFI_ARM64
	case b.Firmware != BIOS:
		id.arch = iana.EFI_X86_64
	}
	return id
}

// ipxeIdentity is that of the iPXE in the ROM, or of ipxedust's that was loaded.
func (b *boot) ipxeIdentity() identity {
	id := b.firmwareIdentity()
	if id.class != "PXEClient" {
		id.class, id.arch = "PXEClient", pxeArch(b.Arch)
	}
	id.firmware, id.userClass = IPXE, "Tinkerbell"
	if b.Firmware == IPXE {
		id.userClass = "iPXE"
	}
	return id
}

func pxeArch(arch string) iana.Arch {
	if arch == "arm64" {
		return iana.EFI_ARM64
	}
	return iana.EFI_X86_64
}

// packet makes a DISCOVER or REQUEST with the options of the PXE specification
// (section 2.2.1) and RFC 4578.
func (b *boot) packet(id identity, kind dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	uuid, err := uuidBytes(b.UUID)
	if err != nil {
		return nil, err
	}
	return dhcpv4.New(
		dhcpv4.WithHwAddr(b.mac), dhcpv4.WithMessageType(kind), dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1464)),
		dhcpv4.WithRequestedOptions(id.wants()...),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(id.vendorClass())),
		dhcpv4.WithOption(dhcpv4.OptClientArch(id.arch)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 16}),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, append([]byte{0}, uuid[:]...)),
		func(d *dhcpv4.DHCPv4) {
			if id.userClass != "" {
				d.UpdateOption(dhcpv4.OptUserClass(id.userClass))
			}
			if b.Relay.IsValid() {
				d.GatewayIPAddr, d.HopCount = b.Relay.AsSlice(), 1
			}
		},
	)
}
