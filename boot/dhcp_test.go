package boot

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// packetBytes writes a DHCP packet by hand, as the library under test must not
// judge itself: op, hlen, the fields that matter, then options as given.
func packetBytes(op byte, flags uint16, ciaddr, siaddr, giaddr [4]byte, sname, file string, options ...[]byte) []byte {
	p := make([]byte, 240)
	p[0], p[1], p[2] = op, 1, 6
	copy(p[4:], "\xde\xad\xbe\xef")
	p[10], p[11] = byte(flags>>8), byte(flags)
	copy(p[12:], ciaddr[:])
	copy(p[20:], siaddr[:])
	copy(p[24:], giaddr[:])
	copy(p[28:], "\x02\x00\x00\x4b\x19\x01")
	copy(p[44:], sname)
	copy(p[108:], file)
	copy(p[236:], "\x63\x82\x53\x63")
	for _, o := range options {
		p = append(p, o...)
	}
	return append(p, 255)
}

func option(code byte, value string) []byte {
	return append([]byte{code, byte(len(value))}, value...)
}

// padded fills up to the 300 bytes of a BOOTP packet (RFC 1542, section 2.1).
func padded(p []byte) []byte {
	for len(p) < 300 {
		p = append(p, 0)
	}
	return p
}

var (
	none   = [4]byte{}
	ours   = [4]byte{10, 0, 2, 5}
	relay  = [4]byte{10, 7, 0, 1}
	theirs = [4]byte{10, 0, 2, 141}
	guid   = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"
)

func TestAnswersToTheByte(t *testing.T) {
	const (
		pxe     = "PXEClient"
		script  = "http://10.0.2.5:50042/ipxe/init.ipxe"
		fileURL = "http://10.0.2.5:50042/tftp/ipxe.efi"
		ip      = "\x0a\x00\x02\x05"
	)
	for _, c := range []struct {
		name    string
		request []byte
		second  bool
		single  bool
		want    []byte
	}{{
		name:    "EFI, two phases",
		request: packetBytes(1, 0x8000, none, none, none, "", "", option(53, "\x01"), option(60, "PXEClient:Arch:00007:UNDI:003016"), option(93, "\x00\x07"), option(97, guid)),
		want: packetBytes(2, 0x8000, none, ours, none, "10.0.2.5", "ipxe.efi", option(53, "\x02"), option(54, ip), option(60, pxe),
			option(66, "10.0.2.5"), option(67, "ipxe.efi"), option(97, guid)),
	}, {
		name:    "EFI, one phase, behind a relay, broadcast flag set by us",
		single:  true,
		request: packetBytes(1, 0, none, none, relay, "", "", option(53, "\x01"), option(60, pxe), option(93, "\x00\x0b")),
		want: packetBytes(2, 0x8000, none, ours, relay, "10.0.2.5", "ipxe-arm64.efi", option(43, "\x06\x01\x08\xff"), option(53, "\x02"), option(54, ip),
			option(60, pxe), option(66, "10.0.2.5"), option(67, "ipxe-arm64.efi")),
	}, {
		name:    "BIOS without options 93, 94 and 97",
		single:  true,
		request: packetBytes(1, 0, none, none, none, "", "", option(53, "\x01"), option(60, pxe)),
		want: packetBytes(2, 0x8000, none, ours, none, "10.0.2.5", "undionly.kpxe", option(43, "\x06\x01\x08\xff"), option(53, "\x02"), option(54, ip),
			option(60, pxe), option(66, "10.0.2.5"), option(67, "undionly.kpxe")),
	}, {
		name: "request on 4011, with a boot item, option 97 of a wrong length",
		request: packetBytes(1, 0, theirs, none, none, "", "", option(53, "\x03"), option(60, pxe), option(93, "\x00\x07"),
			option(43, "\x47\x04\x00\x01\x00\x00\xff"), option(97, "\x00")),
		second: true,
		want: packetBytes(2, 0x8000, theirs, ours, none, "10.0.2.5", "ipxe.efi", option(43, "\x47\x04\x00\x01\x00\x00\xff"), option(53, "\x05"), option(54, ip),
			option(60, pxe), option(66, "10.0.2.5"), option(67, "ipxe.efi")),
	}, {
		name:    "HTTP Boot",
		request: packetBytes(1, 0, none, none, none, "", "", option(53, "\x01"), option(60, "HTTPClient:Arch:00016:UNDI:003001"), option(93, "\x00\x10")),
		want: packetBytes(2, 0x8000, none, ours, none, "10.0.2.5", fileURL, option(53, "\x02"), option(54, ip), option(60, "HTTPClient"),
			option(66, "10.0.2.5"), option(67, fileURL)),
	}, {
		name:    "iPXE",
		request: packetBytes(1, 0, none, none, none, "", "", option(53, "\x01"), option(60, pxe), option(77, "Tinkerbell"), option(93, "\x00\x07")),
		want: packetBytes(2, 0x8000, none, ours, none, "10.0.2.5", script, option(53, "\x02"), option(54, ip), option(60, pxe),
			option(66, "10.0.2.5"), option(67, script), option(175, "\x01\x01\x01")),
	}, {
		name:    "Raspberry Pi",
		request: piDiscover(),
		want: withMAC(packetBytes(2, 0x8000, none, ours, none, "10.0.2.5", "ipxe-arm64.efi",
			option(43, "\x09\x14\x00\x00\x11Raspberry Pi Boot\x0a\x04\x00PXE\xff"), option(53, "\x02"), option(54, ip),
			option(60, pxe), option(66, "10.0.2.5"), option(67, "ipxe-arm64.efi")), "\x2c\xcf\x67\x01\x02\x03"),
	}} {
		t.Run(c.name, func(t *testing.T) {
			request, err := dhcpv4.FromBytes(c.request)
			if err != nil {
				t.Fatal(err)
			}
			sender, err := classify(request)
			if err != nil {
				t.Fatal(err)
			}
			s := &Server{config: Config{}}
			s.httpPort.Store(50042)
			a := answer{kind: dhcpv4.MessageTypeOffer, server: netip.AddrFrom4(ours), single: c.single}
			if c.second {
				a.kind = dhcpv4.MessageTypeAck
			}
			a.file = s.offer(sender, a.server)
			if got := reply(request, sender, a).ToBytes(); !bytes.Equal(got, padded(c.want)) {
				t.Errorf("got\n%swant\n%s", hex.Dump(got), hex.Dump(padded(c.want)))
			}
		})
	}
}

