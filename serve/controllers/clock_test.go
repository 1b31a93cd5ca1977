package controllers_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bmctl/bmctl/serve/resources"
)

// skewed is an Omni whose clock is wrong: it stamps what it stores with it.
type skewed struct {
	state.CoreState

	by *atomic.Int64 // a time.Duration
}

func (s skewed) Update(ctx context.Context, r resource.Resource, o ...state.UpdateOption) error {
	err := s.CoreState.Update(ctx, r, o...)
	r.Metadata().SetUpdated(time.Now().Add(time.Duration(s.by.Load())))

	return err
}

// told returns the texts of the events about clocks, oldest first.
func (w *world) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()

	var texts []string

	for _, e := range w.events {
		if e.Type == "clock" {
			texts = append(texts, e.Text)
		}
	}

	return texts
}

// TestClockSkew: a clock of Omni's that is more than 30 s from ours is told, once,
// and so is its end.
func TestClockSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var by atomic.Int64

		w := newWorld(t, 0)
		w.link = newLink(skewed{judged{w.omni, w}, &by})
		by.Store(int64(29 * time.Second))
		w.start()

		for _, step := range []struct {
			by   time.Duration
			told []string
		}{
			{29 * time.Second, nil},
			{2 * time.Minute, []string{"Omni's clock is 2m0s ahead of ours"}},
			{0, []string{"Omni's clock is 2m0s ahead of ours", "our clock agrees with Omni's again"}},
			{-time.Hour, []string{"Omni's clock is 2m0s ahead of ours", "our clock agrees with Omni's again", "Omni's clock is 1h0m0s behind ours"}},
		} {
			by.Store(int64(step.by))

			w.wait(time.Minute)

			if got := w.told(); strings.Join(got, "\n") != strings.Join(step.told, "\n") {
				t.Errorf("at %s: told %q, want %q", step.by, got, step.told)
			}
		}

		w.end()
	})
}

// TestFromTheFuture: a power-on that is recorded in the future counts as over: what
// the minimum interval would hold back is done, and told once.
func TestFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		id := w.ids[0]
		b := w.boards[id]

		w.start()
		w.join(id)
		b.switchOn()
		w.wait(2 * time.Minute)
		w.edit(id, func(s *specs.InfraMachineSpec) {
			s.AcceptanceStatus, s.PreferredPowerState = specs.InfraMachineConfigSpec_ACCEPTED, specs.InfraMachineSpec_POWER_STATE_ON
		})
		w.wait(2 * time.Minute)
		w.crash()

		_, err := w.omni.UpdateWithConflicts(t.Context(), resources.NewPowerOperation(provider, id).Metadata(), func(r resource.Resource) error {
			r.(*resources.PowerOperation).TypedSpec().Value.LastPowerOnTimestamp = timestamppb.New(time.Now().Add(24 * time.Hour))

			return nil
		}, state.WithUpdateOwner("bare-metal.PowerOperationController"))
		if state.IsNotFoundError(err) {
			r := resources.NewPowerOperation(provider, id)
			r.TypedSpec().Value.LastPowerOnTimestamp = timestamppb.New(time.Now().Add(24 * time.Hour))
			err = w.omni.Create(t.Context(), r, state.WithCreateOwner("bare-metal.PowerOperationController"))
		}

		if err != nil {
			t.Fatal(err)
		}

		w.start()
		w.edit(id, func(s *specs.InfraMachineSpec) { s.PreferredPowerState = specs.InfraMachineSpec_POWER_STATE_OFF })
		w.wait(3 * time.Minute)

		if b.isOn() {
			t.Error("still on: a power-on of the future held the power off back")
		}

		if told := w.told(); len(told) != 1 || !strings.Contains(told[0], "in the future") {
			t.Errorf("told %q, want the one that it is in the future", told)
		}

		w.end()
	})
}

func (b *board) switchOn() {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.switchTo(true)
}

func (b *board) isOn() bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.on
}
