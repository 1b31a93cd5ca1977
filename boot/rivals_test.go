package boot

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
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

// heardBy says what a server tells of the packets, in their order.
func heardBy(t *testing.T, packets ...[]byte) []Event {
	t.Helper()
	return heardOn(t, &interfaces{}, packets...)
}

// heardOn is the same on the interface -1 of a host.
func heardOn(t *testing.T, host *interfaces, packets ...[]byte) (told []Event) {
	t.Helper()
	s := &Server{config: Config{Advertise: netip.AddrFrom4(ours), Log: slog.New(slog.DiscardHandler)},
		recorder: newRecorder(slog.New(slog.DiscardHandler), func(e Event) { told = append(told, e) }), stations: newStations(), interfaces: host}
	r := &rivals{server: s, told: map[rival]time.Time{}}
	for n, p := range packets {
		r.hear(p, -1, time.Now().Add(time.Duration(n)*time.Minute))
	}
	s.recorder.drain()
	return told
}

func TestRivals(t *testing.T) {
	other, lease := [4]byte{10, 0, 2, 6}, [4]byte{10, 0, 2, 141}
	pxe, id := option(60, "PXEClient"), option(54, string(other[:]))
	for name, c := range map[string]struct {
		packet []byte
		says   string // "" is nothing
	}{
		"another proxy":                {offered(none, "other.efi", pxe, id), "10.0.2.6 offers a network boot too (other.efi): a machine follows the one or the other"},
		"its name in option 67":        {offered(none, "", pxe, id, option(67, "a.efi")), "(a.efi)"},
		"HTTP boot":                    {offered(none, "", option(60, "HTTPClient"), option(67, "http://10.0.2.6/x.efi")), "offers a network boot too (http://10.0.2.6/x.efi)"},
		"without option 54":            {offered(none, "x", pxe), "10.0.2.6 offers"},
		"the DHCP server's option 60":  {offered(lease, "", pxe, id), "in place of this host: UEFI ends with PXE-E16, BIOS with PXE-E55; take option 60 away there"},
		"its options 60 and 43":        {offered(lease, "x.efi", pxe, id, option(43, "\x06\x01\x08\xff")), "machines do not come here; take options 60 and 43 away"},
		"an option 43 of PXE's others": {offered(lease, "", pxe, id, option(43, "\x0c\x01a\xff")), "sends option 60"},
		"an option 54 of nobody":       {offered(none, "x", pxe, option(54, "\x00\x00\x00\x00")), "10.0.2.6 offers"},
		"an option 43 of other things": {offered(lease, "", pxe, id, option(43, "\x01\x04abcd\xff")), "sends option 60"},
		"an address alone":             {offered(lease, "x.efi", id), ""},
		"an acknowledgement":           {packetBytes(2, 0, none, none, none, "", "x", option(53, "\x05"), pxe, id), ""},
		"a machine's question":         {packetBytes(1, 0, none, none, none, "", "", option(53, "\x02"), pxe), ""},
		"our own offer":                {offered(none, "ipxe.efi", pxe, option(54, string(ours[:]))), ""},
	} {
		told := heardBy(t, overheard(other, c.packet))
		if c.says == "" {
			if len(told) != 0 {
				t.Errorf("%s: told %+v", name, told)
			}
			continue
		}
		if len(told) != 1 || told[0].Type != EventRival || told[0].Addr != netip.AddrFrom4(other) || !strings.Contains(told[0].Reason, c.says) {
			t.Errorf("%s: told %+v", name, told)
		}
	}
}

// What this host sends itself, from whichever of its addresses, is no rival's.
func TestNoRivalOfItself(t *testing.T) {
	other := [4]byte{10, 0, 2, 6}
	packet := overheard(other, offered(none, "x", option(60, "PXEClient")))
	for name, c := range map[string]struct {
		link iface
		told int
	}{
		"another network":         {iface{name: "eno1", addrs: []netip.Addr{netip.MustParseAddr("10.0.2.7")}}, 1},
		"an address of this host": {iface{name: "eno1", addrs: []netip.Addr{netip.MustParseAddr("10.0.3.1"), netip.AddrFrom4(other)}}, 0},
		"loopback":                {iface{name: "lo", loopback: true}, 0},
	} {
		host := &interfaces{read: time.Now(), byIndex: map[int]iface{-1: c.link}}
		if told := heardOn(t, host, packet); len(told) != c.told {
			t.Errorf("%s: told %+v", name, told)
		}
	}
}

// A machine that is lost makes it ask again, though not more often than every five
// minutes. There is no interface here to ask on; that it would is seen by its taking
// notice.
func TestRivalsAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := &Server{config: Config{Log: slog.New(slog.DiscardHandler)}, stations: newStations()}
		go (&rivals{server: s, device: "nonesuch0"}).ask(ctx)
		for range 2 {
			s.stations.lost <- struct{}{}
			time.Sleep(askAgain - 2*time.Second)
			if synctest.Wait(); len(s.stations.lost) != 1 {
				t.Error("asked again before its time")
			}
			time.Sleep(3 * time.Second)
			if synctest.Wait(); len(s.stations.lost) != 0 {
				t.Fatal("not asked again")
			}
		}
	})
}

func TestRivalsAreAskedForOnTheInterface(t *testing.T) {
	for _, device := range []string{"nonesuch0", "lo"} {
		if found := (&rivals{device: device}).devices(); len(found) != 0 {
			t.Errorf("on %s: %+v", device, found)
		}
	}
	for _, link := range (&rivals{}).devices() {
		if found := (&rivals{device: link.Name}).devices(); len(found) != 1 || found[0].Name != link.Name {
			t.Errorf("on %s: %+v", link.Name, found)
		}
	}
}

// Each rival is told once, and again where it is still there an hour later.
func TestRivalsAreToldOnce(t *testing.T) {
	var packets [][]byte
	for range 90 {
		packets = append(packets, overheard([4]byte{10, 0, 2, 6}, offered(none, "x", option(60, "PXEClient"))))
	}
	if told := heardBy(t, packets...); len(told) != 2 {
		t.Errorf("told %d times in 90 minutes, want twice", len(told))
	}
	packets = nil
	for n := range byte(200) {
		packets = append(packets, overheard([4]byte{10, 0, 3, n}, offered(none, "x", option(60, "PXEClient"))))
	}
	if told := heardBy(t, packets...); len(told) != maxRivals {
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
		told := heardBy(t, packet)
		for _, e := range told {
			if !e.Addr.IsValid() || e.Reason == "" || strings.ContainsAny(e.Reason+e.File, "\x00\x1b\n") {
				t.Errorf("told %+v", e)
			}
		}
	})
}
