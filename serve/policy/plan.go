package policy

// Boot is what a machine that boots from the network is answered.
type Boot int

// The boot answers.
const (
	BootWait Boot = iota
	BootAgent
	BootTalos
	BootDisk
)

// FromNetwork tells whether the answer makes the machine load something from us.
func (b Boot) FromNetwork() bool { return b == BootAgent || b == BootTalos }

// Act is the one thing to do next.
type Act int

// The acts, in the order of precedence. Acknowledgements only record; they
// touch no machine.
const (
	// ActNone: nothing to do.
	ActNone Act = iota
	// ActRelease: remove our finalizers and our own resources.
	ActRelease
	// ActReleaseReset: the same, after one reset into agent mode.
	ActReleaseReset
	// ActAckPowerOff: record the power-off request.
	ActAckPowerOff
	// ActAckReboot: record the requested reboot without carrying it out.
	ActAckReboot
	// ActSetupBMC: make the agent set up BMC access.
	ActSetupBMC
	// ActWipe: make the agent wipe the disks.
	ActWipe
	// ActPowerOn, ActPowerOff and ActReboot switch the machine.
	ActPowerOn
	ActPowerOff
	ActReboot
	// ActRequestedReboot: reboot, then record the requested id.
	ActRequestedReboot
)

// Touches tells whether the act reaches the machine or its BMC, other than by
// releasing or recording.
func (a Act) Touches() bool {
	switch a {
	case ActReleaseReset, ActSetupBMC, ActWipe, ActPowerOn, ActPowerOff, ActReboot, ActRequestedReboot:
		return true
	default:
		return false
	}
}

// Plan is what follows from the facts.
type Plan struct {
	// Boot is the answer to a boot request, BootReason why.
	Boot       Boot
	BootReason string
	// Act is the one thing to do next, Reason why, or why nothing is done.
	Act    Act
	Reason string
	// Override: set the one-shot PXE override before the act.
	Override bool
	// Disruptive: the act counts against the fleet's budget.
	Disruptive bool
}

// PlanFor returns the plan. It is total: every combination of facts has one.
func PlanFor(f Facts) Plan {
	var p Plan

	p.Boot, p.BootReason = bootAnswer(f)
	p.Act, p.Reason = nextAct(f, p.Boot)
	p.Override = p.Act == ActReleaseReset || (switchesOn(p.Act) && p.Boot.FromNetwork())
	p.Disruptive = f.Allocated && (p.Act == ActWipe || reboots(p.Act))

	if p.Disruptive && !f.BudgetLeft {
		return Plan{Boot: p.Boot, BootReason: p.BootReason, Reason: "the limit of disruptions in ten minutes is reached: " + p.Reason + ", later"}
	}

	return p
}

func reboots(a Act) bool { return a == ActReboot || a == ActRequestedReboot }

func switchesOn(a Act) bool { return a == ActPowerOn || reboots(a) }

// bootAnswer is the table of boot answers; the first row that matches wins.
func bootAnswer(f Facts) (Boot, string) {
	switch {
	case !f.Complete && f.SnapshotInstalled:
		return BootDisk, "Omni's list is not complete yet; it was installed when we last knew"
	case !f.Complete:
		return BootWait, "Omni's list is not complete yet"
	case f.Stale && f.Known && f.Installed():
		return BootDisk, "Omni has been away too long; installed by what is known"
	case f.Stale:
		return BootWait, "Omni has been away too long"
	case f.Placeholder:
		return BootWait, "its firmware reports a placeholder uuid, which other machines have too"
	case f.Held() != "":
		return diskOrWait(f, "held: "+f.Held())
	}

	return answerByOmni(f)
}

// answerByOmni is the part of the table that rests on what Omni says now.
func answerByOmni(f Facts) (Boot, string) {
	switch {
	case f.Known && f.Acceptance == Rejected:
		return BootDisk, "rejected by the operator"
	case f.Known && f.Cordoned:
		return diskOrWait(f, "cordoned by the operator")
	case !f.Known:
		return BootAgent, "unknown machine"
	case f.TearingDown:
		return BootAgent, "being removed from Omni"
	case f.Acceptance == Pending:
		return BootAgent, "waits to be accepted"
	case !f.Allocated:
		return BootAgent, "not in a cluster"
	case !f.BMCKnown:
		return BootAgent, "its BMC is to be set up"
	case f.WipePending():
		return BootAgent, "its disks are to be wiped"
	case f.Installed():
		return BootDisk, "installed"
	default:
		return BootTalos, "in a cluster, not installed yet"
	}
}

func diskOrWait(f Facts, reason string) (Boot, string) {
	if f.Known && f.Installed() {
		return BootDisk, reason
	}

	return BootWait, reason
}

