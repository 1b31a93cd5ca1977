package controllers_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
)

// vanishing is an Omni in which somebody deletes a machine while we write to it, and
// whose answer to us arrives after the news of that.
type vanishing struct {
	state.CoreState

	gone chan struct{}
}

func (v vanishing) Update(ctx context.Context, r resource.Resource, o ...state.UpdateOption) error {
	if r.Metadata().Type() != infra.InfraMachineType {
		return v.CoreState.Update(ctx, r, o...)
	}

	if err := v.Destroy(ctx, r.Metadata()); err != nil {
		return err
	}

	close(v.gone)
	time.Sleep(time.Second)

	return nil
}

// TestAMachineVanishesWhileItIsLookedAt: serve goes on, and knows it no more.
func TestAMachineVanishesWhileItIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		gone := make(chan struct{})
		w.link = newLink(vanishing{judged{w.omni, w}, gone})
		w.start()
		w.accepted(w.ids[0])

		<-gone
		w.wait(time.Minute)

		if _, err := w.ctrl.View(w.ids[0]); err == nil {
			t.Error("the machine is still known")
		}

		w.end()
	})
}
