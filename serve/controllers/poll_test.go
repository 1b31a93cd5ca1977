package controllers_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/agent"
	"github.com/bmctl/bmctl/serve/resources"
	own "github.com/bmctl/bmctl/serve/resources/specs"
)

const interval = 30 * time.Second

// fleet is a world of machines that were accepted, wiped and switched off before
// serve starts. Of each hundred so many, the first, have a BMC that never answers.
func fleet(t *testing.T, machines, silent int) *world {
	t.Helper()

	w := newWorld(t, machines)
	w.polls = 64

	for i, id := range w.ids {
		w.accepted(id)
		w.settled(id)
		w.silence(id, i%100 < silent)
	}

	return w
}

// accepted writes a machine into Omni that was accepted and is off.
func (w *world) accepted(id string) {
	m := infra.NewMachine(id)
	m.TypedSpec().Value.AcceptanceStatus = specs.InfraMachineConfigSpec_ACCEPTED

	w.create(m, "")
}

// settled writes the records of an accepted machine to which nothing is left to do.
func (w *world) settled(id string) {
	b := w.boards[id]
	b.users[agent.Username] = "secret"
	b.wipes = []string{""}

	access := resources.NewBMCConfiguration(provider, id)
	access.TypedSpec().Value.Ipmi = &own.BMCConfigurationSpec_IPMI{Address: "10.0.0.1", Port: 623, Username: agent.Username, Password: "secret"}

	wiped := resources.NewWipeStatus(provider, id)
	wiped.TypedSpec().Value.InitialWipeDone = true

	w.create(access, resources.BMCConfigurationController)
	w.create(wiped, resources.WipeStatusController)
}

// create writes a resource into Omni, owned by a controller of the provider or,
// where that is empty, by nobody.
func (w *world) create(r resource.Resource, controller string) {
	var options []state.CreateOption
	if controller != "" {
		options = append(options, state.WithCreateOwner(resources.Owner(provider, controller)))
	}

	if err := w.omni.Create(w.t.Context(), r, options...); err != nil {
		w.t.Fatal(err)
	}
}

// asked are the times at which the machine's BMC was asked for its power.
func (w *world) asked(id string) []time.Time {
	b := w.boards[id]

	b.mu.Lock()
	defer b.mu.Unlock()

	return slices.Clone(b.asked)
}

// TestPollsOnTime: of 1,000 machines those whose BMCs answer are polled once per
// interval, each at its own moment, however many others are silent; the moments
// are spread over the interval.
func TestPollsOnTime(t *testing.T) {
	for _, silent := range []int{10, 50} {
		t.Run(fmt.Sprintf("%d in a hundred silent", silent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rounds = 8

				w := fleet(t, 1000, silent)
				w.start()
				defer w.end()

				time.Sleep((rounds + 2) * interval)

				moments := map[time.Duration]int{} // machines by second of the interval

				for i, id := range w.ids {
					if i%100 >= silent {
						moments[w.expectOnTime(id, rounds).Truncate(time.Second)]++
					}
				}

				for second := range interval / time.Second {
					if n := moments[second*time.Second]; n > 1000/10 {
						t.Errorf("%d machines are polled in second %d of the interval", n, second)
					}
				}

				if n := w.ctrl.LatePolls(); silent < 50 && n > 0 {
					t.Errorf("%d polls began late", n)
				}

				for _, text := range w.broken {
					t.Error(text)
				}
			})
		})
	}
}

// expectOnTime checks the last polls of a machine, so many, and returns its moment
// within the interval.
func (w *world) expectOnTime(id string, polls int) time.Duration {
	w.t.Helper()

	asked := w.asked(id)
	if len(asked) < polls {
		w.t.Errorf("%s: polled %d times, want at least %d", id, len(asked), polls)

		return 0
	}

	asked = asked[len(asked)-polls:]
	for i, at := range asked {
		if late := at.Sub(asked[0]) - time.Duration(i)*interval; late < -time.Second || late > time.Second {
			w.t.Errorf("%s: poll %d is %s off its moment", id, i, late)
		}
	}

	return asked[0].Sub(w.begun) % interval
}

// TestNothingWaitsForPolls: while silent BMCs hold all the slots for polls, the
// agent of an accepted machine has it wiped at once, and a boot request is
// answered in no time.
func TestNothingWaitsForPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fleet(t, 1000, 100)
		w.polls = 4

		id := "7f000000-0000-4000-8000-00000000ffff"
		w.boards[id] = &board{id: id, world: w, users: map[string]string{}}
		w.accepted(id)

		w.start()
		defer w.end()

		time.Sleep(2 * interval)

		begun := time.Now()
		if _, err := w.decide(id); err != nil {
			t.Fatal(err)
		}

		if took := time.Since(begun); took > 0 {
			t.Errorf("a boot request waited %s", took)
		}

		b := w.boards[id]

		b.mu.Lock()
		b.on, b.agent = true, true
		b.mu.Unlock()
		w.enqueue(id)

		time.Sleep(time.Second)

		b.mu.Lock()
		wiped := b.wipedAt
		b.mu.Unlock()

		if w.ctrl.LatePolls() == 0 {
			t.Error("no poll waited: nothing was tested")
		}

		if took := wiped.Sub(begun); wiped.IsZero() || took > 200*time.Millisecond {
			t.Errorf("the wipe began %s after the agent connected, want at most 200ms", took)
		}
	})
}

// TestReadingsAreCounted: each reading of the power is told, with how long it took
// and why it failed.
func TestReadingsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fleet(t, 10, 3)

		var good, silent, other atomic.Int64

		w.powerRead = func(took time.Duration, err error) {
			switch {
			case err == nil:
				good.Add(1)
			case errors.Is(err, power.ErrUnreachable) && took > 0 && took <= 5*time.Second:
				silent.Add(1)
			default:
				other.Add(1)
			}
		}

		w.start()
		time.Sleep(4 * interval)
		w.end()

		if good.Load() < 7*4 || silent.Load() < 3 || other.Load() > 3 {
			t.Errorf("%d good ones, %d of silent BMCs, %d others", good.Load(), silent.Load(), other.Load())
		}
	})
}

// TestPollAfterAct: soon after an act the power is read besides the regular
// polls, which stay where they are.
func TestPollAfterAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fleet(t, 1, 0)
		id := w.ids[0]

		w.start()
		defer w.end()

		w.wait(3 * interval)

		asked := w.asked(id)
		w.wait(time.Until(asked[len(asked)-1].Add(interval + interval/3)))

		before, begun := len(w.asked(id)), time.Now()

		w.edit(id, func(s *specs.InfraMachineSpec) { s.PreferredPowerState = specs.InfraMachineSpec_POWER_STATE_ON })
		w.wait(interval / 3)

		extra := w.asked(id)[before:]
		if len(extra) != 2 { // before the act, and soon after it
			t.Fatalf("read %d times around the act, want 2", len(extra))
		}

		if after := extra[1].Sub(begun); after < 4*time.Second || after > 7*time.Second {
			t.Errorf("read again %s after the act, want about 5s", after)
		}

		w.wait(2 * interval)
		w.expectOnTime(id, 2)
	})
}

// TestStopsSoon: sessions with a thousand BMCs, half of them silent by now, do
// not keep serve from ending.
func TestStopsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fleet(t, 1000, 0)
		w.start()
		w.wait(2 * interval)

		for _, id := range w.ids[:500] {
			w.silence(id, true)
		}

		begun := time.Now()
		w.end()

		if took := time.Since(begun) - 10*time.Minute; took > 8*time.Second {
			t.Errorf("ended after %s", took)
		}
	})
}