// nextAct finds the one thing to do, or why nothing is to be done.
func nextAct(f Facts, boot Boot) (Act, string) {
	if blocked := blockedAsAWhole(f); blocked != "" {
		return ActNone, blocked
	}

	switch {
	case f.TearingDown:
		return release(f)
	case f.Acceptance == Accepted && adoptsReboot(f):
		return ActAckReboot, "our record of reboots is gone: the requested one is taken as done"
	case f.Acceptance == Pending:
		return ActNone, "waits to be accepted"
	case f.Acceptance == Rejected:
		return ActNone, "rejected by the operator"
	case f.Cordoned:
		return ActNone, "cordoned by the operator"
	case f.Held() != "":
		return ActNone, "held: " + f.Held()
	}

	return actOnAccepted(f, boot)
}

// blockedAsAWhole says why no machine, or not this one, may be touched at all.
func blockedAsAWhole(f Facts) string {
	switch {
	case !f.Complete:
		return "Omni's list is not complete yet"
	case f.Stale:
		return "Omni has been away too long"
	case f.Idle != "":
		return f.Idle
	case f.Placeholder:
		return "its uuid is a placeholder"
	case !f.Known:
		return "unknown machine"
	default:
		return ""
	}
}

// adoptsReboot tells whether a requested reboot may be one of the past: our
// record of it was lost together with that of the wipe.
func adoptsReboot(f Facts) bool {
	return rebootRequested(f) && !f.HasRebootStatus && f.LostState()
}

func rebootRequested(f Facts) bool {
	return f.RequestedRebootID != "" && f.RequestedRebootID != f.LastRebootID
}

// release is step 6 of a machine's life: a machine that runs something else is
// reset once into agent mode, one that is off stays off, and nothing holds the
// finalizers.
func release(f Facts) (Act, string) {
	reset := f.Acceptance == Accepted && !f.Cordoned && f.Held() == "" && !f.Wiping &&
		f.BMCKnown && f.Power == PowerOn && !f.AgentConnected

	switch {
	case reset && !f.AgentSettled:
		return ActNone, "removed from Omni: waits a moment for its agent to call"
	case reset:
		return ActReleaseReset, "removed from Omni while it runs"
	default:
		return ActRelease, "removed from Omni"
	}
}

// actOnAccepted is the table of acts of our own accord.
func actOnAccepted(f Facts, boot Boot) (Act, string) {
	switch {
	case f.PowerOffRequestID != "" && f.PowerOffRequestID != f.LastPowerOffID:
		return ActAckPowerOff, "power-off requested"
	case f.Wiping:
		return ActNone, "its disks are being wiped"
	case !f.BMCKnown && f.AgentConnected:
		return ActSetupBMC, "accepted, its BMC is not set up"
	case !f.BMCKnown:
		return ActNone, "its BMC is to be set up: waits for its agent"
	case f.WipePending() && f.AgentConnected:
		return ActWipe, wipeReason(f)
	case f.Power == PowerUnknown:
		return ActNone, "its power state is unknown"
	case f.Power == PowerOff:
		return actWhenOff(f)
	default:
		return actWhenOn(f, boot)
	}
}

func wipeReason(f Facts) string {
	if f.NeverWiped() {
		return "accepted, never wiped"
	}

	return "left its cluster, to be wiped"
}

func actWhenOff(f Facts) (Act, string) {
	switch {
	case rebootRequested(f):
		return ActAckReboot, "a reboot was requested of a machine that is off"
	case f.PowerOffActive():
		return ActNone, "off, as requested"
	case f.WipePending():
		return ActPowerOn, "its disks are to be wiped"
	case f.MustBeOn():
		return ActPowerOn, "in a cluster"
	case f.PreferredOn:
		return ActPowerOn, "preferred on"
	default:
		return ActNone, "off, nothing wants it on"
	}
}

func actWhenOn(f Facts, boot Boot) (Act, string) {
	act, reason := wantedWhenOn(f, boot)

	switch {
	case act != ActNone && !f.IntervalElapsed:
		return ActNone, reason + ", once the minimum interval since its last start is over"
	case act == ActReboot && !f.AgentSettled:
		return ActNone, reason + ", unless its agent calls in a moment"
	default:
		return act, reason
	}
}

func wantedWhenOn(f Facts, boot Boot) (Act, string) {
	switch {
	case rebootRequested(f):
		return ActRequestedReboot, "reboot requested"
	case !f.MustBeOn() && !f.PreferredOn:
		return ActPowerOff, "nothing wants it on"
	case f.MustBeOn() && boot == BootAgent && !f.AgentConnected:
		return ActReboot, "to agent mode"
	case f.MustBeOn() && boot == BootTalos && f.AgentConnected:
		return ActReboot, "from agent mode to its cluster's Talos"
	default:
		return ActNone, "on, as it should be"
	}
}
