package soak_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/siderolabs/omni/client/api/omni/specs"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/lab"
	"github.com/bmctl/bmctl/serve/localapi"
)

// fleet is all machines, and where each of them ought to be.
type fleet struct {
	t     *testing.T
	lab   *lab.Lab
	judge *judge

	visits map[string]time.Time // the last of each machine
}

// patience is how long it may take until every machine is where it ought to be:
// longer than serve's longest pauses after a failure and an outage.
const patience = 4 * time.Minute

func (f *fleet) must(err error) {
	f.t.Helper()

	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) pressAll() {
	for _, m := range f.lab.Machines() {
		m.BMC.Press(power.Boot{Device: power.DevicePXE})
	}
}

// settle waits until every machine is where Omni wants it.
func (f *fleet) settle(when string) {
	f.t.Helper()
	f.await(when, f.misplaced)
}

// goHome has every machine accepted, out of its cluster, ready and off.
func (f *fleet) goHome(when string) {
	f.t.Helper()
	f.await("ready and off "+when, f.abroad)
}

func (f *fleet) await(what string, wrong func(*lab.Machine) string) {
	f.t.Helper()

	for begun := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		astray := map[string]string{}

		for _, m := range f.lab.Machines() {
			if why := wrong(m); why != "" {
				astray[m.Name] = why
			}
		}

		if len(astray) == 0 {
			f.t.Logf("%s: %d machines where they ought to be in %s", what, len(f.lab.Machines()), time.Since(begun).Round(time.Second))

			return
		}

		if time.Since(begun) > patience || f.lab.ServeEnded() {
			for _, name := range slices.Sorted(maps.Keys(astray)) {
				f.t.Errorf("%s: %s: %s", what, name, astray[name])
			}

			f.t.FailNow()
		}
	}
}

// shown is what serve says of the machine.
func (f *fleet) shown(m *lab.Machine) string {
	client := localapi.Dial(f.lab.SocketPath())
	defer client.Close()

	v, err := client.Machine(f.t.Context(), m.UUID)
	if err != nil {
		return err.Error()
	}

	return fmt.Sprintf("serve has it %s, %s, stage %q, because %s; %d power acts", v.Power, v.Status, v.Stage, v.Reason, len(m.BMC.Acts()))
}

// misplaced says why a machine is not where Omni wants it, or "".
func (f *fleet) misplaced(m *lab.Machine) string {
	now := f.judge.latest(m.UUID)

	switch {
	case now.leaving():
		return "not released: " + f.shown(m)
	case !now.accepted() || now.cordoned():
		return "" // whatever it does, it is left alone
	case now.bmc == nil && !m.AgentMode():
		return "" // it waits for somebody to go there
	case now.offRequested():
		return "" // also with its wipe still due
	case !now.wiped() || now.reported == nil || !now.reported.TypedSpec().Value.ReadyToUse:
		return "not wiped or not ready: " + f.shown(m)
	case now.rebootWanted():
		return "the requested reboot is not recorded: " + f.shown(m)
	case now.allocated():
		return f.unless(m, now.installed() && m.Installed() && m.BMC.State() == power.StateOn, "in a cluster, not running")
	default:
		want := power.StateOff
		if now.machine.TypedSpec().Value.PreferredPowerState == specs.InfraMachineSpec_POWER_STATE_ON {
			want = power.StateOn
		}

		return f.unless(m, m.BMC.State() == want, "not "+want.String())
	}
}

func (f *fleet) unless(m *lab.Machine, ok bool, why string) string {
	if ok {
		return ""
	}

	return why + ": " + f.shown(m)
}

// abroad says why a machine is not at home, and has somebody send it there.
func (f *fleet) abroad(m *lab.Machine) string {
	now := f.judge.latest(m.UUID)

	switch {
	case now.leaving():
		return "not released: " + f.shown(m)
	case f.needsVisit(m):
		if time.Since(f.visits[m.Name]) > 20*time.Second {
			f.visits[m.Name] = time.Now()
			m.BMC.Press(power.Boot{Device: power.DevicePXE})
		}

		return "somebody is on the way there: " + f.shown(m)
	case !now.known():
		return "it has not joined"
	case !now.accepted():
		f.try(f.accept(m))
	case now.cordoned():
		f.try(f.uncordon(m))
	case now.allocated():
		f.try(f.deallocate(m))
	case now.machine.TypedSpec().Value.PreferredPowerState == specs.InfraMachineSpec_POWER_STATE_ON:
		f.try(f.preferOff(m))
	case now.wiped() && now.reported != nil && now.reported.TypedSpec().Value.ReadyToUse && m.BMC.State() == power.StateOff:
		return ""
	}

	return "not ready and off: " + f.shown(m)
}

// try notes an act that came too late: the next look finds what is wrong then.
func (f *fleet) try(err error) {
	if err != nil {
		f.t.Log(err)
	}
}
