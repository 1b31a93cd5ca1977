package pxeclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// readUBoot reads an offer as U-Boot does: of who boots it, it looks at the fields
// siaddr and file alone, and at no option (net/bootp.c).
func (o *Offer) readUBoot(packet *dhcpv4.DHCPv4) {
	o.Server, o.File = addr(packet.ServerIPAddr), packet.BootFileName
	proxy := !o.Address.IsValid()
	switch {
	case o.File != "" && o.Server.IsValid():
		o.Kind, o.Why = pick(proxy, ProxyPXE10, DHCPPXE10), "server and file are in the fields that U-Boot reads"
	case !proxy:
		o.Kind, o.Why = DHCPOnly, "an address, no file in the field that U-Boot reads"
	default:
		o.Kind, o.Why = Useless, "U-Boot reads the fields siaddr and file, and one of them is empty"
		o.cure = "it must fill in the fields siaddr and file, and not only options 66 and 67"
	}
}

// What the boot ROM of a Raspberry Pi 4 asks for, in this order.
const (
	piStart  = "start4.elf"
	piConfig = "config.txt"
	piKernel = "kernel8.img" // where config.txt names none
	// piService is what it looks for in the boot menu (43.9).
	piService = "Raspberry Pi Boot"
)

// readPi reads an offer as the boot ROM does: it takes the server of the offer that
// has the service in its menu, and knows by itself what to load.
func (o *Offer) readPi(packet *dhcpv4.DHCPv4) {
	proxy := !o.Address.IsValid()
	o.File = ""
	switch {
	case bytes.Contains(vendorOptions(packet)[9], []byte(piService)):
		o.Kind, o.Why, o.File = pick(proxy, ProxyPXE10, DHCPPXE10), "option 43 offers "+piService, piStart
	case !proxy:
		o.Kind, o.Why = DHCPOnly, "an address, and no "+piService
	default:
		o.Kind, o.Why = Useless, fmt.Sprintf("option 43 does not offer %q", piService)
		o.cure = fmt.Sprintf("its boot menu (43.9) must hold %q", piService)
	}
}

// loadPi is the boot ROM's part, then that of the firmware that it loads, which is
// UEFI, U-Boot, or a kernel.
func (b *boot) loadPi(ctx context.Context, offer Offer) error {
	if _, err := b.piFile(ctx, offer, piStart, []byte("\x7fELF")); err != nil {
		return err
	}
	config, err := b.piFile(ctx, offer, piConfig, nil)
	if err != nil {
		return err
	}
	name := piFirmware(string(config))
	if _, err := b.piFile(ctx, offer, name, nil); err != nil {
		return err
	}
	switch lower := strings.ToLower(name); {
	case strings.Contains(lower, "efi"):
		b.Firmware = UEFI
	case strings.Contains(lower, "u-boot"), strings.Contains(lower, "uboot"):
		b.Firmware = UBoot
	default:
		b.result.Outcome, b.result.Kernel = OutcomeKernel, name
		return nil
	}
	return b.firmware(ctx)
}

// piFirmware is what config.txt names: armstub for UEFI, else kernel.
func piFirmware(config string) string {
	named := map[string]string{}
	for line := range strings.Lines(config) {
		if key, value, found := strings.Cut(strings.TrimSpace(line), "="); found {
			named[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	for _, key := range []string{"armstub", "kernel"} {
		if named[key] != "" {
			return named[key]
		}
	}
	return piKernel
}

var errNoPiFile = errors.New("not what the Pi's boot ROM can use")

// piFile fetches a file of the firmware, which begins with the given bytes.
func (b *boot) piFile(ctx context.Context, offer Offer, name string, begin []byte) ([]byte, error) {
	s := Step{Name: "tftp", At: time.Now(), File: name}
	server := netip.AddrPortFrom(offer.Server, uint16(b.TFTPPort))
	content, _, err := b.readTFTP(ctx, server, name, false)
	if err == nil && (len(content) == 0 && name != piConfig || !bytes.HasPrefix(content, begin)) {
		err = errNoPiFile
	}
	if err != nil {
		hint := b.loaderHint(err)
		if hint == "" || isRefusal(err) {
			hint = "the TFTP server must hold the Pi's firmware (start4.elf, config.txt and what that names); bmctl serve gives out what is in --ipxe-dir"
		}
		err = &Error{Step: "tftp", Err: fmt.Errorf("%s from %s: %w", name, server, err), Hint: hint}
	}
	s.loaded(content)
	s.Detail = fmt.Sprintf("%s from %s: %d bytes", name, server, len(content))
	return content, b.report(s, err)
}

func isRefusal(err error) bool {
	var refused *tftpError
	return errors.As(err, &refused)
}
