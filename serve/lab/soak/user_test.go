package soak_test

import (
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/lab"
)

// act is what a user may do about a machine in the state that it is in.
type act struct {
	name   string
	weight int
	fits   func(moment) bool
	do     func(f *fleet, m *lab.Machine) error
}

func userActs() []act {
	usable := func(now moment) bool { return now.accepted() && !now.leaving() }
	member := func(now moment) bool { return usable(now) && now.allocated() }

	return []act{
		{"accepted", 10, func(now moment) bool { return now.known() && !now.accepted() && !now.leaving() }, (*fleet).accept},
		{"rejected", 1, func(now moment) bool { return now.pending() && !now.leaving() }, (*fleet).reject},
		{"allocated", 10, func(now moment) bool { return usable(now) && !now.allocated() }, (*fleet).allocate},
		{"deallocated", 4, member, (*fleet).deallocate},
		{"cordoned", 2, func(now moment) bool { return usable(now) && !now.cordoned() }, (*fleet).cordon},
		{"uncordoned", 8, func(now moment) bool { return usable(now) && now.cordoned() }, (*fleet).uncordon},
		{"removed", 1, func(now moment) bool { return now.known() && !now.leaving() }, (*fleet).remove},
		{"reboot requested", 4, usable, (*fleet).requestReboot},
		{"power-off requested", 2, member, (*fleet).requestOff},
		{"power-off taken back", 4, func(now moment) bool {
			return member(now) && now.machine.TypedSpec().Value.PowerOffRequestId != ""
		}, (*fleet).takeBackOff},
		{"preferred on", 2, usable, (*fleet).preferOn},
		{"preferred off", 3, usable, (*fleet).preferOff},
	}
}

// user lets somebody act on the machine. While Omni does not answer, users do not
// reach it either.
func (s *storm) user(m *lab.Machine) string {
	if s.away {
		return ""
	}

	now := s.judge.latest(m.UUID)
	if s.rnd.IntN(3) == 0 && s.needsVisit(m) {
		m.BMC.Press(power.Boot{Device: power.DevicePXE})

		return "visited"
	}

	var (
		fitting []act
		sum     int
	)

	for _, a := range userActs() {
		if a.fits(now) {
			fitting, sum = append(fitting, a), sum+a.weight
		}
	}

	if sum == 0 {
		return ""
	}

	pick := s.rnd.IntN(sum)

	for _, a := range fitting {
		if pick -= a.weight; pick < 0 {
			if err := a.do(s.fleet, m); err != nil {
				s.t.Logf("%s: not %s: %v", m.Name, a.name, err)

				return "an act that came too late"
			}

			return a.name
		}
	}

	return ""
}

// needsVisit: somebody has to go there and start agent mode, as nothing else can:
// Omni does not know the machine, or serve no way to its BMC.
func (f *fleet) needsVisit(m *lab.Machine) bool {
	now := f.judge.latest(m.UUID)

	return !m.AgentMode() && (!now.known() || now.accepted() && !now.cordoned() && !now.leaving() && now.bmc == nil)
}

func (f *fleet) configure(m *lab.Machine, edit func(*specs.InfraMachineConfigSpec)) error {
	return f.lab.Omni().Configure(m.UUID, edit)
}

func (f *fleet) accept(m *lab.Machine) error { return f.lab.Omni().Accept(m.UUID) }

func (f *fleet) reject(m *lab.Machine) error {
	return f.configure(m, func(s *specs.InfraMachineConfigSpec) { s.AcceptanceStatus = specs.InfraMachineConfigSpec_REJECTED })
}

func (f *fleet) allocate(m *lab.Machine) error {
	return f.lab.Omni().Allocate(m.UUID, "prod", "1.13.5", nil)
}

func (f *fleet) deallocate(m *lab.Machine) error { return f.lab.Omni().Deallocate(m.UUID) }

func (f *fleet) cordon(m *lab.Machine) error {
	return f.configure(m, func(s *specs.InfraMachineConfigSpec) { s.Cordoned = true })
}

func (f *fleet) uncordon(m *lab.Machine) error {
	return f.configure(m, func(s *specs.InfraMachineConfigSpec) { s.Cordoned = false })
}

func (f *fleet) remove(m *lab.Machine) error {
	if err := f.lab.Omni().Remove(m.UUID); !state.IsNotFoundError(err) {
		return err
	}

	return nil
}

func (f *fleet) requestReboot(m *lab.Machine) error { return f.lab.Omni().RequestReboot(m.UUID) }

func (f *fleet) requestOff(m *lab.Machine) error { return f.lab.Omni().RequestPowerOff(m.UUID) }

func (f *fleet) takeBackOff(m *lab.Machine) error { return f.lab.Omni().ClearPowerOff(m.UUID) }

func (f *fleet) preferOn(m *lab.Machine) error {
	return f.configure(m, func(s *specs.InfraMachineConfigSpec) { s.PowerState = specs.InfraMachineConfigSpec_POWER_STATE_ON })
}

func (f *fleet) preferOff(m *lab.Machine) error {
	return f.configure(m, func(s *specs.InfraMachineConfigSpec) { s.PowerState = specs.InfraMachineConfigSpec_POWER_STATE_OFF })
}
