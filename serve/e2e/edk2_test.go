//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/bmctl/bmctl/boot"
)

// edk2 is a case of what EDK2's PXE stack makes of offers.
type edk2 struct {
	name     string
	style    boot.Style
	site     []string // of the site's own DHCP server, for dnsmasq
	peer     distortion
	attempts []attempt
}

// attempt is what comes of switching the machine on: what EDK2 does, what our
// events of it are, those of earlier attempts included, and what `bmctl pxe test`
// says, which has to agree.
type attempt struct {
	ends   func(*machine, *events) error
	steps  []boot.EventType
	rival  string // in our event of the site's DHCP server
	fails  string // the step of pxe test that fails, with PXE-E16
	won    string // the offer that is taken
	advice string // in pxe test's hint
}

// What EDK2 does: it loads, it gives up and says so, or it goes on asking, which
// it does for a minute before it says the same.
func loads(m *machine, seen *events) error {
	if seen.count(m, boot.EventLoader) == 0 {
		return fmt.Errorf("no loader was fetched; events:\n%s", seen)
	}

	return nil
}

func givesUp(m *machine, seen *events) error {
	if !strings.Contains(m.console(), "PXE-E16") {
		return fmt.Errorf("the console shows no PXE-E16; events:\n%s", seen)
	}

	return nil
}

func asksOnly(m *machine, seen *events) error {
	if n := seen.count(m, boot.EventDiscover); n < 3 {
		return fmt.Errorf("asked %d times; events:\n%s", n, seen)
	}

	return nil
}

// edk2Cases are the ways of offers to be taken or not.
func edk2Cases() []edk2 {
	const (
		auto                      = boot.StyleAuto
		discover, request, loader = boot.EventDiscover, boot.EventRequest, boot.EventLoader
	)

	twoPhases := attempt{ends: loads, steps: []boot.EventType{discover, request, loader}, won: "proxy-binl"}
	// What serve learns of a machine that starts over.
	onePhase := attempt{ends: loads, steps: []boot.EventType{discover, loader}, won: "proxy-pxe10"}

	return []edk2{
		// It has to fail: the other cases would prove nothing otherwise.
		{"an offer without a server identifier", auto, nil, distortion{offer: withoutServerID}, []attempt{
			{ends: asksOnly, steps: []boot.EventType{discover}, fails: "dhcp", advice: "must carry option 54"},
		}},
		{"two phases", auto, nil, distortion{}, []attempt{twoPhases}},
		{"a file name in the second phase only", auto, nil, distortion{offer: withoutFile}, []attempt{twoPhases}},
		{"no answer in the second phase", auto, nil, distortion{silent: true}, []attempt{
			{ends: givesUp, steps: []boot.EventType{discover}, fails: "pxe request", won: "proxy-binl", advice: "must answer on UDP port 4011"}, onePhase,
		}},
		{"the site names a file of its own", auto, []string{"--dhcp-boot=elsewhere.efi"}, distortion{}, []attempt{twoPhases}},
		// In one phase, as that is preferred to a site's where there is also a server
		// that gives an address and nothing else.
		{"the site says PXEClient itself", boot.StylePXE10, []string{"--dhcp-option-force=60,PXEClient"}, distortion{}, []attempt{
			{ends: givesUp, steps: []boot.EventType{discover}, rival: "take option 60 away there", fails: "pxe request", won: "dhcp-binl", advice: "take option 60 away"},
		}},
	}
}

// withoutServerID makes an offer that EDK2 drops without a word.
func withoutServerID(offer *dhcpv4.DHCPv4) {
	delete(offer.Options, dhcpv4.OptionServerIdentifier.Code())
}

func withoutFile(offer *dhcpv4.DHCPv4) {
	offer.BootFileName = ""
	delete(offer.Options, dhcpv4.OptionBootfileName.Code())
}

// TestEDK2 has EDK2's own PXE stack choose among offers, and `bmctl pxe test`
// foretell what it does.
func TestEDK2(t *testing.T) {
	for _, c := range edk2Cases() {
		t.Run(c.name, func(t *testing.T) {
			if apart(t) {
				return
			}

			s := newSite(t, c.site...)
			m := s.newMachine(t, 1, uefi)
			seen := startDistorted(t, boot.Config{Style: c.style}, c.peer)

			for n, a := range c.attempts {
				if n > 0 {
					m.off(t)
				}

				foretell := s.pxeTest(t, "bench", "--firmware=uefi")
				m.boot(t)
				eventually(t, "EDK2 has made up its mind", 120*time.Second, func(context.Context) error { return a.ends(m, seen) })

				if err := errors.Join(seen.stepsAre(m, a.steps...), a.names(seen), a.agrees(foretell())); err != nil {
					t.Errorf("attempt %d: %v", n+1, err)
				}
			}
		})
	}
}

// names is nil if serve tells of the DHCP server where that is in the way, and
// of no server where nobody is.
func (a attempt) names(seen *events) error {
	said := seen.rivals()
	if a.rival == "" && len(said) == 0 || len(said) == 1 && a.rival != "" && strings.Contains(said[0], a.rival) && strings.Contains(said[0], siteAddr) {
		return nil
	}

	return fmt.Errorf("of other servers it was said: %q", said)
}

// agrees is nil if pxe test says what EDK2 does, why, and what to do.
func (a attempt) agrees(v verdict) error {
	code := ""
	if a.fails != "" {
		code = "PXE-E16"
	}

	var err error
	if loads := a.fails == ""; v.loads() != loads || !loads && v.failed() != a.fails || v.won() != a.won {
		err = fmt.Errorf("it loads: %t, fails in %q and takes %q, not %t, %q and %q", v.loads(), v.failed(), v.won(), loads, a.fails, a.won)
	}

	if code != "" && (v.Code != code || !strings.Contains(v.Hint, a.advice)) {
		err = errors.Join(err, fmt.Errorf("its code is %q, not %q, and it advises %q", v.Code, code, v.Hint))
	}

	if err != nil {
		return fmt.Errorf("pxe test disagrees: %w\n%s", err, v)
	}

	return nil
}
