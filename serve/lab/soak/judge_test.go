package soak_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"

	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/eventlog"
	"github.com/bmctl/bmctl/serve/lab"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/resources"
)

const (
	// grace is how long an act may take from the last look at Omni until it arrives:
	// a command, its retries and what is under way on a slow BMC.
	grace = 6 * time.Second
	// told is how much later the event log tells of an act.
	told = 30 * time.Second
	// reconnect is how long after an outage serve asks Omni again at the latest.
	reconnect = 20 * time.Second
)

// outage is a time in which Omni did not answer; to is zero while it lasts.
type outage struct{ from, to time.Time }

// judge holds what happened against what Omni said. An act is right if anything
// that Omni said a moment before calls for it, or lets it be.
type judge struct {
	*timeline

	lab    *lab.Lab
	log    *eventlog.Log
	cancel context.CancelFunc // of the watch
	stop   chan struct{}
	done   sync.WaitGroup

	judged   map[string]int // how much of each machine's acts, wipes and so on
	seen     map[string]bool
	since    time.Time // of the event log
	readAt   map[string]time.Time
	wiped    map[string]bool // lives in which a wipe came to its end
	wipedIn  map[string]int  // and how many
	found    map[string]int  // what there was to judge, by kind
	violated int
	outages  []outage
}

func newJudge(t *testing.T, l *lab.Lab) *judge {
	t.Helper()

	if err := resources.Register(provider); err != nil {
		t.Fatal(err)
	}

	j := &judge{
		timeline: &timeline{t: t, moments: map[string][]moment{}}, lab: l, stop: make(chan struct{}), since: time.Now(),
		log:    eventlog.New(eventlog.Config{Dir: filepath.Join(filepath.Dir(l.SocketPath()), "state")}),
		judged: map[string]int{}, seen: map[string]bool{}, readAt: map[string]time.Time{},
		wiped: map[string]bool{}, wipedIn: map[string]int{}, found: map[string]int{},
	}
	j.watch()
	j.done.Go(func() {
		for {
			select {
			case <-j.stop:
				return
			case <-time.After(time.Second):
				j.step(time.Now().Add(-2*time.Second), false)
			}
		}
	})

	return j
}

// watch follows the Omni that runs now.
func (j *judge) watch() {
	ctx, cancel := context.WithCancel(j.t.Context())
	j.cancel = cancel
	j.follow(ctx, j.lab.Omni())
}

// omniGone notes that Omni stopped answering; omniBack that it answers again.
func (j *judge) omniGone() {
	j.mu.Lock()
	defer j.mu.Unlock()

	j.outages = append(j.outages, outage{from: time.Now()})
}

func (j *judge) omniBack() {
	j.mu.Lock()
	defer j.mu.Unlock()

	j.outages[len(j.outages)-1].to = time.Now()
}

// from is the earliest moment that what happened at a time may rest on. What serve
// knows is as old as the last answer: it goes on with it for a while.
func (j *judge) from(at time.Time, grace time.Duration) time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()

	from := at.Add(-grace)

	for _, o := range slices.Backward(j.outages) {
		if o.from.Before(from) && (o.to.IsZero() || o.to.Add(reconnect).After(from)) {
			from = o.from.Add(-grace)
		}
	}

	return from
}

// finish judges the rest, and tells what there was to judge.
func (j *judge) finish() {
	close(j.stop)
	j.done.Wait()
	j.step(time.Now(), true)
	j.cancel()

	repeated := 0
	for _, n := range j.wipedIn {
		repeated += max(0, n-1)
	}

	j.t.Logf("judged: %v; %d lives wiped, %d wipes repeated before they were recorded", j.found, len(j.wipedIn), repeated)

	if len(j.wipedIn) == 0 || j.found["power on"] == 0 || j.found["event script"] == 0 {
		j.t.Error("there was too little to judge")
	}
}

// step judges what happened until then.
func (j *judge) step(until time.Time, last bool) {
	for _, m := range j.lab.Machines() {
		j.acts(m, until)
		j.calls(m, "wipe", m.WipesAsked(), until, moment.wipeAllowed)
		j.calls(m, "BMC set-up", m.SetUps(), until, moment.setUpAllowed)
		j.wipes(m, until)
		j.readiness(m, until)
	}

	if until.Sub(j.since) > 10*time.Second || last {
		j.events(until)
	}

	j.forget(until.Add(-5 * time.Minute))
}

