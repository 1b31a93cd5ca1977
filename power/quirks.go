package power

import (
	"slices"
	"strings"
)

// vendorOf is who made the system, in lower case.
func vendorOf(s computerSystem, root serviceRoot) string {
	if s.Manufacturer != "" {
		return strings.ToLower(s.Manufacturer)
	}

	return strings.ToLower(root.Vendor)
}

// echoesMode: without BootSourceOverrideMode the vendor's controllers fall back
// to Legacy (Supermicro X11 and later: DMTF/Redfishtool issue 106), or refuse a
// Boot object that is not complete (AMI MegaRAC and those built on it:
// OpenStack Ironic, VENDORS_REQUIRING_FULL_BOOT_REQUEST).
func echoesMode(vendor string) bool {
	return anyPrefix(vendor, "supermicro", "american megatrends", "ami", "asrockrack", "redfish_compatible")
}

// keepsTarget: the vendor's controllers refuse the target "None" (HPE iLO:
// ironcore-dev/metal-operator issue 998).
func keepsTarget(vendor string) bool { return anyPrefix(vendor, "hpe", "hewlett packard enterprise") }

func anyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
