package power_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

func readState(ctx context.Context, bmc power.BMC, _ power.Target) (power.State, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()

	return bmc.State(ctx)
}

func TestEachVisitsAll(t *testing.T) {
	t.Parallel()

	var targets []power.Target

	var sims []*bmcsim.BMC

	for i := range 6 {
		sim, target := bmctest.Simulated(t, bmcsim.Config{On: i%2 == 0})
		target.Protocol = power.ProtocolIPMI
		targets, sims = append(targets, target), append(sims, sim)
	}

	setFault(t, sims[5], bmcsim.FaultSilent, true)

	var got []int
	for r := range power.Each(t.Context(), power.NewDialer(power.Options{}), 3, targets, readState) {
		got = append(got, r.Index)

		switch {
		case r.Index == 5:
			bmctest.WantKind(t, r.Err, targets[5], power.ErrUnreachable)
		case r.Err != nil:
			t.Error(r.Err)
		case r.Value != sims[r.Index].State():
			t.Errorf("target %d is %s, want %s", r.Index, r.Value, sims[r.Index].State())
		}
	}

	if last := got[len(got)-1]; last != 5 {
		t.Errorf("the silent one came before others: %v", got)
	}

	if slices.Sort(got); !slices.Equal(got, []int{0, 1, 2, 3, 4, 5}) {
		t.Errorf("visited %v", got)
	}

	for i, sim := range sims[:5] {
		if n := sim.Sessions(); n != 0 {
			t.Errorf("controller %d has %d sessions left", i, n)
		}
	}
}

func TestEachStopsWhenNobodyReads(t *testing.T) {
	t.Parallel()

	_, target := bmctest.Simulated(t, bmcsim.Config{})
	targets := slices.Repeat([]power.Target{target}, 100)

	var alive atomic.Int64

	for range power.Each(t.Context(), power.NewDialer(power.Options{}), 2, targets,
		func(ctx context.Context, _ power.BMC, _ power.Target) (int, error) {
			if ctx.Err() == nil {
				alive.Add(1)
			}

			return 0, nil
		}) {
		break
	}

	// One was read, two were under way, and one came into the place of the first.
	if n := alive.Load(); n > 4 {
		t.Errorf("%d calls were made after the reader had gone", n)
	}
}

// Dark controllers, more than are asked at a time, do not delay the others: a
// slot waits for an answer for half a second at most.
func TestEachDoesNotWaitForTheDark(t *testing.T) {
	t.Parallel()

	for _, protocol := range []power.Protocol{power.ProtocolIPMI, power.ProtocolRedfish, power.ProtocolAuto} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()
			visitDark(t, protocol)
		})
	}
}

func visitDark(t *testing.T, protocol power.Protocol) {
	t.Helper()

	// Waiting for the dark ones to give up, pair after pair, would take four times
	// the timeout; half a second for each takes two seconds.
	const (
		dark, parallel = 8, 2
		timeout        = 4 * time.Second
		pairs          = dark / parallel
	)

	var targets []power.Target

	for i := range dark + 4 {
		sim, target := bmctest.Simulated(t, bmcsim.Config{})
		target.Protocol = protocol
		targets = append(targets, target)
		setFault(t, sim, bmcsim.FaultSilent, i < dark)
	}

	begun := time.Now()

	for r := range power.Each(t.Context(), power.NewDialer(power.Options{}), parallel, targets,
		func(ctx context.Context, bmc power.BMC, _ power.Target) (power.State, error) {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()

			return bmc.State(ctx)
		}) {
		took := time.Since(begun)

		switch {
		case r.Index >= dark && (r.Err != nil || took > pairs*timeout/2):
			t.Errorf("target %d was done after %s: %v", r.Index, took, r.Err)
		case r.Index < dark && took > pairs*timeout*3/4:
			t.Errorf("dark target %d was given up after %s", r.Index, took)
		}
	}
}

// Acts never overlap beyond the number that was asked for, also those of
// controllers that were silent at first: they wait until there is room again.
func TestEachKeepsActsApart(t *testing.T) {
	t.Parallel()

	var (
		targets []power.Target
		sims    []*bmcsim.BMC
	)

	for range 3 {
		sim, target := bmctest.Simulated(t, bmcsim.Config{On: true, SlowBy: 550 * time.Millisecond})
		target.Protocol = power.ProtocolIPMI
		targets, sims = append(targets, target), append(sims, sim)
		setFault(t, sim, bmcsim.FaultSlow, true)
	}

	type span struct{ act, end time.Time }

	var spans []span

	for r := range power.Each(t.Context(), power.NewDialer(power.Options{}), 1, targets,
		func(ctx context.Context, bmc power.BMC, _ power.Target) (time.Time, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()

			err := bmc.Do(ctx, power.Off)

			return time.Now(), err
		}) {
		acts := sims[r.Index].Acts()
		if r.Err != nil || len(acts) != 1 {
			t.Fatalf("%v, acts %v", r.Err, acts)
		}

		spans = append(spans, span{acts[0].At, r.Value})
	}

	slices.SortFunc(spans, func(a, b span) int { return a.act.Compare(b.act) })

	for i, s := range spans[1:] {
		if s.act.Before(spans[i].end) {
			t.Errorf("act %d came %s before the one before it had ended", i+1, spans[i].end.Sub(s.act))
		}
	}
}

func TestEachOfNone(t *testing.T) {
	t.Parallel()

	for range power.Each(t.Context(), power.NewDialer(power.Options{}), 0, nil, readState) {
		t.Error("a result of no target")
	}
}

func TestEachReportsTargetsThatCannotBeMeant(t *testing.T) {
	t.Parallel()

	for r := range power.Each(t.Context(), power.NewDialer(power.Options{}), 1, []power.Target{{Name: "x"}}, readState) {
		if !errors.Is(r.Err, power.ErrUnreachable) {
			t.Errorf("got %v", r.Err)
		}
	}
}
