package boot

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// overheard is an answer to a machine on the wire: IPv4 and UDP headers, then DHCP.
func overheard(from [4]byte, dhcp []byte) []byte {
	packet := make([]byte, 28, 28+len(dhcp))
	packet[0], packet[9] = 0x45, 17
	copy(packet[12:], from[:])
	binary.BigEndian.PutUint16(packet[20:], dhcpServerPort)
	binary.BigEndian.PutUint16(packet[22:], dhcpClientPort)
	binary.BigEndian.PutUint16(packet[24:], uint16(8+len(dhcp)))
	return append(packet, dhcp...)
}

// offered is an OFFER of the library's own making, as of any server.
func offered(yiaddr [4]byte, file string, options ...[]byte) []byte {
	packet := packetBytes(2, broadcastFlag, none, none, none, "", file, append([][]byte{option(53, "\x02")}, options...)...)
	copy(packet[16:], yiaddr[:])
	return packet
}

// heardBy says what a server of that style tells of the packets, in their order.
func heardBy(t *testing.T, style Style, packets ...[]byte) (told []Event, prefersOne bool) {
	t.Helper()
	s := &Server{config: Config{Style: style, Advertise: netip.AddrFrom4(ours), Log: slog.New(slog.DiscardHandler)},
		recorder: newRecorder(slog.New(slog.DiscardHandler), func(e Event) { told = append(told, e) }), stations: newStations(), interfaces: &interfaces{}}
	r := &rivals{server: s, told: map[rival]time.Time{}}
	for n, p := range packets {
		r.hear(p, -1, time.Now().Add(time.Duration(n)*time.Minute))
	}
	s.recorder.drain()
	return told, s.stations.single
}

func TestRivals(t *testing.T) {
	other, lease := [4]byte{10, 0, 2, 6}, [4]byte{10, 0, 2, 141}
	pxe, id := option(60, "PXEClient"), option(54, string(other[:]))
	for name, c := range map[string]struct {
		style  Style
		packet []byte
		says   string // "" is nothing
		one    bool
	}{
		"another proxy":                {StyleAuto, offered(none, "other.efi", pxe, id), "10.0.2.6 offers a network boot too (other.efi): a machine follows the one or the other", false},
		"its name in option 67":        {StyleAuto, offered(none, "", pxe, id, option(67, "a.efi")), "(a.efi)", false},
		"HTTP boot":                    {StyleAuto, offered(none, "", option(60, "HTTPClient"), option(67, "http://10.0.2.6/x.efi")), "offers a network boot too (http://10.0.2.6/x.efi)", false},
		"without option 54":            {StyleAuto, offered(none, "x", pxe), "10.0.2.6 offers", false},
		"the DHCP server's option 60":  {StyleAuto, offered(lease, "", pxe, id), "in place of this host, and BIOS may end with PXE-E55; UEFI is answered in one phase", true},
		"the same for two phases only": {StyleBINL, offered(lease, "", pxe, id), "ends with PXE-E16: take option 60 away there, or use --pxe-style auto", true},
		"its options 60 and 43":        {StyleAuto, offered(lease, "x.efi", pxe, id, option(43, "\x06\x01\x08\xff")), "machines do not come here; take options 60 and 43 away", false},
		"an option 43 of other things": {StyleAuto, offered(lease, "", pxe, id, option(43, "\x01\x04abcd\xff")), "sends option 60", true},
		"an address alone":             {StyleAuto, offered(lease, "x.efi", id), "", false},
		"an acknowledgement":           {StyleAuto, packetBytes(2, 0, none, none, none, "", "x", option(53, "\x05"), pxe, id), "", false},
		"a machine's question":         {StyleAuto, packetBytes(1, 0, none, none, none, "", "", option(53, "\x02"), pxe), "", false},
		"our own offer":                {StyleAuto, offered(none, "ipxe.efi", pxe, option(54, string(ours[:]))), "", false},
	} {
		told, one := heardBy(t, c.style, overheard(other, c.packet))
		if c.says == "" {
			if len(told) != 0 {
				t.Errorf("%s: told %+v", name, told)
			}
			continue
		}
		if len(told) != 1 || told[0].Type != EventRival || told[0].Addr != netip.AddrFrom4(other) || !strings.Contains(told[0].Reason, c.says) || one != c.one {
			t.Errorf("%s: told %+v, one phase first %v", name, told, one)
		}
	}
}

// Each rival is told once, and again where it is still there an hour later.
func TestRivalsAreToldOnce(t *testing.T) {
	var packets [][]byte
	for range 90 {
		packets = append(packets, overheard([4]byte{10, 0, 2, 6}, offered(none, "x", option(60, "PXEClient"))))
	}
	if told, _ := heardBy(t, StyleAuto, packets...); len(told) != 2 {
		t.Errorf("told %d times in 90 minutes, want twice", len(told))
	}
	packets = nil
	for n := range byte(200) {
		packets = append(packets, overheard([4]byte{10, 0, 3, n}, offered(none, "x", option(60, "PXEClient"))))
	}
	if told, _ := heardBy(t, StyleAuto, packets...); len(told) != maxRivals {
		t.Errorf("a flood of forged answers is told %d times, want %d", len(told), maxRivals)
	}
}

// FuzzRivals: nothing that is overheard brings the watcher down, and what it tells
// has printable words only.
func FuzzRivals(f *testing.F) {
	f.Add(overheard([4]byte{10, 0, 2, 6}, offered(none, "other.efi", option(60, "PXEClient"), option(43, "\x06\x01\x08\xff"))))
	f.Add(overheard([4]byte{10, 0, 2, 6}, offered([4]byte{10, 0, 2, 141}, "a\x1bb", option(60, "PXEClient"))))
	f.Add([]byte{0x4f, 0, 0})
	f.Fuzz(func(t *testing.T, packet []byte) {
		told, _ := heardBy(t, StyleAuto, packet)
		for _, e := range told {
			if !e.Addr.IsValid() || e.Reason == "" || strings.ContainsAny(e.Reason+e.File, "\x00\x1b\n") {
				t.Errorf("told %+v", e)
			}
		}
	})
}
