package pxeclient

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// request is the second phase: the server of the offer is asked for the file,
// from port 4011 to port 4011.
func (b *boot) request(ctx context.Context, id identity, offer Offer) (Offer, error) {
	to := b.ProxyDHCP
	if !to.IsValid() {
		to = netip.AddrPortFrom(offer.requestFrom(), proxyPort)
	}
	s := Step{Name: "request", At: time.Now(), Bytes: -1}
	got, err := b.acknowledge(ctx, id, offer, to)
	s.File = got.File
	s.Detail = fmt.Sprintf("%s acknowledges %s from %s", to, got.File, got.Server)
	if err != nil && !isStart(err) {
		err = &Error{Step: "request", Code: noRequest(id.firmware), Err: fmt.Errorf("%s: %w", to, err), Hint: requestHint(offer)}
	}
	return got, b.report(s, err)
}

func noRequest(fw Firmware) string {
	switch fw {
	case BIOS:
		return "PXE-E55"
	case IPXE, UBoot, RPi:
		return ""
	default:
		return "PXE-E16"
	}
}

func requestHint(offer Offer) string {
	if offer.Kind == DHCPBINL {
		return fmt.Sprintf("%s gives out addresses and sends option 60 (PXEClient), so it is asked in place of any proxy: take option 60 away there", offer.From.Addr())
	}
	return "the server that the offer names must answer on UDP port 4011: does a firewall drop it? bmctl serve --pxe-style pxe10 does without"
}

// acknowledge asks for the file of an offer.
func (b *boot) acknowledge(ctx context.Context, id identity, offer Offer, to netip.AddrPort) (got Offer, err error) {
	if len(offer.Menu) > 0 && offer.Menu[0].Type == 0 {
		return Offer{}, errors.New("the first item of the boot menu is the local disk")
	}
	packet, err := b.packet(id, dhcpv4.MessageTypeRequest)
	if err != nil {
		return Offer{}, err
	}
	packet.GatewayIPAddr, packet.HopCount = nil, 0 // it is not relayed
	if len(offer.Menu) > 0 {
		packet.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, offer.Menu[0].choice()))
	}
	way, err := b.legProxy(ctx, to)
	if err != nil {
		return Offer{}, cannotAsk("ProxyDHCP", err)
	}
	answered := false
	err = b.exchange(ctx, []leg{way}, packet, patience{timeout: b.Timeout}, func(a answer) bool {
		if a.packet.MessageType() != dhcpv4.MessageTypeAck || a.from.Port() != to.Port() {
			return false
		}
		got, answered = read(id.firmware, a.packet, a.from), true
		return true
	})
	switch {
	case !answered && err == nil:
		return Offer{}, errors.New("no answer")
	case !answered:
		return Offer{}, err
	case got.Kind == Useless || got.File == "" || !got.Server.IsValid():
		return Offer{}, fmt.Errorf("acknowledged, but with no file to load: %s", got.Why)
	}
	return got, nil
}

// MenuItem is an entry of a boot menu (PXE 2.1, table 2-1, sub-option 9).
type MenuItem struct {
	Type uint16 // of boot server; 0 is the local disk
	Text string
}

// choice is option 43 of a request for an item: sub-option 71, layer 0.
func (m MenuItem) choice() []byte {
	return append(binary.BigEndian.AppendUint16([]byte{71, 4}, m.Type), 0, 0, 255)
}

// menuOf reads a boot menu.
func menuOf(list []byte) (menu []MenuItem) {
	for len(list) >= 3 && len(list) >= 3+int(list[2]) {
		menu = append(menu, MenuItem{Type: binary.BigEndian.Uint16(list), Text: string(list[3 : 3+int(list[2])])})
		list = list[3+int(list[2]):]
	}
	return menu
}

// bootServers reads sub-option 8: by type, the first address of each.
func bootServers(list []byte) map[uint16]netip.Addr {
	servers := map[uint16]netip.Addr{}
	for len(list) >= 3 && len(list) >= 3+4*int(list[2]) {
		size := 3 + 4*int(list[2])
		if size > 3 {
			servers[binary.BigEndian.Uint16(list)] = addr(list[3:7])
		}
		list = list[size:]
	}
	return servers
}
