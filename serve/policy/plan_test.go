package policy_test

import (
	"testing"

	"github.com/bmctl/bmctl/serve/policy"
)

// each calls yield with every combination of the facts that PlanFor can tell
// apart: ids only matter by whether they are equal, so three pairs of wipe ids,
// three of reboot ids, three of install events and four states of a power-off
// request stand for all.
//
// Only the first depth of the dimensions vary; the others stay as gates sets them.
func each(depth int, gates func(*policy.Facts), yield func(policy.Facts)) {
	var f policy.Facts

	dims := []func(i int) int{
		func(i int) int { f.Distrust = pick(i, "", "two agents"); return 2 },
		func(i int) int { f.TearingDown = i == 1; return 2 },
		func(i int) int { f.Acceptance = policy.Acceptance(i); return 3 },
		func(i int) int { f.Cordoned = i == 1; return 2 },
		func(i int) int { f.Allocated = i == 1; return 2 },
		func(i int) int { f.PreferredOn = i == 1; return 2 },
		func(i int) int { f.WipeID, f.LastWipeID = pick(i, "", "w1", "w1"), pick(i, "", "w1", ""); return 3 },
		func(i int) int {
			f.InstallEventID, f.LastWipeInstallEventID = pick(i, uint64(0), 1, 1), pick(i, uint64(0), 1, 0)
			return 3
		},
		func(i int) int {
			f.RequestedRebootID, f.LastRebootID = pick(i, "", "r1", "r1"), pick(i, "", "r1", "")
			return 3
		},
		func(i int) int {
			f.PowerOffRequestID, f.LastPowerOffID = pick(i, "", "p1", "p1", "p1"), pick(i, "", "", "p1", "p1")
			f.WipeIDAtPowerOff = pick(i, "", "", f.WipeID, "older")

			return 4
		},
		func(i int) int { f.HasWipeStatus = i == 1; return 2 },
		func(i int) int { f.InitialWipeDone = i == 1; return 2 },
		func(i int) int { f.HasRebootStatus = i == 1; return 2 },
		func(i int) int { f.BMCKnown = i == 1; return 2 },
		func(i int) int { f.Power = policy.Power(i); return 3 },
		func(i int) int { f.AgentConnected, f.AgentSettled = i == 1, i != 2; return 3 },
		func(i int) int { f.Wiping = i == 1; return 2 },
		func(i int) int { f.IntervalElapsed = i == 1; return 2 },
		func(i int) int { f.BudgetLeft = i == 1; return 2 },
	}

	var walk func(d int)

	walk = func(d int) {
		if d == min(depth, len(dims)) {
			yield(f)

			return
		}

		n := dims[d](0)
		for i := range n {
			dims[d](i)
			walk(d + 1)
		}
	}

	gates(&f)
	walk(0)
}

// all dimensions vary.
const all = 1 << 10

func pick[T any](i int, values ...T) T { return values[min(i, len(values)-1)] }

// open is the normal case: the list is complete and fresh, and we may act.
func open(f *policy.Facts) { f.Complete, f.Known = true, true }

// own is what the contract calls "own disk if installed, else wait script".
func own(f policy.Facts) policy.Boot {
	if f.Known && f.Installed() {
		return policy.BootDisk
	}

	return policy.BootWait
}

// wantBoot restates the contract's table of boot answers, row by row.
func wantBoot(f policy.Facts) policy.Boot {
	rows := []struct {
		when bool
		boot policy.Boot
	}{
		{!f.Complete && f.SnapshotInstalled, policy.BootDisk},
		{!f.Complete, policy.BootWait},
		{f.Stale, own(f)},
		{f.Placeholder, policy.BootWait},
		{f.Held() != "", own(f)},
		{f.Known && f.Acceptance == policy.Rejected, policy.BootDisk},
		{f.Known && f.Cordoned, own(f)},
		{!f.Known, policy.BootAgent},
		{f.TearingDown || f.Acceptance == policy.Pending || !f.Allocated || !f.BMCKnown || f.WipePending(), policy.BootAgent},
		{f.Installed(), policy.BootDisk},
		{true, policy.BootTalos},
	}

	for _, row := range rows {
		if row.when {
			return row.boot
		}
	}

	panic("unreachable")
}

// mayActOnItsOwn is the contract's "only for an accepted, not cordoned, not held
// machine that is not tearing down".
func mayActOnItsOwn(f policy.Facts) bool {
	return f.Complete && !f.Stale && f.Idle == "" && !f.Placeholder && f.Known &&
		f.Acceptance == policy.Accepted && !f.Cordoned && f.Held() == "" && !f.TearingDown
}

