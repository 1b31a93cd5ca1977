package pxeclient

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// settings are iPXE's: what ${name} stands for. There is one NIC, net0.
type settings struct {
	nic map[string]string // of net0, under its names without "net0/"
	set map[string]string // everything else, "set" by scripts included
}

func (b *boot) settings(offer Offer) *settings {
	s := &settings{
		nic: map[string]string{"mac": b.mac.String(), "ifname": "net0"},
		set: map[string]string{
			"uuid": b.UUID, "serial": b.Serial, "manufacturer": b.Manufacturer, "product": b.Product, "hostname": b.Hostname, "buildarch": b.buildarch(), "platform": b.platform(),
			"user-class": b.ipxeIdentity().userClass, "filename": offer.File, "version": "1.21.1+",
		},
	}
	s.configure(b.Local, offer)
	return s
}

// configure is what DHCP does to net0. The client asks for no lease of its own;
// where it has no address given, its offer's stands in.
func (s *settings) configure(local netip.Addr, offer Offer) {
	ip := local
	if !ip.IsValid() {
		ip = offer.Address
	}
	if !ip.IsValid() {
		ip = netip.AddrFrom4([4]byte{169, 254, 0, 1})
	}
	s.nic["ip"] = ip.String()
	s.nic["next-server"] = offer.Server.String()
	s.set["next-server"] = offer.Server.String()
}

// buildarch is the architecture that iPXE was built for: undionly.kpxe is a
// 32-bit program.
func (b *boot) buildarch() string {
	switch {
	case b.Firmware == BIOS:
		return "i386"
	case b.Arch == "arm64":
		return "arm64"
	default:
		return "x86_64"
	}
}

func (b *boot) platform() string {
	if b.Firmware == BIOS {
		return "pcbios"
	}
	return "efi"
}

const (
	// maxExpansions and maxLine bound what a hostile script can make of a value
	// that contains itself.
	maxExpansions = 1000
	maxLine       = 64 << 10
)

// expand replaces each ${name}, the innermost first, as iPXE does
// (expand_settings in core/exec.c).
func (s *settings) expand(text string) string {
	for range maxExpansions {
		first := strings.Index(text, "${")
		if first < 0 || len(text) > maxLine {
			break
		}
		end := strings.Index(text[first:], "}")
		if end < 0 {
			break
		}
		end += first
		start := strings.LastIndex(text[:end], "${")
		text = text[:start] + s.fetch(text[start+2:end]) + text[end+1:]
	}
	return text
}

// fetch returns a setting's value in the form asked for, "" where there is none.
func (s *settings) fetch(name string) string {
	name, form, _ := strings.Cut(name, ":")
	value := s.value(name)
	switch {
	case value == "":
		return ""
	case form == "hexhyp" || form == "hex" || form == "hexraw":
		return hex(name, value, form)
	case form == "uristring":
		return uriString(value)
	default:
		return value
	}
}

func (s *settings) value(name string) string {
	scope, key, scoped := strings.Cut(name, "/")
	switch {
	case !scoped && s.set[name] != "":
		return s.set[name]
	case !scoped:
		return s.nic[name]
	case scope == "net0" || scope == "netX":
		return s.nic[key]
	default:
		return s.set[name]
	}
}

// store sets a value: "set name:int32 0" keeps "0".
func (s *settings) store(name, value string) {
	name, _, _ = strings.Cut(name, ":")
	name = strings.TrimPrefix(strings.TrimPrefix(name, "net0/"), "netX/")
	s.set[name] = value
}

// hex writes a value byte by byte. A MAC is known as text here.
func hex(name, value, form string) string {
	data := []byte(value)
	if strings.HasSuffix(name, "mac") {
		if mac, err := net.ParseMAC(value); err == nil {
			data = mac
		}
	}
	separator := map[string]string{"hexhyp": "-", "hex": ":", "hexraw": ""}[form]
	words := make([]string, len(data))
	for i, b := range data {
		words[i] = fmt.Sprintf("%02x", b)
	}
	return strings.Join(words, separator)
}

// uriString escapes all but the unreserved characters (RFC 3986, section 2.3).
func uriString(value string) string {
	var out strings.Builder
	for _, c := range []byte(value) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			out.WriteByte(c)
		} else {
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

// number reads an iPXE integer: decimal, or 0x and hexadecimal.
func number(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return n, nil
}
