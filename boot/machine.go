package boot

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// placeholders are UUIDs that boards carry when nobody gave them one; thousands
// of machines share them. The fourth is the third read in the other byte order,
// and so is the sixth of the fifth.
var placeholders = []string{
	"00000000-0000-0000-0000-000000000000",
	"ffffffff-ffff-ffff-ffff-ffffffffffff",
	"03000200-0400-0500-0006-000700080009",
	"00020003-0004-0005-0006-000700080009",
	"03020100-0504-0706-0809-0a0b0c0d0e0f",
	"00010203-0405-0607-0809-0a0b0c0d0e0f",
	"12345678-1234-5678-90ab-cddeefaabbcc",
	"fefefefe-fefe-fefe-fefe-fefefefefefe",
}

// Placeholder says whether a UUID, in lower case, is one of those that a board's
// maker left in: it identifies no machine.
func Placeholder(uuid string) bool { return slices.Contains(placeholders, uuid) }

// maxWord is how much is kept of what a machine says of itself.
const maxWord = 128

// parseMachine reads the query of boot.ipxe. The error is for the machine's
// console and for whoever reads the events.
func parseMachine(query url.Values, from netip.Addr) (Machine, error) {
	m := Machine{
		UUID:     strings.ToLower(strings.TrimSpace(query.Get("uuid"))),
		Serial:   word(query.Get("serial")),
		Hostname: word(query.Get("hostname")),
		Addr:     from,

		Manufacturer: word(query.Get("manufacturer")), Product: word(query.Get("product")),
	}
	if m.UUID == "" {
		return m, fmt.Errorf("the request has no uuid: the firmware knows no SMBIOS UUID")
	}
	if !uuidForm.MatchString(m.UUID) {
		return m, fmt.Errorf("uuid %q is malformed", clip(query.Get("uuid")))
	}
	if mac, err := net.ParseMAC(query.Get("mac")); err == nil && len(mac) == 6 {
		m.MAC = mac.String()
	}
	var err error
	m.Arch, err = archOf(query.Get("arch"))
	return m, err
}

// archOf translates iPXE's ${buildarch}. undionly.kpxe is a 32-bit program on a
// machine that need not be one.
func archOf(buildarch string) (string, error) {
	switch buildarch {
	case "", "amd64", "x86_64", "i386":
		return "amd64", nil
	case "arm64", "arm32":
		return "arm64", nil
	default:
		return "", fmt.Errorf("architecture %q is not supported", clip(buildarch))
	}
}

// word keeps what is printable, and not too much of it.
func word(text string) string {
	return clip(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, strings.TrimSpace(text)))
}

func clip(text string) string {
	if len(text) <= maxWord {
		return text
	}
	return strings.ToValidUTF8(text[:maxWord], "")
}
