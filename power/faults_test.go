package power_test

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// eachProtocol runs the test over IPMI and over Redfish.
func eachProtocol(t *testing.T, cfg bmcsim.Config, test func(t *testing.T, sim *bmcsim.BMC, target power.Target)) {
	t.Helper()

	for _, protocol := range []power.Protocol{power.ProtocolIPMI, power.ProtocolRedfish} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, cfg)
			target.Protocol = protocol
			test(t, sim, target)
		})
	}
}

func open(t *testing.T, target power.Target) power.BMC {
	t.Helper()

	return bmctest.Open(t, power.NewDialer(power.Options{}), target)
}

func setFault(t *testing.T, sim *bmcsim.BMC, name string, on bool) {
	t.Helper()

	if err := sim.SetFault(name, on); err != nil {
		t.Fatal(err)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)

	return ctx
}

// acts are the kinds of act that reached the controller.
func acts(sim *bmcsim.BMC) []bmcsim.ActKind {
	var kinds []bmcsim.ActKind
	for _, act := range sim.Acts() {
		kinds = append(kinds, act.Kind)
	}

	return kinds
}

func wantActs(t *testing.T, sim *bmcsim.BMC, want ...bmcsim.ActKind) {
	t.Helper()

	if got := acts(sim); !slices.Equal(got, want) {
		t.Errorf("the controller was asked %v, want %v", got, want)
	}
}

func TestNeedlessActsSendNothing(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		bmc := open(t, target)
		bmctest.Do(t, bmc, power.Off, power.Soft, power.On, power.On, power.Off, power.Off)
		wantActs(t, sim, bmcsim.ActOn, bmcsim.ActOff)
	})
}

func TestActsArriveAsAsked(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{On: true}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		bmctest.Do(t, open(t, target), power.Cycle, power.Reset, power.NMI, power.Soft)
		wantActs(t, sim, bmcsim.ActCycle, bmcsim.ActReset, bmcsim.ActNMI, bmcsim.ActSoft)
	})
}

func TestSoftNeverTurnsIntoOff(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{On: true}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		setFault(t, sim, bmcsim.FaultIgnoreSoft, true)

		err := open(t, target).Do(within(t, 2*time.Second), power.Soft)
		bmctest.WantKind(t, err, target, power.ErrRefused)
		wantActs(t, sim, bmcsim.ActSoft)
	})
}

func TestBootOverrideArrives(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		bmc := open(t, target)

		for _, want := range []power.Boot{
			{Device: power.DevicePXE, Mode: power.ModeUEFI},
			{Device: power.DeviceDisk, Mode: power.ModeBIOS},
			{Device: power.DeviceDisk, Mode: power.ModeUEFI, Persistent: true},
			{Device: power.DeviceSetup, Mode: power.ModeUEFI},
			{},
		} {
			if err := bmc.SetBoot(bmctest.Context(t), want); err != nil {
				t.Fatalf("%+v: %v", want, err)
			}

			if got := sim.Boot(); got != want {
				t.Errorf("the controller has %+v, want %+v", got, want)
			}
		}

		if err := bmc.SetBoot(bmctest.Context(t), power.Boot{Device: power.DevicePXE}); err != nil {
			t.Fatal(err)
		}

		bmctest.Do(t, bmc, power.On)

		if got := sim.Boot(); got != (power.Boot{}) {
			t.Errorf("after the power-on the one-shot override is still %+v", got)
		}
	})
}

func TestModeKeepKeepsTheMode(t *testing.T) {
	t.Parallel()

	for _, vendor := range []string{"Contoso", "Supermicro", "Dell Inc.", "HPE"} {
		t.Run(vendor, func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, bmcsim.Config{Vendor: vendor})
			target.Protocol = power.ProtocolRedfish
			bmc := open(t, target)

			for _, mode := range []power.Mode{power.ModeBIOS, power.ModeUEFI} {
				for _, boot := range []power.Boot{
					{Device: power.DevicePXE, Mode: mode}, {Device: power.DeviceDisk}, {}, {Device: power.DevicePXE},
				} {
					if err := bmc.SetBoot(bmctest.Context(t), boot); err != nil {
						t.Fatalf("%+v: %v", boot, err)
					}

					if got := sim.Boot(); boot.Device != power.DeviceNone && got.Mode != mode {
						t.Errorf("%+v left the mode %s, want %s", boot, got.Mode, mode)
					}
				}
			}
		})
	}
}