func withMAC(p []byte, mac string) []byte {
	copy(p[28:], mac)
	return p
}

func piDiscover() []byte {
	return withMAC(packetBytes(1, 0, none, none, none, "", "", option(53, "\x01"), option(60, "PXEClient:Arch:00000:UNDI:002001"), option(93, "\x00\x00")), "\x2c\xcf\x67\x01\x02\x03")
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		name    string
		options [][]byte
		want    firmware
		arch    string
		reason  string
	}{
		{name: "BIOS", options: [][]byte{option(60, "PXEClient:Arch:00000:UNDI:002001"), option(93, "\x00\x00")}, want: firmwareBIOS, arch: "amd64"},
		{name: "BIOS by its class alone", options: [][]byte{option(60, "PXEClient:Arch:00000:UNDI:002001")}, want: firmwareBIOS, arch: "amd64"},
		{name: "EFI by its class alone", options: [][]byte{option(60, "PXEClient:Arch:00011:UNDI:003016")}, want: firmwareEFI, arch: "arm64"},
		{name: "EFI IA32", options: [][]byte{option(60, "PXEClient"), option(93, "\x00\x06")}, want: firmwareEFI, arch: "amd64"},
		{name: "EFI x86-64", options: [][]byte{option(60, "PXEClient"), option(93, "\x00\x07")}, want: firmwareEFI, arch: "amd64"},
		{name: "EFI BC", options: [][]byte{option(60, "PXEClient"), option(93, "\x00\x09")}, want: firmwareEFI, arch: "amd64"},
		{name: "EFI arm32", options: [][]byte{option(60, "PXEClient"), option(93, "\x00\x0a")}, want: firmwareEFI, arch: "arm64"},
		{name: "the first of two architectures", options: [][]byte{option(60, "PXEClient"), option(93, "\x00\x0b\x00\x07")}, want: firmwareEFI, arch: "arm64"},
		{name: "HTTP x86", options: [][]byte{option(60, "HTTPClient"), option(93, "\x00\x0f")}, want: firmwareHTTP, arch: "amd64"},
		{name: "HTTP x86-64", options: [][]byte{option(60, "HTTPClient"), option(93, "\x00\x10")}, want: firmwareHTTP, arch: "amd64"},
		{name: "HTTP arm32", options: [][]byte{option(60, "HTTPClient"), option(93, "\x00\x12")}, want: firmwareHTTP, arch: "arm64"},
		{name: "HTTP arm64", options: [][]byte{option(60, "HTTPClient"), option(93, "\x00\x13")}, want: firmwareHTTP, arch: "arm64"},
		{name: "U-Boot", options: [][]byte{option(60, "U-Boot.armv8"), option(93, "\x00\x16")}, want: firmwareUBoot, arch: "arm64"},
		{name: "U-Boot as a PXE client", options: [][]byte{option(60, "PXEClient:Arch:00022:UNDI:003000"), option(93, "\x00\x16")}, want: firmwareUBoot, arch: "arm64"},
		{name: "U-Boot HTTP", options: [][]byte{option(60, "HTTPClient:Arch:00024:UNDI:003000"), option(93, "\x00\x18")}, want: firmwareHTTP, arch: "arm64"},
		{name: "stock iPXE", options: [][]byte{option(60, "PXEClient"), option(77, "iPXE"), option(93, "\x00\x00")}, want: firmwareIPXE, arch: "amd64"},
		{name: "stock iPXE by RFC 3004", options: [][]byte{option(60, "PXEClient"), option(77, "\x04iPXE"), option(93, "\x00\x0b")}, want: firmwareIPXE, arch: "arm64"},
		{name: "ipxedust's, loaded over HTTP", options: [][]byte{option(60, "HTTPClient"), option(77, "Tinkerbell"), option(93, "\x00\x10")}, want: firmwareIPXE, arch: "amd64"},
		{name: "another user class", options: [][]byte{option(60, "PXEClient"), option(77, "Neverland"), option(93, "\x00\x07")}, want: firmwareEFI, arch: "amd64"},
		{name: "an office PC", options: [][]byte{option(60, "MSFT 5.0")}, reason: `not a network boot: its vendor class is "MSFT 5.0"`},
		{name: "no class at all", reason: `not a network boot: its vendor class is ""`},
		{name: "Itanium", options: [][]byte{option(60, "PXEClient"), option(93, "\x00\x02")}, reason: "no loader for architecture 2 (EFI Itanium)"},
		{name: "a class without digits", options: [][]byte{option(60, "PXEClient:Arch:x:")}, reason: `vendor class "PXEClient:Arch:x:" holds no architecture`},
	} {
		t.Run(c.name, func(t *testing.T) {
			packet, err := dhcpv4.FromBytes(packetBytes(1, 0, none, none, none, "", "", append(c.options, option(53, "\x01"))...))
			if err != nil {
				t.Fatal(err)
			}
			got, err := classify(packet)
			if c.reason != "" {
				if err == nil || err.Error() != c.reason {
					t.Errorf("reason %v, not %q", err, c.reason)
				}
			} else if err != nil || got.firmware != c.want || got.arch != c.arch {
				t.Errorf("%s %s, %v; not %s %s", got.firmware, got.arch, err, c.want, c.arch)
			}
		})
	}
}

