package controllers_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"pgregory.net/rapid"

	"github.com/bmctl/bmctl/serve/resources"
)

// op is one thing that happens in a history.
type op struct {
	name string
	// change is what it does; id is the machine.
	do func(w *world, id string)
}

var ops = []op{
	{"join", func(w *world, id string) { w.boardOn(id); w.join(id) }},
	{"accept", func(w *world, id string) {
		w.edit(id, func(s *specs.InfraMachineSpec) {
			s.AcceptanceStatus = specs.InfraMachineConfigSpec_ACCEPTED
			s.PreferredPowerState = specs.InfraMachineSpec_POWER_STATE_OFF
		})
	}},
	{"reject", func(w *world, id string) {
		w.edit(id, func(s *specs.InfraMachineSpec) {
			if s.AcceptanceStatus == specs.InfraMachineConfigSpec_PENDING {
				s.AcceptanceStatus = specs.InfraMachineConfigSpec_REJECTED
			}
		})
	}},
	{"cordon", func(w *world, id string) { w.edit(id, func(s *specs.InfraMachineSpec) { s.Cordoned = !s.Cordoned }) }},
	{"allocate", func(w *world, id string) {
		w.edit(id, func(s *specs.InfraMachineSpec) {
			if s.AcceptanceStatus == specs.InfraMachineConfigSpec_ACCEPTED {
				s.ClusterTalosVersion = "v1.13.5"
			}
		})
	}},
	{"deallocate", func(w *world, id string) {
		w.edit(id, func(s *specs.InfraMachineSpec) {
			if s.ClusterTalosVersion != "" {
				w.wipeSeq++
				s.ClusterTalosVersion, s.PowerOffRequestId, s.WipeId = "", "", fmt.Sprintf("w%d", w.wipeSeq)
			}
		})
	}},
	{"reboot", func(w *world, id string) {
		w.edit(id, func(s *specs.InfraMachineSpec) { w.wipeSeq++; s.RequestedRebootId = fmt.Sprintf("r%d", w.wipeSeq) })
	}},
	{"power-off", func(w *world, id string) {
		if w.edit(id, func(s *specs.InfraMachineSpec) {
			if s.ClusterTalosVersion != "" {
				w.wipeSeq++
				s.PowerOffRequestId = fmt.Sprintf("p%d", w.wipeSeq)
			}
		}) {
			w.switchBoard(id, false)
		}
	}},
	{"power-on", func(w *world, id string) { w.edit(id, func(s *specs.InfraMachineSpec) { s.PowerOffRequestId = "" }) }},
	{"prefer", func(w *world, id string) {
		w.edit(id, func(s *specs.InfraMachineSpec) { s.PreferredPowerState = 1 - s.PreferredPowerState })
	}},
	{"remove", func(w *world, id string) { w.remove(id) }},
	{"button", func(w *world, id string) { w.switchBoard(id, time.Now().UnixNano()%2 == 0) }},
	{"bmc-silent", func(w *world, id string) { w.silence(id, true) }},
	{"bmc-back", func(w *world, id string) { w.silence(id, false) }},
	{"agent-lost", func(w *world, id string) { w.loseAgent(id) }},
	{"omni-away", func(w *world, _ string) { w.link.set(true); w.wait(25 * time.Minute); w.link.set(false) }},
	{"omni-blinks", func(w *world, _ string) { w.link.set(true); w.link.set(false) }},
	{"crash", func(w *world, _ string) { w.crash(); w.start() }},
	{"long-crash", func(w *world, _ string) { w.crash(); w.wait(20 * time.Minute); w.start() }},
}

func (w *world) boardOn(id string) { w.switchBoard(id, true) }

func (w *world) switchBoard(id string, on bool) {
	b := w.boards[id]

	b.mu.Lock()
	defer b.mu.Unlock()

	if b.on != on {
		b.switchTo(on)
	}
}

func (w *world) silence(id string, silent bool) {
	b := w.boards[id]

	b.mu.Lock()
	defer b.mu.Unlock()

	b.silent = silent
}

