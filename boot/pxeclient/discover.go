package pxeclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// EDK2 and iPXE collect offers for this long.
const (
	windowFirmware = 4 * time.Second
	windowIPXE     = 2 * time.Second
)

// discover asks for offers and returns the one that the firmware would take.
func (b *boot) discover(ctx context.Context, id identity) (Offer, error) {
	s := Step{Name: "dhcp", At: time.Now()}
	offers, err := b.offers(ctx, id)
	won, found := choose(id.firmware, offers, b.leased())
	if found {
		err = nil
	}
	for n := range offers {
		offers[n].Won = found && offers[n].same(won)
		offers[n].Verdict = offers[n].verdict(won, found)
	}
	b.result.Offers = append(b.result.Offers, offers...)
	s.Offers, s.File, s.Bytes = offers, won.File, -1
	s.Detail = fmt.Sprintf("%s offers %s from %s (%s)", won.From, won.File, won.Server, won.Kind)
	b.judge(offers, won)
	if err != nil && !isStart(err) {
		err = &Error{Step: "dhcp", Code: noOffer(id.firmware), Err: fmt.Errorf("%w: %s", err, describe(offers)), Hint: b.noOfferHint(offers)}
	}
	return won, b.report(s, err)
}

// leased says that the machine has an address without any offer.
func (b *boot) leased() bool { return b.Local.IsValid() || b.Relay.IsValid() }

func (b *boot) offers(ctx context.Context, id identity) (offers []Offer, err error) {
	packet, err := b.packet(id, dhcpv4.MessageTypeDiscover)
	if err != nil {
		return nil, &Error{Step: "dhcp", Err: err}
	}
	legs, err := b.legsDHCP(ctx)
	if err != nil {
		return nil, cannotAsk("DHCP", err)
	}
	err = b.exchange(ctx, legs, packet, patience{b.Timeout, b.window(id)}, func(a answer) bool {
		if a.packet.MessageType() == dhcpv4.MessageTypeOffer {
			o := read(id.firmware, a.packet, a.from)
			o.After = a.after
			if !slices.ContainsFunc(offers, o.same) {
				offers = append(offers, o)
			}
		}
		_, found := choose(id.firmware, offers, b.leased())
		return found
	})
	if err == nil {
		err = errors.New("no usable offer")
	}
	return offers, err
}

// cannotAsk is a failure of this host, not of who should answer.
func cannotAsk(what string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		hint = "be root, or ask one server by unicast"
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another program of this host has the port"
	}
	return &Error{Step: "start", Err: fmt.Errorf("open a socket for %s: %w", what, err), Hint: hint}
}

func isStart(err error) bool {
	var failure *Error
	return errors.As(err, &failure) && failure.Step == "start"
}

// window is how long offers are collected after the first; 0 is not at all.
func (b *boot) window(id identity) time.Duration {
	switch {
	case b.Window > 0:
		return b.Window
	case b.DHCP.IsValid():
		return 0
	case id.firmware == IPXE:
		return windowIPXE
	default:
		return windowFirmware
	}
}

func noOffer(fw Firmware) string {
	switch fw {
	case BIOS:
		return "PXE-E51"
	case IPXE, UBoot, RPi:
		return ""
	default:
		return "PXE-E16"
	}
}

// noOfferHint says what to do where no offer is of use: each way of being so has
// another cure.
func (b *boot) noOfferHint(offers []Offer) string {
	address := b.leased()
	for _, o := range offers {
		address = address || o.Address.IsValid()
	}
	for _, o := range offers {
		switch {
		case o.Kind == Useless && o.cure != "":
			return fmt.Sprintf("%s: %s", o.From.Addr(), o.cure)
		case o.Kind != Useless && o.Kind != DHCPOnly && !address:
			return "a DHCP server must give out addresses here: a PXE proxy gives none"
		case o.Kind != Useless && o.Kind != DHCPOnly && o.File == "":
			return fmt.Sprintf("%s must name a boot file for this architecture", o.From.Addr())
		}
	}
	if b.DHCP.IsValid() {
		return "bmctl serve must run there and answer DHCP; are UDP ports 67 and 68 open between?"
	}
	return "bmctl serve must be on this broadcast domain, or behind a relay: --relay"
}

// judge warns of what may make another machine, or the next attempt, end
// differently.
func (b *boot) judge(offers []Offer, won Offer) {
	var rivals []string
	for _, o := range offers {
		boots := o.Kind != Useless && o.Kind != DHCPOnly
		switch {
		case o.Kind == Useless && o.cure != "":
			b.warn("%s is not accepted: %s", o.From.Addr(), o.Why)
		case boots && !o.Won && o.From.Addr() != won.From.Addr():
			rivals = append(rivals, o.From.Addr().String())
		}
	}
	if len(rivals) > 0 {
		slices.Sort(rivals)
		b.warn("%s offers a network boot too: other firmware may follow that one", strings.Join(slices.Compact(rivals), ", "))
	}
	if won.Kind == DHCPBINL && len(rivals) > 0 {
		b.warn("%s sends option 60 (PXEClient) itself, so it is asked on port 4011, and a proxy is not", won.From.Addr())
	}
}
