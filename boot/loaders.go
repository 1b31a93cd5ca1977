package boot

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tinkerbell/ipxedust/binary"
)

// embeddedScript replaces the placeholder in the script inside the EFI builds.
// Their own script ends with "exit", which is a success to the firmware, and
// after a success EDK2 opens its menu instead of trying the next boot option.
// This one asks up to nine times for an address and runs %s; when that exits,
// it leaves with an error, and the firmware goes on to the disk.
const embeddedScript = `set n:int32 0
:d
inc n
dhcp && %s || iseq ${n} 9 || goto d
exit 1`

// loaders maps the names that machines ask for to the files that they get.
type loaders map[string][]byte

// newLoaders returns the embedded iPXE builds under their names. If chain is not
// empty, the EFI builds fetch that URL by themselves after DHCP: with the proxy
// off, the site's own offer names the loader again, and they would load it for
// ever. The BIOS build is compressed and cannot be changed.
func newLoaders(chain string) (loaders, error) {
	run := "autoboot" // what the offer names
	if chain != "" {
		run = "chain " + chain
	}
	script := fmt.Sprintf(embeddedScript, run)
	x86, err := binary.Patch(binary.IpxeEFI, []byte(script))
	if err != nil {
		return nil, fmt.Errorf("patch ipxe.efi: %w", err)
	}
	arm, err := binary.Patch(binary.SNP, []byte(script))
	if err != nil {
		return nil, fmt.Errorf("patch ipxe-arm64.efi: %w", err)
	}
	return loaders{
		"undionly.kpxe": binary.Undionly, "undionly.kpxe.0": binary.Undionly,
		"ipxe.efi": x86, "snp.efi": x86, "amd64/ipxe.efi": x86, "amd64/snp.efi": x86,
		"ipxe-arm64.efi": arm, "snp-arm64.efi": arm, "arm64/ipxe.efi": arm, "arm64/snp.efi": arm,
	}, nil
}

// names returns the names in order.
func (l loaders) names() []string { return slices.Sorted(maps.Keys(l)) }

// loaderFor names the file that a firmware is offered.
func loaderFor(c client) string {
	switch {
	case c.firmware == firmwareBIOS:
		return "undionly.kpxe"
	case c.arch == "arm64":
		return "ipxe-arm64.efi"
	default:
		return "ipxe.efi"
	}
}

// cleanName brings a requested file name to the form of the loaders' keys.
// Some ROMs put a slash in front, some Windows-minded ones use backslashes, and
// some send the padding (0xff, spaces) of the DHCP field as part of the name.
func cleanName(name string) string {
	name = strings.TrimRight(name, "\xff\x00 ")
	return strings.TrimLeft(strings.ReplaceAll(name, `\`, "/"), "/")
}