// hold finds a moment in which what happened was right.
func (j *judge) hold(m *lab.Machine, what string, from, at time.Time, allowed func(moment) string) {
	j.found[what]++

	var why string

	for _, now := range j.during(m.UUID, from, at) {
		if why = allowed(now); why == "" {
			return
		}
	}

	if j.violated++; j.violated <= 20 {
		j.t.Errorf("%s %s: %s: %s", at.Format("15:04:05.000"), m.Name, what, why)
	}
}

// fresh returns how much of n is new, and notes it.
func (j *judge) fresh(m *lab.Machine, what string, times func(i int) time.Time, n int, until time.Time) (first, end int) {
	key := m.Name + what
	first, end = j.judged[key], j.judged[key]

	for end < n && times(end).Before(until) {
		end++
	}

	j.judged[key] = end

	return first, end
}

func (j *judge) acts(m *lab.Machine, until time.Time) {
	acts := m.BMC.Acts()
	first, end := j.fresh(m, "acts", func(i int) time.Time { return acts[i].At }, len(acts), until)

	for _, act := range acts[first:end] {
		j.hold(m, "power "+string(act.Kind), j.from(act.At, grace), act.At, func(now moment) string { return now.powerAllowed(act.Kind) })
	}
}

func (j *judge) calls(m *lab.Machine, what string, at []time.Time, until time.Time, allowed func(moment) string) {
	first, end := j.fresh(m, what, func(i int) time.Time { return at[i] }, len(at), until)

	for _, at := range at[first:end] {
		j.hold(m, what, j.from(at, grace), at, allowed)
	}
}

// wipes notes in which life each wipe came to its end.
func (j *judge) wipes(m *lab.Machine, until time.Time) {
	at := m.Wipes()
	first, end := j.fresh(m, "wiped", func(i int) time.Time { return at[i] }, len(at), until)

	for _, at := range at[first:end] {
		held := j.during(m.UUID, j.from(at, grace), at)
		for _, now := range held {
			j.wiped[m.UUID+now.life()] = true
		}

		j.wipedIn[m.UUID+held[len(held)-1].life()]++
	}
}

// readiness: no status says ready unless the machine was wiped in this life and
// use, and BMC access is stored.
func (j *judge) readiness(m *lab.Machine, until time.Time) {
	since := j.readAt[m.UUID]
	j.readAt[m.UUID] = until

	var said *infra.MachineStatus

	for _, now := range j.during(m.UUID, since, until) {
		again := now.reported == nil || said != nil && now.reported.Metadata().Version().Equal(said.Metadata().Version())
		said = now.reported

		if again || !now.at.After(since) || !now.reported.TypedSpec().Value.ReadyToUse {
			continue
		}

		j.hold(m, "ready", j.from(now.at, grace), now.at, func(now moment) string {
			switch {
			case !now.known():
				return "Omni does not know it"
			case !j.wiped[m.UUID+now.life()]:
				return fmt.Sprintf("wipe %q never happened", now.machine.TypedSpec().Value.WipeId)
			case now.bmc == nil:
				return "no BMC access is stored"
			default:
				return ""
			}
		})
	}
}

// events judges what serve says that it did.
func (j *judge) events(until time.Time) {
	events, err := j.log.Since(j.since.Add(-10 * time.Second))
	if err != nil {
		j.t.Errorf("the event log: %v", err)
	}

	byID := map[string]*lab.Machine{}
	for _, m := range j.lab.Machines() {
		byID[m.UUID] = m
	}

	for _, e := range events {
		m := byID[e.MachineID]
		key := fmt.Sprint(e.Seq, e.At.UnixNano())

		if m == nil || j.seen[key] || e.At.After(until) {
			continue
		}

		j.seen[key] = true
		j.event(m, e)
	}

	j.since = until
}

func (j *judge) event(m *lab.Machine, e localapi.Event) {
	from := j.from(e.At, told)

	switch {
	case e.Type == "script":
		j.hold(m, "event script", j.from(e.At, grace), e.At, func(now moment) string { return now.bootAllowed(e.Text) })
	case e.Type == "wipe" && e.Text == "wiping":
		j.hold(m, "event wipe", j.from(e.At, grace), e.At, moment.wipeAllowed)
	case e.Type == "power" && strings.HasPrefix(e.Text, "power "):
		kind := bmcsim.ActKind(strings.TrimPrefix(e.Text, "power "))
		j.hold(m, "event power", from, e.At, func(now moment) string { return now.powerAllowed(kind) })

		for _, act := range m.BMC.Acts() {
			if act.Kind == kind && act.At.After(from) && act.At.Before(e.At) {
				return
			}
		}

		j.t.Errorf("%s %s: the event log says %q, its BMC saw no such act", e.At.Format("15:04:05.000"), m.Name, e.Text)
	}
}
