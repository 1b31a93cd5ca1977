package boot

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	// rivalAgain is when a rival that is still there is told of again.
	rivalAgain = time.Hour
	// maxRivals bounds what a flood of forged answers can take.
	maxRivals = 64
	// askAgain is the least time between two questions of ours.
	askAgain = 5 * time.Minute
)

// rivals watches for others who answer machines that boot from the network: what
// they send decides what a machine does, and nobody else tells why it does not come
// here. Their offers are heard where they are broadcast, which those of a proxy are.
// A DHCP server may answer a machine directly; therefore it is asked as a machine
// would ask, with the broadcast flag, at start and when a machine does not follow
// our offers. That takes no lease.
type rivals struct {
	server  *Server
	sniffer *sniffer
	device  string // "" is every one
	told    map[rival]time.Time
}

// rival is someone who answers, and how.
type rival struct {
	addr netip.Addr
	how  howRival
}

type howRival string

const (
	rivalProxy howRival = "proxy"      // no address: a ProxyDHCP server
	rivalBINL  howRival = "option 60"  // the DHCP server, to be asked on port 4011
	rivalPXE10 howRival = "options 43" // the DHCP server, with all that is needed
)

func newRivals(s *Server, device string) (*rivals, error) {
	heard, err := newSniffer(device)
	if err != nil {
		return nil, err
	}
	return &rivals{server: s, sniffer: heard, device: device, told: map[rival]time.Time{}}, nil
}

// watch hears until the context ends. It is not needed to serve: where hearing
// fails, that is told.
func (r *rivals) watch(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { _ = r.sniffer.close() })()
	buffer := make([]byte, maxPacket)
	for {
		n, index, err := r.sniffer.hear(buffer)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.server.config.Log.Warn("other servers that answer machines are not seen any more", "reason", err.Error())
			return
		}
		r.hear(buffer[:n], index, time.Now())
	}
}

// hear judges one packet, from its IPv4 header on.
func (r *rivals) hear(packet []byte, index int, now time.Time) {
	link := r.server.interfaces.get(index)
	source, payload := udpPayload(packet)
	answer, err := dhcpv4.FromBytes(payload)
	if err != nil || link.loopback {
		return
	}
	found, ok := rivalOf(answer, source)
	if !ok || slices.Contains(link.addrs, found.addr) || found.addr == r.server.config.Advertise {
		return
	}
	if last, known := r.told[found]; known && now.Sub(last) < rivalAgain || !known && len(r.told) >= maxRivals {
		return
	}
	r.told[found] = now
	event := Event{Type: EventRival, Addr: found.addr, Interface: link.name, File: bootFileOf(answer)}
	event.Reason = found.meaning(event.File)
	r.server.recorder.post(record{event: event, level: slog.LevelWarn, text: "another server answers machines", attrs: []slog.Attr{
		slog.String("source", found.addr.String()), slog.String("interface", link.name), slog.String("boot_filename", event.File),
		slog.String("reason", event.Reason)}})
}

// udpPayload returns who sent a UDP packet over IPv4, and its content.
func udpPayload(packet []byte) (netip.Addr, []byte) {
	const udpHeader = 8
	if len(packet) < 20 {
		return netip.Addr{}, nil
	}
	size := int(packet[0]&0x0f) * 4
	if size < 20 || len(packet) < size+udpHeader {
		return netip.Addr{}, nil
	}
	end := size + int(binary.BigEndian.Uint16(packet[size+4:]))
	if end < size+udpHeader || end > len(packet) {
		return netip.Addr{}, nil
	}
	return netip.AddrFrom4([4]byte(packet[12:16])), packet[size+udpHeader : end]
}

// rivalOf says who offers a network boot with this packet, if it is such an offer.
func rivalOf(answer *dhcpv4.DHCPv4, source netip.Addr) (rival, bool) {
	class := string(answer.Options.Get(dhcpv4.OptionClassIdentifier))
	if answer.OpCode != dhcpv4.OpcodeBootReply || answer.MessageType() != dhcpv4.MessageTypeOffer ||
		!strings.HasPrefix(class, classPXE) && !strings.HasPrefix(class, classHTTP) {
		return rival{}, false
	}
	r := rival{addr: source, how: rivalProxy}
	if id, ok := netip.AddrFromSlice(answer.ServerIdentifier().To4()); ok && !id.IsUnspecified() {
		r.addr = id
	}
	switch {
	case answer.YourIPAddr == nil || answer.YourIPAddr.IsUnspecified():
	case strings.HasPrefix(class, classPXE) && !onePhase(answer.Options.Get(dhcpv4.OptionVendorSpecificInformation)):
		r.how = rivalBINL
	default:
		r.how = rivalPXE10
	}
	return r, true
}

// onePhase says whether option 43 has one of the sub-options 6 to 10, by which EDK2
// takes an offer for complete.
func onePhase(option []byte) bool {
	vendor := dhcpv4.Options{}
	if err := vendor.FromBytes(option); err != nil {
		return false
	}
	for code := range vendor {
		if code >= pxeDiscoveryControl && code <= pxeMenuPrompt {
			return true
		}
	}
	return false
}

func bootFileOf(answer *dhcpv4.DHCPv4) string {
	if file := answer.Options.Get(dhcpv4.OptionBootfileName); len(file) > 0 {
		return word(string(file))
	}
	return word(answer.BootFileName)
}

// meaning says what will happen, and what to configure. EDK2 takes a proxy's offer
// beside one that gives an address and nothing else: where the only DHCP server
// sends option 60, no answer of ours wins.
func (r rival) meaning(file string) string {
	named := ""
	if file != "" {
		named = fmt.Sprintf(" (%s)", file)
	}
	switch r.how {
	case rivalBINL:
		return fmt.Sprintf("the DHCP server %s sends option 60 (PXEClient) itself, so machines ask it on port 4011 in place of this host: "+
			"UEFI ends with PXE-E16, BIOS with PXE-E55; take option 60 away there", r.addr)
	case rivalPXE10:
		return fmt.Sprintf("the DHCP server %s offers a network boot itself%s, which firmware prefers: machines do not come here; take options 60 and 43 away there", r.addr, named)
	default:
		return fmt.Sprintf("%s offers a network boot too%s: a machine follows the one or the other; stop it, or let it answer other machines only", r.addr, named)
	}
}

// ask asks who answers, at once and then when a machine does not follow our offers.
func (r *rivals) ask(ctx context.Context) {
	for {
		for _, device := range r.devices() {
			// Without an answer nothing is found out, and the next chance comes.
			if err := askOn(device); err != nil {
				r.server.config.Log.Debug("not asked for other servers", "interface", device.Name, "reason", err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(askAgain):
		}
		select {
		case <-ctx.Done():
			return
		case <-r.server.stations.lost:
		}
	}
}

// devices are the networks that machines may be on.
func (r *rivals) devices() []net.Interface {
	links, _ := net.Interfaces()
	const wanted = net.FlagUp | net.FlagBroadcast
	return slices.DeleteFunc(links, func(link net.Interface) bool {
		addrs, err := link.Addrs()
		return r.device != "" && link.Name != r.device || link.Flags&(wanted|net.FlagLoopback) != wanted ||
			len(link.HardwareAddr) != 6 || err != nil || len(ipv4Addrs(addrs)) == 0
	})
}
