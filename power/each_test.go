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

	// One was read, and at most two were under way.
	if n := alive.Load(); n > 5 {
		t.Errorf("%d calls were made after the reader had gone", n)
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