// violated names the first rule that the plan breaks, or "".
func violated(f policy.Facts, p policy.Plan) string {
	allowed := mayActOnItsOwn(f)

	rules := []struct {
		name string
		ok   bool
	}{
		{"every plan has reasons", p.Reason != "" && p.BootReason != ""},
		{"the boot answer is the table's", p.Boot == wantBoot(f)},
		{"own accord only where allowed, release only at removal", !p.Act.Touches() || allowed || (p.Act == policy.ActReleaseReset && f.TearingDown)},
		{"no act before the list or on stale knowledge", (f.Complete && !f.Stale) || p.Act == policy.ActNone},
		{"no wipe that is recorded", p.Act != policy.ActWipe || f.WipePending()},
		{"no wipe of lost state", p.Act != policy.ActWipe || !(f.NeverWiped() && f.Allocated && f.Installed())},
		{"a wipe needs BMC access and the agent", p.Act != policy.ActWipe || (f.BMCKnown && f.AgentConnected && !f.Wiping)},
		{"BMC set-up needs the agent and only happens once", p.Act != policy.ActSetupBMC || (!f.BMCKnown && f.AgentConnected)},
		{"an installed machine of a cluster is left alone", !f.Allocated || !f.Installed() || f.WipePending() || f.TearingDown ||
			(p.Act != policy.ActPowerOff && p.Act != policy.ActReboot && p.Act != policy.ActWipe)},
		{"an off machine is never rebooted", f.Power == policy.PowerOn || (p.Act != policy.ActReboot && p.Act != policy.ActRequestedReboot && p.Act != policy.ActReleaseReset)},
		{"power on only when off", p.Act != policy.ActPowerOn || (f.Power == policy.PowerOff && !f.PowerOffActive() && (f.MustBeOn() || f.PreferredOn))},
		{"power off only when nothing wants it on", p.Act != policy.ActPowerOff || (f.Power == policy.PowerOn && !f.MustBeOn() && !f.PreferredOn && f.IntervalElapsed)},
		{"reboots keep the interval", (p.Act != policy.ActReboot && p.Act != policy.ActRequestedReboot) || f.IntervalElapsed},
		{"no power act during a wipe", !f.Wiping || !p.Act.Touches()},
		{"disruptions stay in the budget", !p.Disruptive || f.BudgetLeft},
		{"a reboot or wipe of an allocated machine is a disruption", !f.Allocated || p.Disruptive ||
			(p.Act != policy.ActWipe && p.Act != policy.ActReboot && p.Act != policy.ActRequestedReboot)},
		{"override where the network is wanted, and only then", p.Override == overrideWanted(f, p)},
		{"ready means wiped and reachable", !f.ReadyToUse() || (f.InitialWipeDone && f.HasWipeStatus && f.WipeID == f.LastWipeID && f.BMCKnown)},
		{"a removal is always released", !f.TearingDown || !f.Complete || f.Stale || f.Idle != "" || f.Placeholder || !f.Known ||
			p.Act == policy.ActRelease || p.Act == policy.ActReleaseReset || !f.AgentSettled},
		{"an agent's absence must last before it costs a reset", f.AgentSettled || (p.Act != policy.ActReboot && p.Act != policy.ActReleaseReset)},
		{"a cordoned, held or unaccepted machine is released untouched", p.Act != policy.ActReleaseReset ||
			(f.Acceptance == policy.Accepted && !f.Cordoned && f.Held() == "" && !f.AgentConnected)},
	}

	for _, rule := range rules {
		if !rule.ok {
			return rule.name
		}
	}

	return ""
}

func overrideWanted(f policy.Facts, p policy.Plan) bool {
	switch p.Act {
	case policy.ActReleaseReset:
		return true
	case policy.ActPowerOn, policy.ActReboot, policy.ActRequestedReboot:
		return p.Boot == policy.BootAgent || p.Boot == policy.BootTalos
	default:
		return false
	}
}

func TestEveryCombinationKeepsTheRules(t *testing.T) {
	t.Parallel()

	seen := map[policy.Act]int{}
	n := 0

	each(all, open, func(f policy.Facts) {
		p := policy.PlanFor(f)
		n++
		seen[p.Act]++

		if rule := violated(f, p); rule != "" && !t.Failed() {
			t.Errorf("%s:\nfacts %+v\nplan  %+v", rule, f, p)
		}
	})

	t.Logf("%d combinations, acts by kind %v", n, seen)

	for act := policy.ActNone; act <= policy.ActRequestedReboot; act++ {
		if seen[act] == 0 {
			t.Errorf("no combination leads to act %d: the enumeration or the table is wrong", act)
		}
	}
}