func (w *world) loseAgent(id string) {
	b := w.boards[id]

	b.mu.Lock()
	b.agent = false
	b.mu.Unlock()
	w.enqueue(id)
}

// step is an op of a history, drawn.
type step struct {
	op, machine int
	then        time.Duration
}

// TestHistories runs random histories of Omni's edits, agents, BMC answers, lost
// connections and crashes, judges every act at the moment it reaches a machine,
// and expects that in the end each machine is where Omni wants it.
func TestHistories(t *testing.T) {
	const machines = 3

	acts := 0

	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{
				op:      rapid.IntRange(0, len(ops)-1).Draw(rt, "op"),
				machine: rapid.IntRange(0, machines-1).Draw(rt, "machine"),
				then: rapid.SampledFrom([]time.Duration{
					10 * time.Millisecond, 50 * time.Millisecond, 2 * time.Second, 30 * time.Second, 70 * time.Second, 5 * time.Minute, 20 * time.Minute,
				}).Draw(rt, "then"),
			}
		}), 1, 25).Draw(rt, "steps")

		var broken []string

		synctest.Test(t, func(t *testing.T) { broken = history(t, machines, steps, &acts) })

		if len(broken) > 0 {
			var b strings.Builder
			for _, s := range steps {
				fmt.Fprintf(&b, "\n  %02x %s, then %s", s.machine, ops[s.op].name, s.then)
			}

			rt.Fatalf("%s\nafter%s", strings.Join(broken, "\n"), b.String())
		}
	})

	if acts == 0 {
		t.Error("no history led to a single act: nothing was tested")
	}
}

func history(t *testing.T, machines int, steps []step, acts *int) []string {
	w := newWorld(t, machines)
	w.start()
	defer w.end()

	for _, id := range w.ids { // so that most histories come to the point
		w.boardOn(id)
		w.join(id)
	}

	w.wait(2 * time.Minute)

	for _, s := range steps {
		ops[s.op].do(w, w.ids[s.machine])
		w.wait(s.then)
	}

	for _, id := range w.ids {
		w.silence(id, false)
	}

	w.wait(3 * time.Hour)

	for _, id := range w.ids {
		w.expectSettled(id)
	}

	*acts += w.acts

	return w.broken
}

// expectSettled says what is not as Omni wants it although there was time.
func (w *world) expectSettled(id string) {
	m := w.machine(id)
	if m == nil {
		return
	}

	b := w.boards[id]

	b.mu.Lock()
	on, agent := b.on, b.agent
	b.mu.Unlock()

	spec := m.TypedSpec().Value
	status := w.wipeStatus(id)
	active := spec.PowerOffRequestId != ""
	reachable := status != nil || agent // without an agent nobody can set up the BMC of a machine

	switch {
	case m.Metadata().Phase() != resource.PhaseRunning:
		w.violated(id, "still held at its removal: %v", *m.Metadata().Finalizers())
	case spec.AcceptanceStatus != specs.InfraMachineConfigSpec_ACCEPTED || spec.Cordoned || !reachable:
	case status == nil || status.TypedSpec().Value.LastWipeId != spec.WipeId:
		w.violated(id, "never wiped for %q: %v", spec.WipeId, status)
	case spec.ClusterTalosVersion != "" && !on && !active:
		w.violated(id, "in a cluster and off")
	case spec.ClusterTalosVersion == "" && on != (spec.PreferredPowerState == 1) && spec.InstallEventId <= status.TypedSpec().Value.LastWipeInstallEventId:
		w.violated(id, "idle, on=%t, preferred %s", on, spec.PreferredPowerState)
	case spec.RequestedRebootId != "" && spec.RequestedRebootId != w.lastReboot(id):
		w.violated(id, "the requested reboot never came")
	}
}

// TestMain makes the provider's own types known, as serve does.
func TestMain(m *testing.M) {
	if err := resources.Register(provider); err != nil {
		panic(err)
	}

	m.Run()
}