// E1: the controller drops an override after 60 s, unless told not to.
func TestBootOverrideOutlivesTheTimeout(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{BootTimeout: time.Nanosecond})
	target.Protocol = power.ProtocolIPMI
	bmc := open(t, target)

	want := power.Boot{Device: power.DevicePXE, Mode: power.ModeUEFI, Persistent: true}
	if err := bmc.SetBoot(bmctest.Context(t), want); err != nil {
		t.Fatal(err)
	}

	bmctest.Do(t, bmc, power.On)

	if got := sim.Boot(); got != want {
		t.Errorf("the override is %+v after the power-on, want %+v", got, want)
	}
}

func TestLyingBootIsFoundOut(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		setFault(t, sim, bmcsim.FaultLyingBoot, true)

		err := open(t, target).SetBoot(bmctest.Context(t), power.Boot{Device: power.DevicePXE})
		bmctest.WantKind(t, err, target, power.ErrRefused)
	})
}

func TestLyingPowerIsFoundOut(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		setFault(t, sim, bmcsim.FaultLyingPower, true)

		err := open(t, target).Do(within(t, 3*time.Second), power.On)
		bmctest.WantKind(t, err, target, power.ErrRefused)
		wantActs(t, sim, bmcsim.ActOn)
	})
}

// E5, E7: a controller that has no power cycle is switched off and on.
func TestCycleWithoutCycle(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{On: true}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		setFault(t, sim, bmcsim.FaultNoCycle, true)
		bmctest.Do(t, open(t, target), power.Cycle)

		want := []bmcsim.ActKind{bmcsim.ActOff, bmcsim.ActOn}
		if target.Protocol == power.ProtocolIPMI {
			want = append([]bmcsim.ActKind{bmcsim.ActCycle}, want...) // it has to be asked
		}

		wantActs(t, sim, want...)
	})
}

func TestSilentIsBoundedByTheDeadline(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		bmc := open(t, target)
		bmctest.WantState(t, bmc, power.StateOff)
		setFault(t, sim, bmcsim.FaultSilent, true)

		since := time.Now()
		_, err := bmc.State(within(t, time.Second))
		bmctest.WantKind(t, err, target, power.ErrUnreachable)

		if took := time.Since(since); took > 1500*time.Millisecond {
			t.Errorf("a call with a deadline of 1s took %s", took)
		}

		text := regexp.MustCompile(`^r1n07: read the power state: no answer from 127\.0\.0\.1:\d+ in (900ms|1(\.\d)?s)$`)
		if !text.MatchString(err.Error()) {
			t.Errorf("the error reads %q", err)
		}

		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not wrap the expired deadline", err)
		}

		setFault(t, sim, bmcsim.FaultSilent, false)
		bmctest.WantState(t, bmc, power.StateOff)
	})
}

func TestOneSilentControllerDelaysNoOther(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		setFault(t, sim, bmcsim.FaultSilent, true)

		dialer := power.NewDialer(power.Options{})
		silent := bmctest.Open(t, dialer, target)
		_, answering := bmctest.Simulated(t, bmcsim.Config{})
		answering.Protocol = target.Protocol
		other := bmctest.Open(t, dialer, answering)

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := silent.State(ctx)
			done <- err
		}()

		for range 5 {
			bmctest.WantState(t, other, power.StateOff)
		}

		select {
		case err := <-done:
			t.Errorf("the silent controller answered: %v", err)
		default:
		}

		cancel()

		if err := bmctest.CheckKind(<-done, target, power.ErrUnreachable); err != nil {
			t.Error(err)
		}
	})
}

func TestForgottenSessionsHeal(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		bmc := open(t, target)

		for range 2 {
			bmctest.WantState(t, bmc, power.StateOff)
			sim.DropSessions()
		}

		bmctest.Do(t, bmc, power.On)
		sim.DropSessions()
		bmctest.Do(t, bmc, power.Off)
		wantActs(t, sim, bmcsim.ActOn, bmcsim.ActOff)
	})
}

func TestSlowIsWaitedFor(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{SlowBy: 300 * time.Millisecond}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		setFault(t, sim, bmcsim.FaultSlow, true)
		bmctest.Do(t, open(t, target), power.On)
	})
}

func TestBusyIsRetriedUntilTheDeadline(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		bmc := open(t, target)
		setFault(t, sim, bmcsim.FaultBusy, true)

		bmctest.WantKind(t, bmc.Do(within(t, 2*time.Second), power.On), target, power.ErrBusy)

		_, err := bmc.State(within(t, 2*time.Second))
		bmctest.WantKind(t, err, target, power.ErrBusy)

		timer := time.AfterFunc(300*time.Millisecond, func() { setFault(t, sim, bmcsim.FaultBusy, false) })
		defer timer.Stop()

		bmctest.Do(t, bmc, power.On)
		wantActs(t, sim, bmcsim.ActOn)
	})
}