// TestGates runs every combination of what closes the gate before a machine's
// own facts count, over what Omni says of a machine that is otherwise ready to
// be acted upon.
func TestGates(t *testing.T) {
	t.Parallel()

	for gate := range 64 {
		each(10, func(f *policy.Facts) {
			f.Complete, f.Stale, f.SnapshotInstalled = gate&1 == 0, gate&2 != 0, gate&4 != 0
			f.Placeholder, f.Known = gate&8 != 0, gate&16 == 0
			f.Idle = pick(gate>>5, "", "waits for the lease")
			f.HasWipeStatus, f.InitialWipeDone, f.BMCKnown, f.Power = true, true, true, policy.PowerOn
			f.AgentConnected, f.AgentSettled, f.IntervalElapsed, f.BudgetLeft = gate%3 == 0, true, true, true
		}, func(f policy.Facts) {
			if rule := violated(f, policy.PlanFor(f)); rule != "" && !t.Failed() {
				t.Errorf("gate %06b: %s:\nfacts %+v\nplan  %+v", gate, rule, f, policy.PlanFor(f))
			}
		})
	}
}

// TestStory follows one machine through its life: each row changes the facts
// of the row before.
func TestStory(t *testing.T) {
	t.Parallel()

	f := policy.Facts{Complete: true, BudgetLeft: true, IntervalElapsed: true, AgentSettled: true}

	for _, step := range []struct {
		what   string
		change func()
		boot   policy.Boot
		act    policy.Act
	}{
		{"first seen", func() {}, policy.BootAgent, policy.ActNone},
		{"pending with its agent", func() { f.Known, f.AgentConnected, f.PreferredOn = true, true, true }, policy.BootAgent, policy.ActNone},
		{"accepted", func() { f.Acceptance = policy.Accepted }, policy.BootAgent, policy.ActSetupBMC},
		{"BMC set up", func() { f.BMCKnown, f.Power = true, policy.PowerOn }, policy.BootAgent, policy.ActWipe},
		{"wiping", func() { f.Wiping = true }, policy.BootAgent, policy.ActNone},
		{"wiped", func() { f.Wiping, f.HasWipeStatus, f.InitialWipeDone, f.PreferredOn = false, true, true, false }, policy.BootAgent, policy.ActPowerOff},
		{"off and ready", func() { f.Power, f.AgentConnected = policy.PowerOff, false }, policy.BootAgent, policy.ActNone},
		{"allocated", func() { f.Allocated = true }, policy.BootTalos, policy.ActPowerOn},
		{"installing", func() { f.Power = policy.PowerOn }, policy.BootTalos, policy.ActNone},
		{"installed", func() { f.InstallEventID = 1 }, policy.BootDisk, policy.ActNone},
		{"power-off requested", func() { f.PowerOffRequestID = "p" }, policy.BootDisk, policy.ActAckPowerOff},
		{"power-off acknowledged, Talos shut down", func() { f.LastPowerOffID, f.Power = "p", policy.PowerOff }, policy.BootDisk, policy.ActNone},
		{"power-on wanted", func() { f.PowerOffRequestID = "" }, policy.BootDisk, policy.ActPowerOn},
		{"reboot requested", func() { f.RequestedRebootID, f.Power = "r", policy.PowerOn }, policy.BootDisk, policy.ActRequestedReboot},
		{"reboot done, deallocated", func() {
			f.LastRebootID, f.HasRebootStatus, f.Allocated, f.WipeID = "r", true, false, "w2"
		}, policy.BootAgent, policy.ActReboot},
		{"in agent mode", func() { f.AgentConnected = true }, policy.BootAgent, policy.ActWipe},
		{"wiped again", func() { f.LastWipeID, f.LastWipeInstallEventID = "w2", 1 }, policy.BootAgent, policy.ActPowerOff},
		{"off, removed", func() { f.Power, f.AgentConnected, f.TearingDown = policy.PowerOff, false, true }, policy.BootAgent, policy.ActRelease},
		{"on with another system, removed", func() { f.Power = policy.PowerOn }, policy.BootAgent, policy.ActReleaseReset},
	} {
		step.change()

		p := policy.PlanFor(f)
		if p.Boot != step.boot || p.Act != step.act {
			t.Errorf("%s: boot %d act %d (%s), want boot %d act %d", step.what, p.Boot, p.Act, p.Reason, step.boot, step.act)
		}
	}
}
