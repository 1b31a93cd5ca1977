package controllers_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
)

// settle brings a machine to accepted, wiped and off.
func settle(t *testing.T, w *world) string {
	t.Helper()

	id := w.ids[0]
	w.boardOn(id)
	w.join(id)
	w.wait(time.Minute)
	ops[1].do(w, id)
	w.wait(3 * time.Minute)

	if s := w.reported(t, id); !s.ReadyToUse || s.PowerState != specs.InfraMachineStatusSpec_POWER_STATE_OFF {
		t.Fatalf("not settled: %v", s)
	}

	return id
}

func (w *world) reported(t *testing.T, id string) *specs.InfraMachineStatusSpec {
	t.Helper()

	s, err := safe.StateGet[*infra.MachineStatus](context.Background(), w.omni, infra.NewMachineStatus(id).Metadata())
	if err != nil {
		t.Fatal(err)
	}

	return s.TypedSpec().Value
}

// TestPowerBecomesUnknownLate: one missed poll is not news, and neither is a
// restart; after three misses in 90 s Omni is told that the power is unknown.
func TestPowerBecomesUnknownLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.start()
		defer w.end()

		id := settle(t, w)
		off, unknown := specs.InfraMachineStatusSpec_POWER_STATE_OFF, specs.InfraMachineStatusSpec_POWER_STATE_UNKNOWN

		w.silence(id, true)
		w.crash()
		w.start()

		for _, step := range []struct {
			after time.Duration
			want  specs.InfraMachineStatusSpec_MachinePowerState
		}{{time.Second, off}, {59 * time.Second, off}, {20 * time.Second, off}, {70 * time.Second, unknown}} {
			w.wait(step.after)

			if got := w.reported(t, id).PowerState; got != step.want {
				t.Errorf("%s after the last step: power %s, want %s", step.after, got, step.want)
			}
		}

		w.silence(id, false)
		w.wait(40 * time.Second)

		if got := w.reported(t, id).PowerState; got != off {
			t.Errorf("the BMC answers again: power %s, want %s", got, off)
		}

		if len(w.broken) > 0 {
			t.Error(w.broken)
		}
	})
}

// TestFirmwareOutlivesARestart: what a machine's firmware told is shown after a
// restart too, although the machine does not boot again.
func TestFirmwareOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.start()
		defer w.end()

		id := settle(t, w)

		before, err := w.ctrl.View(id)
		if err != nil || before.Serial != "S"+id || before.Vendor != "Acme" || before.Model != "Box 7f00" || before.FirstSeen.IsZero() {
			t.Fatalf("before the restart: %v: serial %q, vendor %q, model %q, first seen %s", err, before.Serial, before.Vendor, before.Model, before.FirstSeen)
		}

		w.crash()
		w.start()
		w.wait(time.Minute)

		after, err := w.ctrl.View(id)
		if err != nil || after.Serial != before.Serial || after.Vendor != before.Vendor || after.Model != before.Model || !after.FirstSeen.Equal(before.FirstSeen) {
			t.Errorf("after it: %v: serial %q, vendor %q, model %q, first seen %s, not %s",
				err, after.Serial, after.Vendor, after.Model, after.FirstSeen, before.FirstSeen)
		}
	})
}

// TestDisruptionsAreBounded: of machines in use that all have a reboot requested
// only so many are rebooted in ten minutes, also when serve is restarted.
func TestDisruptionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const machines, limit = 5, 2

		w := newWorld(t, machines)
		w.disruptions = limit
		w.start()
		defer w.end()

		for _, id := range w.ids {
			w.boardOn(id)
			w.join(id)
		}

		w.wait(time.Minute)

		for _, id := range w.ids {
			w.edit(id, func(s *specs.InfraMachineSpec) {
				s.AcceptanceStatus = specs.InfraMachineConfigSpec_ACCEPTED
				s.PreferredPowerState = specs.InfraMachineSpec_POWER_STATE_OFF
			})
		}

		w.wait(5 * time.Minute)

		for _, id := range w.ids {
			w.edit(id, func(s *specs.InfraMachineSpec) { s.ClusterTalosVersion = "v1.13.5" })
		}

		w.wait(time.Hour)

		for _, id := range w.ids {
			w.edit(id, func(s *specs.InfraMachineSpec) { s.RequestedRebootId = "r" })
		}

		cycles := func() (n int) {
			for _, b := range w.boards {
				b.mu.Lock()
				n += b.cycles
				b.mu.Unlock()
			}

			return n
		}

		before := cycles()

		w.wait(2 * time.Minute)
		w.crash()
		w.start()
		w.wait(3 * time.Minute)

		if n := cycles() - before; n != limit {
			t.Errorf("%d reboots in the first five minutes, want %d", n, limit)
		}

		w.wait(time.Hour)

		if n := cycles() - before; n != machines {
			t.Errorf("%d reboots in the end, want %d", n, machines)
		}

		if len(w.broken) > 0 {
			t.Error(w.broken)
		}
	})
}