func TestSessionsAreClosed(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		// More often than a controller has sessions.
		for range 10 {
			bmc := open(t, target)
			bmctest.WantState(t, bmc, power.StateOff)

			if n := sim.Sessions(); n != 1 {
				t.Fatalf("%d sessions while one conversation is open", n)
			}

			if err := bmc.Close(); err != nil {
				t.Fatal(err)
			}

			if n := sim.Sessions(); n != 0 {
				t.Fatalf("%d sessions are left open", n)
			}
		}
	})
}

// A cancelled call leaves the session in a state in which it can be closed.
func TestCancelledCallLeavesNoSession(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{SlowBy: 200 * time.Millisecond}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		bmc := open(t, target)
		bmctest.WantState(t, bmc, power.StateOff)
		setFault(t, sim, bmcsim.FaultSlow, true)

		_, err := bmc.State(within(t, 50*time.Millisecond))
		bmctest.WantKind(t, err, target, power.ErrUnreachable)

		if err := bmc.Close(); err != nil {
			t.Fatal(err)
		}

		if n := sim.Sessions(); n != 0 {
			t.Errorf("%d sessions are left open", n)
		}
	})
}

func TestAnotherMachineIsNotSwitched(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{On: true}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		target.UUID = "11111111-2222-4333-8444-555555555555"
		bmc := open(t, target)

		// To look is harmless.
		bmctest.WantState(t, bmc, power.StateOn)

		for _, action := range []power.Action{power.Off, power.Cycle, power.Reset, power.Soft, power.NMI} {
			bmctest.WantKind(t, bmc.Do(bmctest.Context(t), action), target, power.ErrAmbiguous)
		}

		err := bmc.SetBoot(bmctest.Context(t), power.Boot{Device: power.DevicePXE})
		bmctest.WantKind(t, err, target, power.ErrAmbiguous)
		wantActs(t, sim)
	})
}

func TestByteOrdersOfTheUUID(t *testing.T) {
	t.Parallel()

	for name, order := range map[string]bmcsim.GUIDOrder{
		"reversed": bmcsim.GUIDReversed, "SMBIOS": bmcsim.GUIDSMBIOS, "network": bmcsim.GUIDNetwork,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, bmcsim.Config{GUIDOrder: order})
			target.Protocol = power.ProtocolIPMI
			target.UUID = strings.ToUpper(target.UUID)
			bmc := open(t, target)
			bmctest.Do(t, bmc, power.On)

			if got, err := bmc.Info(bmctest.Context(t)); err != nil || got.UUID != sim.UUID() {
				t.Errorf("the UUID reads %q (%v), want %q", got.UUID, err, sim.UUID())
			}
		})
	}
}

func TestControllerThatTellsNoUUIDIsSwitched(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	target.Protocol = power.ProtocolIPMI
	setFault(t, sim, bmcsim.FaultNoGUID, true)
	bmctest.Do(t, open(t, target), power.On)
}

// B14: never "the first" of several systems.
func TestTwoSystems(t *testing.T) {
	t.Parallel()

	for _, protocol := range []power.Protocol{power.ProtocolRedfish, power.ProtocolAuto} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, bmcsim.Config{})
			target.Protocol = protocol
			setFault(t, sim, bmcsim.FaultTwoSystems, true)
			bmctest.Do(t, open(t, target), power.On)

			for _, act := range sim.Acts() {
				if act.System != "" {
					t.Errorf("the other system was asked: %+v", act)
				}
			}

			for _, uuid := range []string{"", "11111111-2222-4333-8444-555555555555"} {
				target.UUID = uuid
				_, err := open(t, target).State(bmctest.Context(t))
				bmctest.WantKind(t, err, target, power.ErrAmbiguous)
			}
		})
	}
}

func TestInfoTellsTheSystem(t *testing.T) {
	t.Parallel()
	cfg := bmcsim.Config{Vendor: "Contoso", Model: "X1", Serial: "C0FFEE"}
	eachProtocol(t, cfg, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		got, err := open(t, target).Info(bmctest.Context(t))
		if err != nil {
			t.Fatal(err)
		}

		want := power.Info{
			Protocol: target.Protocol, Vendor: "Contoso", Model: "X1", Serial: "C0FFEE", Firmware: "1.10",
			UUID: sim.UUID(), Version: got.Version, AddressInUse: got.AddressInUse,
		}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}
