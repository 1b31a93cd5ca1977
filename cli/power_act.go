package cli

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/bmctl/bmctl/power"
)

// powerRun is one act on a set of machines.
type powerRun struct {
	a     *app
	kind  powerActKind
	boot  *power.Boot
	f     powerFlags
	turns *turns
}

// firstLook bounds the question for the power before the act: a silent BMC is
// told after this, not after the whole time that the act may take.
const firstLook = 15 * time.Second

// The results of an act on one machine.
const (
	actDone     = "done"
	actNeedless = "unchanged" // it was so already
	actSkipped  = "skipped"   // by --if-on or --if-off
	actWould    = "would"     // --dry-run
	actFailed   = "failed"
	actUnknown  = "unknown" // it was asked for, and what became of it was not seen
	actNotBegun = "not-begun"
)

// actOutcome is what came of one machine.
type actOutcome struct {
	result string
	state  power.State // the last that was read
	boot   bool        // the boot override was set
	took   time.Duration
	err    error
}

func (a *app) powerAct(ctx context.Context, args []string, run powerRun) error {
	fleet := a.fleetView(ctx)

	chosen, err := a.connected(ctx, args, run.f.targets, fleet)
	if err != nil {
		return err
	}

	uses := a.usesOf(chosen, fleet, run.touches())

	if err := run.permit(ctx, chosen, uses); err != nil {
		return err
	}

	run.turns = &turns{gap: run.f.stagger}
	outcomes := make([]actOutcome, len(chosen))

	opener := a.opener(chosen, run.meant(chosen, uses))
	defer opener.client.Close()

	progress := a.progress(len(chosen), run.f.noFold)

	for r := range power.Each(ctx, opener, run.f.targets.parallel, powerTargets(chosen), run.on) {
		outcomes[r.Index] = r.Value
		outcomes[r.Index].finish(r.Err)
		run.tell(chosen, uses, r.Index, outcomes[r.Index])
		progress.step()
	}

	progress.end()

	return run.report(ctx, chosen, outcomes)
}

// touches tells whether machines of a cluster would notice.
func (run powerRun) touches() bool { return !run.f.dryRun && (!run.kind.harmless || run.boot != nil) }

// meant are the machines that may be touched though they are in a cluster: a
// person was asked, or said that nobody is to be.
func (run powerRun) meant(chosen []chosenBMC, uses []use) map[string]bool {
	meant := map[string]bool{}
	for i, bmc := range chosen {
		meant[bmc.UUID] = uses[i].inUse || run.f.yes
	}

	return meant
}

// finish files an error. Of what was cut off in the middle it is not known what
// became of it; what had not begun then has not happened.
func (o *actOutcome) finish(err error) {
	o.err = err

	switch cut := errors.Is(err, context.Canceled) || errors.Is(err, errInterrupted); {
	case err == nil:
	case cut && o.result == "":
		o.result = actNotBegun
	case cut:
		o.result = actUnknown
	default:
		o.result = actFailed
	}
}

// on carries the act out on one BMC. Beside an error the outcome tells how far
// it came.
func (run powerRun) on(ctx context.Context, bmc power.BMC, _ power.Target) (o actOutcome, err error) {
	if o.state, err = look(ctx, bmc, min(firstLook, run.f.timeout)); err != nil {
		return o, err
	}

	switch {
	case run.f.ifOn && o.state != power.StateOn, run.f.ifOff && o.state != power.StateOff:
		o.result = actSkipped

		return o, nil
	case run.f.dryRun && run.needless(o.state):
		o.result = actNeedless

		return o, nil
	case run.f.dryRun:
		o.result = actWould

		return o, nil
	}

	if run.boot != nil {
		if err := run.setBoot(ctx, bmc, &o); err != nil {
			return o, err
		}
	}

	if run.kind.action == 0 {
		o.result = actDone

		return o, nil
	}

	return o, run.do(ctx, bmc, &o)
}

func (run powerRun) setBoot(ctx context.Context, bmc power.BMC, o *actOutcome) error {
	ctx, cancel := context.WithTimeout(ctx, run.f.timeout)
	defer cancel()

	o.result = actUnknown

	if err := bmc.SetBoot(ctx, *run.boot); err != nil {
		return err
	}

	o.boot, o.result = true, ""

	return nil
}

// look reads the power within the time.
func look(ctx context.Context, bmc power.BMC, within time.Duration) (power.State, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()

	return bmc.State(ctx)
}

// do switches the power. The time that the machine waits for its turn is not
// the machine's.
func (run powerRun) do(ctx context.Context, bmc power.BMC, o *actOutcome) error {
	needless := run.needless(o.state)
	if _, old := bmc.(*servedBMC); old {
		needless = false // serve looks itself; what it read last may be old
	}

	if !needless {
		if err := run.turns.wait(ctx); err != nil {
			return err
		}
	}

	ctx, cancel := context.WithTimeout(ctx, run.f.timeout)
	defer cancel()

	if needless {
		o.result = actNeedless

		return run.await(ctx, bmc, o)
	}

	begun := time.Now()
	o.result = actUnknown

	if err := bmc.Do(ctx, run.kind.action); err != nil {
		return err
	}

	o.result, o.took = actDone, time.Since(begun)
	o.state = endState(run.kind.action, o.state)

	return run.await(ctx, bmc, o)
}

// needless tells whether the machine is as it is wanted already.
func (run powerRun) needless(state power.State) bool {
	switch run.kind.action {
	case power.On:
		return state == power.StateOn
	case power.Off, power.Soft:
		return state == power.StateOff
	default:
		return false
	}
}

// endState is the state that the driver has seen at the end of an act.
func endState(action power.Action, before power.State) power.State {
	switch action {
	case power.On, power.Cycle, power.Reset:
		return power.StateOn
	case power.Off, power.Soft:
		return power.StateOff
	default:
		return before
	}
}

// awaitPause is the time between two looks while a state is waited for.
const awaitPause = time.Second

// await waits for the state that --wait names. The state that the act ends in
// has been seen already.
func (run powerRun) await(ctx context.Context, bmc power.BMC, o *actOutcome) error {
	if run.f.wait == "" || run.f.wait == waitForResult || o.state.String() == run.f.wait {
		return nil
	}

	begun := time.Now()
	state, err := awaitState(ctx, bmc, run.f.wait)
	o.state, o.took = state, o.took+time.Since(begun)

	return err
}

// awaitState reads the power until it is the one that is wanted or ctx ends. A
// BMC that does not answer in between is asked again.
func awaitState(ctx context.Context, bmc power.BMC, wanted string) (state power.State, err error) {
	ticker := time.NewTicker(awaitPause)
	defer ticker.Stop()

	for {
		fresh, err := look(ctx, bmc, answerTimeout)
		if err == nil {
			state = fresh
		}

		if err == nil && state.String() == wanted {
			return state, nil
		}

		select {
		case <-ctx.Done():
			if err == nil {
				err = failf(codeTimeout, "", "the power is still %s: %w", state, ctx.Err())
			}

			return state, err
		case <-ticker.C:
		}
	}
}

// turns keeps a gap between the machines that are switched.
type turns struct {
	gap time.Duration

	mu   sync.Mutex
	next time.Time
}

// take gives the caller the next turn's time.
func (t *turns) take() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()

	at := time.Now()
	if at.Before(t.next) {
		at = t.next
	}

	t.next = at.Add(t.gap)

	return at
}

// wait waits for the caller's turn.
func (t *turns) wait(ctx context.Context) error {
	if t.gap == 0 {
		return ctx.Err()
	}

	timer := time.NewTimer(time.Until(t.take()))
	defer timer.Stop()

	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
