package soak_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/lab"
)

// storm does harm, and lets users act, as its seed says. One goroutine does all of
// it, so that the same seed gives the same deeds in the same order.
type storm struct {
	*fleet

	rnd  *rand.Rand
	done map[string]int // deeds, by name
	due  []lift
	away bool // Omni answers nobody
	calm bool // serve is not killed any more
}

// lift is the end of a fault.
type lift struct {
	at time.Time
	do func()
}

func newStorm(f *fleet, seed uint64) *storm {
	return &storm{fleet: f, rnd: rand.New(rand.NewPCG(seed, 1)), done: map[string]int{}} //nolint:gosec // a test
}

// deed is something that the storm may do, and how often in a hundred. It tells
// what it did, or "" where that was not possible.
type deed struct {
	weight int
	do     func(s *storm, m *lab.Machine) string
}

func deeds() []deed {
	return []deed{
		{20, (*storm).breakBMC},
		{8, (*storm).flap},
		{1, (*storm).factoryAway},
		{1, (*storm).omniAway},
		{1, (*storm).omniSilent},
		{1, (*storm).omniRestarts},
		{2, (*storm).kill},
		{64, (*storm).user},
	}
}

// rage does one deed after the other. In the last third serve is not killed: what
// it then holds on to shows at the end.
func (s *storm) rage(lasts time.Duration) {
	begun := time.Now()
	all := deeds()

	for time.Since(begun) < lasts && !s.t.Failed() {
		s.calm = time.Since(begun) > lasts*2/3

		time.Sleep(time.Duration(20+s.rnd.IntN(200)) * time.Millisecond)
		s.liftDue(time.Now())

		at, pick := 0, s.rnd.IntN(100)
		m := s.lab.Machines()[s.rnd.IntN(len(s.lab.Machines()))]

		for _, d := range all {
			if at += d.weight; pick >= at {
				continue
			}

			if did := d.do(s, m); did != "" {
				s.done[did]++
			}

			break
		}

		if s.lab.ServeEnded() {
			s.t.Fatal("serve ended by itself")
		}
	}
}

// later has a fault end after a while.
func (s *storm) later(least, most time.Duration, do func()) {
	s.due = append(s.due, lift{time.Now().Add(least + time.Duration(s.rnd.Int64N(int64(most-least)))), do})
}

func (s *storm) liftDue(now time.Time) {
	s.due = slices.DeleteFunc(s.due, func(l lift) bool {
		if l.at.After(now) {
			return false
		}

		l.do()

		return true
	})
}

// lift ends every fault.
func (s *storm) lift() { s.liftDue(time.Now().Add(time.Hour)) }

// say prints what was done.
func (s *storm) say() {
	var text strings.Builder

	for _, what := range slices.Sorted(maps.Keys(s.done)) {
		fmt.Fprintf(&text, "\n%7d  %s", s.done[what], what)
	}

	s.t.Logf("what the storm did:%s", text.String())
}

func (s *storm) breakBMC(m *lab.Machine) string {
	faults := []string{
		bmcsim.FaultSilent, bmcsim.FaultSlow, bmcsim.FaultLyingPower, bmcsim.FaultLyingBoot, bmcsim.FaultBusy, bmcsim.FaultBadLogin,
	}
	fault := faults[s.rnd.IntN(len(faults))]

	if slices.Contains(m.BMC.Faults(), fault) {
		return ""
	}

	s.must(m.BMC.SetFault(fault, true))
	s.later(500*time.Millisecond, 10*time.Second, func() { s.must(m.BMC.SetFault(fault, false)) })

	return "BMC " + fault
}

func (s *storm) flap(m *lab.Machine) string {
	if !m.AgentMode() {
		return ""
	}

	m.Flap()

	return "agent flapped"
}

func (s *storm) factoryAway(*lab.Machine) string {
	s.lab.SetFactoryAway(true)
	s.later(time.Second, 6*time.Second, func() { s.lab.SetFactoryAway(false) })

	return "factory away"
}

func (s *storm) omniAway(*lab.Machine) string {
	if s.away {
		return ""
	}

	s.away = true
	s.judge.omniGone()
	s.lab.Omni().SetAway(true)
	s.later(time.Second, 5*time.Second, func() { s.lab.Omni().SetAway(false); s.omniBack() })

	return "omni away"
}

func (s *storm) omniSilent(*lab.Machine) string {
	if s.away {
		return ""
	}

	s.away = true
	s.judge.omniGone()
	s.lab.Omni().SetSilent(true)
	s.later(time.Second, 5*time.Second, func() { s.lab.Omni().SetSilent(false); s.omniBack() })

	return "omni silent"
}

func (s *storm) omniRestarts(*lab.Machine) string {
	if s.away {
		return ""
	}

	s.judge.omniGone()
	s.judge.cancel()
	s.must(s.lab.StopOmni())
	time.Sleep(time.Duration(s.rnd.IntN(2000)) * time.Millisecond)
	s.must(s.lab.StartOmni())
	s.judge.watch()
	s.judge.omniBack()

	return "omni restarted"
}

func (s *storm) omniBack() {
	s.judge.omniBack()
	s.away = false
}

// kill ends serve at once, or in order now and then, and starts it again.
func (s *storm) kill(*lab.Machine) string {
	if s.calm {
		return ""
	}

	did := "serve killed"

	if s.rnd.IntN(4) == 0 {
		did = "serve stopped"
		s.must(s.lab.StopServe())
	} else {
		s.lab.KillServe()
	}

	time.Sleep(time.Duration(s.rnd.IntN(1000)) * time.Millisecond)

	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()

	s.must(s.lab.StartServe(ctx))

	return did
}
