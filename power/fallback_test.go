package power_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// fallbacks are what Options.Fallback was told.
type fallbacks struct {
	mu      sync.Mutex
	reasons []error
}

func (f *fallbacks) add(_ power.Target, reason error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.reasons = append(f.reasons, reason)
}

// next fails the test unless there was one more since the last time.
func (f *fallbacks) next(t *testing.T) error {
	t.Helper()

	f.mu.Lock()
	defer f.mu.Unlock()

	if len(f.reasons) != 1 {
		t.Fatalf("told %q, want one", f.reasons)
	}

	reason := f.reasons[0]
	f.reasons = nil

	return reason
}

func (f *fallbacks) none(t *testing.T) {
	t.Helper()

	f.mu.Lock()
	defer f.mu.Unlock()

	if len(f.reasons) != 0 {
		t.Fatalf("told %q, want nothing", f.reasons)
	}
}

// visit reads the power state in a conversation of its own, and tells over what.
// Nothing is left open, so that the time of a synctest bubble may pass.
func visit(t *testing.T, dialer *power.Dialer, target power.Target) power.Protocol {
	t.Helper()

	bmc, err := dialer.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}

	info, err := bmc.Info(bmctest.Context(t))
	if err := errors.Join(err, bmc.Close()); err != nil {
		t.Fatal(err)
	}

	return info.Protocol
}

func wantVisit(t *testing.T, dialer *power.Dialer, target power.Target, want power.Protocol) {
	t.Helper()

	if got := visit(t, dialer, target); got != want {
		t.Fatalf("spoken to in %s, want %s", got, want)
	}
}

// A login that Redfish refuses is told once, Redfish is asked again after five
// minutes and not before, and that it lets us in is told too.
func TestRefusedRedfishIsAskedAgain(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	setFault(t, sim, "redfish:bad-login", true)

	// The controller is outside of the bubble: time passes where no conversation is
	// open, and so not between two commands of one either (no IPMIGap).
	synctest.Test(t, func(t *testing.T) {
		var told fallbacks

		dialer := power.NewDialer(power.Options{Fallback: told.add, IPMIGap: -1})

		wantVisit(t, dialer, target, power.ProtocolIPMI)

		reason := told.next(t)
		bmctest.WantKind(t, reason, target, power.ErrAuth)

		if !strings.Contains(reason.Error(), "speak Redfish: ") {
			t.Errorf("the reason reads %q", reason)
		}

		wantVisit(t, dialer, target, power.ProtocolIPMI)
		time.Sleep(6 * time.Minute)
		wantVisit(t, dialer, target, power.ProtocolIPMI) // asked, and refused again
		told.none(t)

		setFault(t, sim, "redfish:bad-login", false)
		time.Sleep(4 * time.Minute)
		wantVisit(t, dialer, target, power.ProtocolIPMI) // not asked yet
		time.Sleep(2 * time.Minute)
		wantVisit(t, dialer, target, power.ProtocolRedfish)

		if reason := told.next(t); reason != nil {
			t.Errorf("told %q, want that Redfish is back", reason)
		}

		wantVisit(t, dialer, target, power.ProtocolRedfish)
		told.none(t)
		setFault(t, sim, "redfish:bad-login", true)
		wantVisit(t, dialer, target, power.ProtocolIPMI)
		bmctest.WantKind(t, told.next(t), target, power.ErrAuth)
	})
}

// A certificate that is not accepted is told in the same way.
func TestFallbackForACertificate(t *testing.T) {
	t.Parallel()

	var told fallbacks

	_, target := bmctest.Simulated(t, bmcsim.Config{})
	dialer := power.NewDialer(power.Options{Fallback: told.add, CheckCertificate: func(power.Target, *x509.Certificate, error) error {
		return errors.New("another one is pinned")
	}})

	wantVisit(t, dialer, target, power.ProtocolIPMI)

	reason := told.next(t)
	bmctest.WantKind(t, reason, target, power.ErrAuth)

	if !strings.Contains(reason.Error(), "another one is pinned") {
		t.Errorf("the reason reads %q", reason)
	}
}
