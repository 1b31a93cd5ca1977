package lab_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/lab"
)

// killInterval is long enough for a machine to boot again after serve was
// killed: with a shorter one a second reboot would be what was called for.
const killInterval = 6 * time.Second

// killPatience is for how long each step may take: a serve that is killed leaves its
// IPMI session behind, a BMC has as few as four, and forgets one after 60 s
// (IPMI 2.0, section 6.12.15). What is judged is what was done, not how soon.
const killPatience = 3 * time.Minute

// TestKills kills serve at twenty random moments of the story, and counts every
// wipe and power act against what was called for.
func TestKills(t *testing.T) {
	const kills = 20

	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number
	if given, err := strconv.ParseUint(os.Getenv("BMCTL_TEST_SEED"), 10, 64); err == nil {
		seed = given
	}

	t.Logf("BMCTL_TEST_SEED=%d", seed)

	l := start(t, lab.Config{Speed: 4, MinRebootInterval: killInterval})
	idle, used, removed := l.Machines()[0], l.Machines()[1], l.Machines()[2]
	watch := watchReady(t, l)
	done := kill(t, l, rand.New(rand.NewPCG(seed, 0)), kills) //nolint:gosec // a test

	for _, m := range l.Machines() {
		within(t, l, killPatience, m.Name+" pending", func() bool { return known(l, m) != nil })

		if err := l.Omni().Accept(m.UUID); err != nil {
			t.Fatal(err)
		}
	}

	for _, m := range l.Machines() {
		within(t, l, killPatience, m.Name+" ready and off", func() bool { return ready(l, m) && m.BMC.State() == power.StateOff })
	}

	for _, m := range []*lab.Machine{used, removed} {
		if err := l.Omni().Allocate(m.UUID, "prod", "1.13.5", nil); err != nil {
			t.Fatal(err)
		}

		within(t, l, killPatience, m.Name+" installed", m.Installed)
	}

	if err := l.Omni().RequestReboot(used.UUID); err != nil {
		t.Fatal(err)
	}

	requested := known(l, used).TypedSpec().Value.RequestedRebootId

	within(t, l, killPatience, "the reboot recorded", func() bool {
		status, err := l.Status(used)

		return err == nil && status.TypedSpec().Value.LastRebootId == requested
	})

	if err := l.Omni().Deallocate(used.UUID); err != nil {
		t.Fatal(err)
	}

	if err := l.Omni().Remove(removed.UUID); err != nil {
		t.Fatal(err)
	}

	within(t, l, killPatience, "wiped again, ready and off", func() bool {
		return len(watch.of(used)) == 2 && ready(l, used) && used.BMC.State() == power.StateOff
	})
	<-done

	expect(t, idle, bmcsim.ActOn, 1, 1) // the lab's own
	expect(t, idle, bmcsim.ActOff, 1, 1)
	expect(t, idle, bmcsim.ActCycle, 0, 0)
	expect(t, used, bmcsim.ActOn, 2, 2)
	expect(t, used, bmcsim.ActOff, 2, 2)
	expect(t, used, bmcsim.ActCycle, 1, 2)    // to agent mode; the requested one, unless we were killed just then
	expect(t, removed, bmcsim.ActOn, 2, 2)    // the lab's, and for the cluster
	expect(t, removed, bmcsim.ActCycle, 0, 1) // at its removal, unless we were killed just then
	expect(t, removed, bmcsim.ActOff, 1, 1)

	for _, m := range l.Machines() {
		expect(t, m, bmcsim.ActReset, 0, 0)
		expect(t, m, bmcsim.ActSoft, 0, 0)
		watch.judge(t, m)
	}
}

func expect(t *testing.T, m *lab.Machine, kind bmcsim.ActKind, least, most int) {
	t.Helper()

	if n := count(m, kind); n < least || n > most {
		t.Errorf("%s: %d times %s, want %d to %d: %v", m.Name, n, kind, least, most, kinds(m))
	}
}

// kill kills and restarts serve n times; the channel is closed after the last.
func kill(t *testing.T, l *lab.Lab, rnd *rand.Rand, n int) <-chan struct{} {
	t.Helper()

	done := make(chan struct{})

	go func() {
		defer close(done)

		for i := range n {
			select {
			case <-t.Context().Done():
				return
			case <-time.After(time.Duration(100+rnd.IntN(1500)) * time.Millisecond):
			}

			l.KillServe()

			if err := l.StartServe(t.Context()); err != nil {
				t.Errorf("start %d: %v", i, err)

				return
			}
		}
	}()

	return done
}

// span is a time in which a machine was reported as ready to use; to is zero
// while it is.
type span struct{ from, to time.Time }

// readiness is when each machine was reported as ready, by id.
type readiness struct {
	mu    sync.Mutex
	spans map[string][]span
}

// watchReady follows what serve reports, in order, until the test ends.
func watchReady(t *testing.T, l *lab.Lab) *readiness {
	t.Helper()

	r := &readiness{spans: map[string][]span{}}
	events := make(chan state.Event)

	if err := l.Omni().State().WatchKind(t.Context(), infra.NewMachineStatus("").Metadata(), events, state.WithBootstrapContents(true)); err != nil {
		t.Fatal(err)
	}

	go func() {
		for {
			select {
			case <-t.Context().Done():
				return
			case event := <-events:
				if status, ok := event.Resource.(*infra.MachineStatus); ok {
					r.note(status.Metadata().ID(), event.Type != state.Destroyed && status.TypedSpec().Value.ReadyToUse)
				}
			}
		}
	}()

	return r
}

func (r *readiness) note(id string, ready bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	spans := r.spans[id]
	open := len(spans) > 0 && spans[len(spans)-1].to.IsZero()

	switch {
	case ready && !open:
		r.spans[id] = append(spans, span{from: time.Now()})
	case !ready && open:
		spans[len(spans)-1].to = time.Now()
	}
}

func (r *readiness) of(m *lab.Machine) []span {
	r.mu.Lock()
	defer r.mu.Unlock()

	return slices.Clone(r.spans[m.UUID])
}

// judge expects a wipe before each time of readiness, and none in it.
func (r *readiness) judge(t *testing.T, m *lab.Machine) {
	t.Helper()

	var before time.Time

	for _, s := range r.of(m) {
		wiped := 0

		for _, at := range m.Wipes() {
			if at.After(before) && at.Before(s.from) {
				wiped++
			}

			if at.After(s.from) && (s.to.IsZero() || at.Before(s.to)) {
				t.Errorf("%s was wiped at %s although it was ready from %s", m.Name, at.Format(time.TimeOnly), s.from.Format(time.TimeOnly))
			}
		}

		if wiped == 0 {
			t.Errorf("%s was ready at %s without a wipe since %s", m.Name, s.from.Format(time.TimeOnly), before.Format(time.TimeOnly))
		}

		t.Logf("%s: %d wipes before it was ready", m.Name, wiped)

		before = s.to
	}
}
