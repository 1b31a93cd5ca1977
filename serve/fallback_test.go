package serve

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// A BMC whose Redfish refuses the login is spoken to over IPMI, and that is an
// event of its machine: one, with the reason and without the password.
func TestRefusedRedfishIsAnEvent(t *testing.T) {
	cfg := DefaultConfig()
	cfg.OmniAPIEndpoint, cfg.OmniServiceAccountKey, cfg.APIAdvertiseAddress = "http://127.0.0.1:1", power.NewSecret(key), "127.0.0.1"
	cfg.StateDir, cfg.StateDirGiven = t.TempDir(), true

	s, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	dialer := power.NewDialer(s.powerOptions())
	state := func() {
		t.Helper()

		bmc, err := dialer.Open(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}

		_, err = bmc.State(bmctest.Context(t))
		if err := errors.Join(err, bmc.Close()); err != nil {
			t.Fatal(err)
		}
	}

	if err := sim.SetFault("redfish:bad-login", true); err != nil {
		t.Fatal(err)
	}

	state()
	state()

	events, _, _ := s.events.after(0)
	if len(events) != 1 || events[0].MachineID != target.UUID || events[0].Type != typeBMC || events[0].At.IsZero() {
		t.Fatalf("events %+v, want one of the machine", events)
	}

	const text = "BMC 127.0.0.1 does not let us in over Redfish: IPMI is spoken for now"
	if e := events[0]; e.Text != text || !strings.Contains(e.Reason, "speak Redfish: ") || strings.Contains(e.Reason, bmctest.Password) {
		t.Errorf("the event reads %q, %q", e.Text, e.Reason)
	}

	s.redfishFallback(target, nil)

	events, _, _ = s.events.after(events[0].Seq)
	if len(events) != 1 || events[0].Text != "BMC 127.0.0.1 lets us in over Redfish again" || events[0].Reason != "" {
		t.Errorf("events %+v, want one that Redfish is spoken again", events)
	}
}
