// Package controllers keeps the machines where Omni wants them: it watches what
// Omni says and what we recorded ourselves, gathers the facts about each
// machine, asks policy, acts, and reports.
//
// Each machine is reconciled by itself, and at most one act runs on it at a
// time, beside which reports go on. The resources keep the owners and finalizers of the
// provider's six classic controllers.
package controllers

import (
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"

	"github.com/bmctl/bmctl/serve/policy"
	"github.com/bmctl/bmctl/serve/resources"
)

// Machine is what the resources say of one machine. The resources are shared:
// they must not be changed. A nil resource does not exist.
type Machine struct {
	ID        string
	Infra     *infra.Machine
	BMCConfig *infra.BMCConfig
	Reported  *infra.MachineStatus

	BMC    *resources.BMCConfiguration
	Seen   *resources.MachineStatus
	Wipe   *resources.WipeStatus
	Reboot *resources.RebootStatus
	Power  *resources.PowerOperation
}

// set puts r, or its absence, into the field for its type.
func (m *Machine) set(r resource.Resource, present bool) {
	switch r := r.(type) {
	case *infra.Machine:
		m.Infra = keep(r, present)
	case *infra.BMCConfig:
		m.BMCConfig = keep(r, present)
	case *infra.MachineStatus:
		m.Reported = keep(r, present)
	case *resources.BMCConfiguration:
		m.BMC = keep(r, present)
	case *resources.MachineStatus:
		m.Seen = keep(r, present)
	case *resources.WipeStatus:
		m.Wipe = keep(r, present)
	case *resources.RebootStatus:
		m.Reboot = keep(r, present)
	case *resources.PowerOperation:
		m.Power = keep(r, present)
	}
}

func keep[T any](r *T, present bool) *T {
	if present {
		return r
	}

	return nil
}

// empty tells whether no resource of the machine exists.
func (m *Machine) empty() bool { return m.Infra == nil && m.BMCConfig == nil && !m.hasOwn() }

// hasOwn tells whether anything that we wrote about the machine exists.
func (m *Machine) hasOwn() bool {
	return m.Reported != nil || m.BMC != nil || m.Seen != nil || m.Wipe != nil || m.Reboot != nil || m.Power != nil
}

// tearingDown tells whether Omni is removing the machine.
func (m *Machine) tearingDown() bool {
	return m.Infra != nil && m.Infra.Metadata().Phase() == resource.PhaseTearingDown
}

// facts fills in what the resources tell.
func (m *Machine) facts() policy.Facts {
	f := policy.Facts{Known: m.Infra != nil, TearingDown: m.tearingDown(), BMCKnown: m.BMC != nil}

	if m.Infra != nil {
		spec := m.Infra.TypedSpec().Value
		f.Acceptance = policy.Acceptance(spec.AcceptanceStatus)
		f.Cordoned = spec.Cordoned
		f.Allocated = spec.ClusterTalosVersion != ""
		f.PreferredOn = spec.PreferredPowerState == 1
		f.WipeID = spec.WipeId
		f.InstallEventID = spec.InstallEventId
		f.RequestedRebootID = spec.RequestedRebootId
		f.PowerOffRequestID = spec.PowerOffRequestId
	}

	if m.Wipe != nil {
		spec := m.Wipe.TypedSpec().Value
		f.HasWipeStatus = true
		f.InitialWipeDone = spec.InitialWipeDone
		f.LastWipeID = spec.LastWipeId
		f.LastWipeInstallEventID = spec.LastWipeInstallEventId
	}

	if m.Reboot != nil {
		f.HasRebootStatus = true
		f.LastRebootID = m.Reboot.TypedSpec().Value.LastRebootId
	}

	if m.Power != nil {
		f.LastPowerOffID = m.Power.TypedSpec().Value.LastPowerOffId
		f.WipeIDAtPowerOff = m.Power.TypedSpec().Value.WipeIdAtPowerOff
	}

	return f
}

// lastStart is when we last powered the machine on or rebooted it; zero: never.
func (m *Machine) lastStart() time.Time {
	var last time.Time

	if m.Power != nil && m.Power.TypedSpec().Value.LastPowerOnTimestamp != nil {
		last = m.Power.TypedSpec().Value.LastPowerOnTimestamp.AsTime()
	}

	if m.Reboot != nil && m.Reboot.TypedSpec().Value.LastRebootTimestamp != nil {
		if t := m.Reboot.TypedSpec().Value.LastRebootTimestamp.AsTime(); t.After(last) {
			last = t
		}
	}

	return last
}

// recordedPower is the power state that we wrote last.
func (m *Machine) recordedPower() policy.Power {
	if m.Seen == nil {
		return policy.PowerUnknown
	}

	return policy.Power(m.Seen.TypedSpec().Value.PowerState)
}
