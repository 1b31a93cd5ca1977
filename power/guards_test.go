package power_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// An address that another machine's controller got while a conversation is open:
// it is a new session, and so the machine is looked at again before an act.
func TestReleasedAddressIsNotSwitched(t *testing.T) {
	t.Parallel()

	alone := netip.MustParseAddr("127.0.9.1") // nobody takes the ports meanwhile

	eachProtocol(t, bmcsim.Config{ListenIP: alone}, func(t *testing.T, first *bmcsim.BMC, target power.Target) {
		bmc := open(t, target)
		bmctest.Do(t, bmc, power.On)

		if err := first.Close(); err != nil {
			t.Fatal(err)
		}

		second, _ := bmctest.Simulated(t, bmcsim.Config{On: true, ListenIP: alone, IPMIPort: target.Port, RedfishPort: target.RedfishPort})

		// What was asked of the dead session may be lost first.
		err := bmc.Do(within(t, 3*time.Second), power.Off)
		for range 3 {
			if err != nil && strings.Contains(err.Error(), "this controller's machine is "+second.UUID()) {
				break
			}

			err = bmc.Do(within(t, 3*time.Second), power.Off)
		}

		bmctest.WantKind(t, err, target, power.ErrAmbiguous)
		bmctest.WantKind(t, bmc.SetBoot(bmctest.Context(t), power.Boot{Device: power.DevicePXE}), target, power.ErrAmbiguous)

		wantActs(t, second)
	})
}

// An act that waits for another one until its time is up was not sent.
func TestActThatWaitsIsNotSent(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		setFault(t, sim, bmcsim.FaultLyingPower, true) // the first act waits for its effect

		bmc := open(t, target)
		first := make(chan error, 1)
		ctx, cancel := context.WithCancel(bmctest.Context(t))

		defer cancel()

		go func() { first <- bmc.Do(ctx, power.On) }()

		for len(sim.Acts()) == 0 { // it is under way once it has arrived
			bmctest.WantState(t, bmc, power.StateOff)
		}

		err := bmc.SetBoot(within(t, 100*time.Millisecond), power.Boot{Device: power.DevicePXE})
		bmctest.WantKind(t, err, target, power.ErrBusy)
		cancel()

		if err := <-first; err == nil {
			t.Error("the first act shows, and should not")
		}

		wantActs(t, sim, bmcsim.ActOn)
	})
}

// A power cycle in two acts ends where the power does not go off: On would be
// taken for a success.
func TestCycleInTwoActsEndsWithTheFirstThatFails(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{On: true}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		setFault(t, sim, bmcsim.FaultNoCycle, true)
		setFault(t, sim, bmcsim.FaultLyingPower, true)

		bmctest.WantKind(t, open(t, target).Do(within(t, time.Second), power.Cycle), target, power.ErrRefused)

		if got := acts(sim); !slices.Contains(got, bmcsim.ActOff) || slices.Contains(got, bmcsim.ActOn) {
			t.Errorf("the controller was asked %v, want off and not on", got)
		}
	})
}

// An override that was to be cleared and is still there is found out, or the
// machine would boot from the network once more.
func TestOverrideThatStaysIsFoundOut(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		bmc := open(t, target)

		if err := bmc.SetBoot(bmctest.Context(t), power.Boot{Device: power.DevicePXE, Mode: power.ModeUEFI}); err != nil {
			t.Fatal(err)
		}

		setFault(t, sim, bmcsim.FaultLyingBoot, true)

		err := bmc.SetBoot(bmctest.Context(t), power.Boot{})
		bmctest.WantKind(t, err, target, power.ErrRefused)

		if !strings.Contains(err.Error(), "still has a boot override") {
			t.Errorf("the error reads %q", err)
		}
	})
}

// Polls leave a controller alone that did not answer several times in a row. A
// person's act does not wait for that.
func TestDeadControllerIsPolledLess(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, _ *bmcsim.BMC, target power.Target) {
		target.Port, target.RedfishPort = 9, 9 // nothing listens there

		const rests = "not asked for another "

		bmc := open(t, target)
		said := func() string {
			_, err := bmc.State(bmctest.Context(t))
			bmctest.WantKind(t, err, target, power.ErrUnreachable)

			return err.Error()
		}

		for i := range 3 {
			if text := said(); strings.Contains(text, rests) {
				t.Fatalf("poll %d: %s", i+1, text)
			}
		}

		// How long it rests is random, and longer after each failure.
		for n := 3; !strings.Contains(said(), rests); n++ {
			if n > 30 {
				t.Fatalf("%d polls in a row were sent", n)
			}
		}

		err := bmc.Do(bmctest.Context(t), power.On)
		bmctest.WantKind(t, err, target, power.ErrUnreachable)

		if strings.Contains(err.Error(), rests) {
			t.Errorf("an act was not sent: %v", err)
		}
	})
}