func TestClassifyRefusesWhatIsNoRequestOverEthernet(t *testing.T) {
	pxe := [][]byte{option(53, "\x01"), option(60, "PXEClient")}
	for want, packet := range map[string][]byte{
		"op 2 is not a request": packetBytes(2, 0, none, none, none, "", "", pxe...),
		"is not an Ethernet address": func() []byte {
			p := packetBytes(1, 0, none, none, none, "", "", pxe...)
			p[2] = 8
			return p
		}(),
		"of type 32 is not an Ethernet address": func() []byte {
			p := packetBytes(1, 0, none, none, none, "", "", pxe...)
			p[1] = 32
			return p
		}(),
	} {
		parsed, err := dhcpv4.FromBytes(packet)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := classify(parsed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestDestination(t *testing.T) {
	from := func(giaddr [4]byte, source string) string {
		request, err := dhcpv4.FromBytes(packetBytes(1, 0, none, none, giaddr, "", ""))
		if err != nil {
			t.Fatal(err)
		}
		return destination(request, netip.MustParseAddrPort(source)).String()
	}
	for _, c := range [][2]string{
		{from(relay, "10.7.0.1:67"), "10.7.0.1:67"},
		{from(relay, "0.0.0.0:68"), "10.7.0.1:67"},
		{from(none, "0.0.0.0:68"), "255.255.255.255:68"},
		{from(none, "10.0.2.141:4011"), "10.0.2.141:4011"},
		{from(none, "127.77.1.2:40001"), "127.77.1.2:40001"},
	} {
		if c[0] != c[1] {
			t.Errorf("to %s, not %s", c[0], c[1])
		}
	}
}

func TestBootItemOfBrokenOptions(t *testing.T) {
	for _, text := range []string{"", "\x47", "\x47\x04\x00", "\x47\x02\x00\x00", "\x00\x00\x00", "\x06\x01", "\xff\x47\x04\x00\x00\x00\x00"} {
		if item := bootItem([]byte(text)); item != nil {
			t.Errorf("%q: found %v", text, item)
		}
	}
	if item := bootItem([]byte("\x00\x06\x01\x08\x47\x04\x80\x01\x00\x02\xff")); !bytes.Equal(item, []byte{0x80, 1, 0, 2}) {
		t.Errorf("found %v", item)
	}
}

func TestStyleIsLearntPerMAC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStations()
		a, b := [6]byte{1}, [6]byte{2}
		xid := func(n byte) dhcpv4.TransactionID { return dhcpv4.TransactionID{n} }
		check := func(mac [6]byte, id byte, want bool, why string) {
			t.Helper()
			if got := s.singlePhase(mac, xid(id)); got != want {
				t.Errorf("%s: single phase %v", why, got)
			}
		}
		check(a, 1, false, "the first time")
		check(a, 1, false, "the same DISCOVER again")
		check(a, 2, true, "the first was not followed")
		if len(s.lost) != 1 {
			t.Error("nobody is told that a machine went elsewhere")
		}
		check(b, 1, false, "another machine")
		s.followed(a)
		check(a, 3, true, "one phase worked: it is kept")
		s.followed(b)
		check(b, 2, false, "two phases worked: they are kept")
		time.Sleep(sameAttempt)
		check([6]byte{3}, 1, false, "a third machine")
		time.Sleep(sameAttempt)
		check([6]byte{3}, 1, true, "a ROM that uses one xid for all, later")
	})
}

func TestStationsAreBoundedAndLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStations()
		first := [6]byte{0xff}
		for n := range packetsBurst {
			if !s.allow(first) {
				t.Fatalf("packet %d was refused", n)
			}
		}
		if s.allow(first) {
			t.Error("more than the burst was allowed")
		}
		time.Sleep(time.Second / packetsPerSecond)
		if !s.allow(first) {
			t.Error("still refused a tenth of a second later")
		}
		for n := range maxStations + 10 {
			s.allow([6]byte{0, byte(n >> 16), byte(n >> 8), byte(n)})
		}
		if len(s.byMAC) != maxStations || s.recent.Len() != maxStations {
			t.Errorf("%d stations, %d in order; want %d", len(s.byMAC), s.recent.Len(), maxStations)
		}
		if _, kept := s.byMAC[first]; kept {
			t.Error("the oldest was kept")
		}
	})
}

func TestURLsFitTheFileField(t *testing.T) {
	s := &Server{}
	s.httpPort.Store(65535)
	longest := netip.MustParseAddr("255.255.255.254")
	for _, c := range []firmware{firmwareIPXE, firmwareHTTP} {
		if url := s.offer(who(c, "arm64"), longest); len(url) > maxFileName {
			t.Errorf("%s is %d bytes long", url, len(url))
		}
	}
	if _, err := newLoaders("", s.scriptURL(longest), nil); err != nil {
		t.Errorf("the longest URL does not fit into the loader: %v", err)
	}
}

func who(fw firmware, arch string) client { return client{firmware: fw, arch: arch} }
