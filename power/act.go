package power

import (
	"context"
	"time"
)

// do is the level-triggered act: look, ask only for what is missing, look until
// it holds.
func (c *conversation) do(ctx context.Context, action Action) error {
	state, err := c.readState(ctx, priorityAct)
	if err != nil {
		return err
	}

	switch {
	case state == StateOn && action == On, state == StateOff && (action == Off || action == Soft):
		return nil
	case state == StateOff && action != On:
		return fail(ErrRefused, "the machine is off")
	}

	if err := c.ask(ctx, action); err != nil {
		if action == Cycle && (isKind(err, ErrUnsupported) || isKind(err, ErrRefused)) {
			c.log.Info("the controller has no power cycle: switching off and on", "reason", err.Error())

			return c.offAndOn(ctx)
		}

		return c.unlessHolds(ctx, action, err)
	}

	return c.verify(ctx, action)
}

// ask sends the act, in a session that is known to lead to the right machine.
// When the controller asks to be tried again later, the act may be needless by
// then.
func (c *conversation) ask(ctx context.Context, action Action) error {
	again := false

	return c.exchange(ctx, priorityAct, func(ctx context.Context, d driver) error {
		if err := c.knowMachine(ctx, d); err != nil {
			return err
		}

		if again && endsIn(action) != StateUnknown {
			if state, err := d.state(ctx); err != nil || state == endsIn(action) {
				return err
			}
		}

		again = true

		return d.act(ctx, action)
	})
}

// endsIn is the state in which the act is needless; StateUnknown: it never is.
func endsIn(action Action) State {
	if action == Cycle || action == Reset {
		return StateUnknown
	}

	return wanted(action)
}

// unlessHolds lets an act succeed that was refused because it was needless by
// the time it arrived: several controllers answer so.
func (c *conversation) unlessHolds(ctx context.Context, action Action, refusal error) error {
	want := endsIn(action)
	if !isKind(refusal, ErrRefused) || want == StateUnknown {
		return refusal
	}

	if state, err := c.readState(ctx, priorityVerify); err != nil || state != want {
		return refusal
	}

	return nil
}

// offAndOn is a power cycle in two acts.
func (c *conversation) offAndOn(ctx context.Context) error {
	for _, action := range []Action{Off, On} {
		if err := c.ask(ctx, action); err != nil {
			return err
		}

		if err := c.verify(ctx, action); err != nil {
			return err
		}
	}

	return nil
}

// wanted is the state that an act ends in; StateUnknown where the state does
// not show it.
func wanted(action Action) State {
	switch action {
	case On, Cycle, Reset:
		return StateOn
	case Off, Soft:
		return StateOff
	default:
		return StateUnknown
	}
}

// verify reads the state until it is the one the act ends in.
func (c *conversation) verify(ctx context.Context, action Action) error {
	want := wanted(action)
	if want == StateUnknown {
		return nil
	}

	since := time.Now()
	pause := newPause(verifyFirst, verifyLongest)

	var shown *State // the last state that was read

	for {
		state, err := c.readState(ctx, priorityVerify)

		switch {
		case err == nil && state == want:
			return nil
		case err == nil:
			shown = &state
		case !isKind(err, ErrUnreachable):
			return err
		}

		if pause.wait(ctx) {
			continue
		}

		if shown == nil {
			return err
		}

		return fail(ErrRefused, "accepted, but the machine is still %s after %s",
			*shown, time.Since(since).Round(100*time.Millisecond)).because(context.Cause(ctx))
	}
}

// knowMachine compares, once a session, the UUID of the controller's system
// with the target's: a re-leased address must not switch somebody else's
// machine.
func (c *conversation) knowMachine(ctx context.Context, d driver) error {
	if c.target.UUID == "" || c.knownDriver == d && c.knownLogin == d.login() {
		return nil
	}

	id, err := d.identify(ctx)
	if err != nil {
		return err
	}

	if len(id) > 0 && !id.is(c.target.UUID) {
		return fail(ErrAmbiguous, "this controller's machine is %s, not %s", id.text(""), c.target.UUID)
	}

	c.knownDriver, c.knownLogin = d, d.login()

	return nil
}
