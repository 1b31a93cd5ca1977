// Package policy is the provider's whole policy in one pure table: from the
// facts about one machine to the plan for it. It asks nobody, remembers nothing
// and knows no clock; the controllers gather the facts and carry out the plan.
package policy

// Acceptance is what the operator said of a machine.
type Acceptance int

// The acceptance states. Once accepted a machine never goes back.
const (
	Pending Acceptance = iota
	Accepted
	Rejected
)

// Power is the power state of a machine.
type Power int

// The power states.
const (
	PowerUnknown Power = iota
	PowerOff
	PowerOn
)

// Facts is everything that a decision about one machine depends on.
type Facts struct {
	// Complete: the first complete list of infra.Machine and of our own types has
	// arrived since start. Without it nothing else about the machine is believed.
	Complete bool
	// Stale: what we know is older than the operator allows.
	Stale bool
	// SnapshotInstalled: the last run's snapshot says that the machine boots its
	// own disk. It counts only while Complete is false.
	SnapshotInstalled bool
	// Idle says why serve as a whole may not act (no lease, not registered ...);
	// empty: it may. It stops acts, not boot answers.
	Idle string

	// Placeholder: the uuid is one of those that boards without one report.
	Placeholder bool
	// Distrust says why what we know of the machine is not to be trusted (two
	// live tunnels, another serial number, another system behind the BMC's
	// address); empty: no reason. Lost state is derived here, not in it.
	Distrust string
	// The infra.Machine that Omni wrote.
	Known             bool // there is one
	TearingDown       bool
	Acceptance        Acceptance
	Cordoned          bool
	Allocated         bool // cluster_talos_version is set
	PreferredOn       bool
	WipeID            string
	InstallEventID    uint64
	RequestedRebootID string
	PowerOffRequestID string

	// What we recorded ourselves.
	HasWipeStatus          bool
	InitialWipeDone        bool
	LastWipeID             string
	LastWipeInstallEventID uint64
	HasRebootStatus        bool
	LastRebootID           string
	LastPowerOffID         string
	WipeIDAtPowerOff       string
	BMCKnown               bool // access is stored, so it once worked

	// What the machine is doing now.
	Power           Power
	AgentConnected  bool
	AgentSettled    bool // connected, or absent for long enough to be believed
	Wiping          bool // a wipe of ours is running, or not recorded yet
	IntervalElapsed bool // the minimum interval since our last power-on or reboot
	BudgetLeft      bool // the fleet's budget for disruptions is not used up
}

// Installed tells whether Talos is on the machine's disk.
func (f Facts) Installed() bool {
	return f.InstallEventID > f.lastWipeInstallEventID()
}

func (f Facts) lastWipeInstallEventID() uint64 {
	if !f.HasWipeStatus {
		return 0
	}

	return f.LastWipeInstallEventID
}

// NeverWiped tells whether we have no record of a first wipe. An empty
// LastWipeID by itself means nothing: a machine in its first life was wiped with
// an empty wipe id.
func (f Facts) NeverWiped() bool { return !f.HasWipeStatus || !f.InitialWipeDone }

// WipePending tells whether the machine's disks must be wiped before use.
func (f Facts) WipePending() bool { return f.NeverWiped() || f.WipeID != f.LastWipeID }

// MustBeOn tells whether the machine has to be on whatever is preferred.
func (f Facts) MustBeOn() bool { return f.Allocated || f.Installed() || f.WipePending() }

// PowerOffActive tells whether a power-off request is being honoured: it was
// acknowledged, and the machine was not deallocated since.
func (f Facts) PowerOffActive() bool {
	return f.LastPowerOffID != "" && f.LastPowerOffID == f.PowerOffRequestID && f.WipeIDAtPowerOff == f.WipeID
}

// ReadyToUse is what MachineStatus may say: wiped, and BMC access stored.
func (f Facts) ReadyToUse() bool { return f.BMCKnown && !f.WipePending() }

// LostState tells whether our own record of the machine is gone although it is
// in use: wiping it now would wipe somebody's cluster node.
func (f Facts) LostState() bool { return f.NeverWiped() && f.Allocated && f.Installed() }

// Held returns why the machine is held, or "" when it is not.
func (f Facts) Held() string {
	switch {
	case f.Distrust != "":
		return f.Distrust
	case f.LostState():
		return "it is in a cluster and was installed, but our record of its first wipe is gone"
	default:
		return ""
	}
}
