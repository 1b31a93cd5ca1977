package power

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// DefaultTimeout bounds a call whose context has no deadline.
const DefaultTimeout = 30 * time.Second

// Pacing of the loops below: first and longest pause.
const (
	verifyFirst, verifyLongest = 100 * time.Millisecond, 2 * time.Second
	busyFirst, busyLongest     = 200 * time.Millisecond, 5 * time.Second
	closeTimeout               = 3 * time.Second
)

// driver speaks one protocol to one controller. Its methods are called one at a
// time, always with a deadline, and give errors of type *failure.
type driver interface {
	info(ctx context.Context) (Info, error)
	state(ctx context.Context) (State, error)
	// act asks once, whatever the state; it does not wait for the result and
	// never asks again after an answer was lost, unless twice is as good as once.
	act(ctx context.Context, action Action) error
	// setBoot sets the override, or clears it for the zero Boot, and reads back.
	setBoot(ctx context.Context, boot Boot) error
	// identify tells the system's UUID; nil where the controller does not.
	identify(ctx context.Context) (identity, error)
	// login counts the sessions there were: another number is another session,
	// and with a re-leased address maybe another machine.
	login() int
	// close ends the session on the controller.
	close(ctx context.Context) error
}

// router says which driver a call goes to.
type router interface {
	route(ctx context.Context) (driver, error)
	// outcome is told how the driver fared. It says whether the call should go
	// once more, to another driver, and what else to report.
	outcome(d driver, err error) (again bool, reported error)
	// serialPort is the driver that has a console.
	serialPort(ctx context.Context) (serialPort, error)
	close(ctx context.Context) error
}

// conversation is the BMC that the drivers share: queue, deadlines, retries
// where a controller is busy, level-triggered acts and their verification.
type conversation struct {
	target Target
	router router
	host   *host
	log    *slog.Logger

	acting chan struct{} // holds one token: acts do not overlap
	closed atomic.Bool

	// The session whose system was found to be the target's machine. Guarded by
	// the queue.
	knownDriver driver
	knownLogin  int
}

func newConversation(target Target, h *host, r router, log *slog.Logger) *conversation {
	return &conversation{
		target: target, router: r, host: h, acting: make(chan struct{}, 1),
		log: log.With("bmc", target.Label()),
	}
}

// Info implements BMC.
func (c *conversation) Info(ctx context.Context) (info Info, err error) {
	err = c.call(ctx, "ask what it is", func(ctx context.Context) error {
		return c.exchange(ctx, priorityPoll, func(ctx context.Context, d driver) (err error) {
			info, err = d.info(ctx)

			return err
		})
	})

	return info, err
}

// State implements BMC.
func (c *conversation) State(ctx context.Context) (state State, err error) {
	err = c.call(ctx, "read the power state", func(ctx context.Context) error {
		state, err = c.readState(ctx, priorityPoll)

		return err
	})

	return state, err
}

// Do implements BMC.
func (c *conversation) Do(ctx context.Context, action Action) error {
	return c.call(ctx, "power "+action.String(), func(ctx context.Context) error {
		return c.alone(ctx, func() error { return c.do(ctx, action) })
	})
}

// SetBoot implements BMC.
func (c *conversation) SetBoot(ctx context.Context, boot Boot) error {
	op := "set the boot override to " + boot.Device.String()
	if boot.Device == DeviceNone {
		op = "clear the boot override"
	}

	return c.call(ctx, op, func(ctx context.Context) error {
		return c.alone(ctx, func() error {
			return c.exchange(ctx, priorityAct, func(ctx context.Context, d driver) error {
				if err := c.knowMachine(ctx, d); err != nil {
					return err
				}

				return d.setBoot(ctx, boot)
			})
		})
	})
}

// Close implements io.Closer.
func (c *conversation) Close() error {
	if c.closed.Swap(true) {
		return nil
	}

	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()

	if err := c.host.queue.enter(ctx, priorityAct); err != nil {
		return blame(c.target, "end the session", err)
	}
	defer c.host.queue.leave()

	return blame(c.target, "end the session", c.router.close(ctx))
}

// call bounds an operation and names it in its error.
func (c *conversation) call(ctx context.Context, op string, fn func(context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}

	return blame(c.target, op, fn(ctx))
}

// alone keeps acts of one conversation from overlapping; states may be read
// between their steps.
func (c *conversation) alone(ctx context.Context, fn func() error) error {
	select {
	case c.acting <- struct{}{}:
		defer func() { <-c.acting }()

		return fn()
	case <-ctx.Done():
		return fail(ErrBusy, "another act on this machine was still under way").because(ctx.Err())
	}
}

// exchange gives fn its turn with a driver, and another one when the
// controller has forgotten the session, is reached better another way, or asks
// to be tried again later. Nothing else is retried.
func (c *conversation) exchange(ctx context.Context, p priority, fn func(context.Context, driver) error) error {
	pause := newPause(busyFirst, busyLongest)
	relogins, detours := 1, 1

	var busy error

	for {
		again, err := c.turn(ctx, p, fn)

		switch {
		case err == nil:
			return nil
		case again && detours > 0:
			detours--
		case isLost(err) && relogins > 0:
			relogins--
		case isKind(err, ErrBusy) && pause.wait(ctx):
			busy = err
		case busy != nil && isKind(err, ErrUnreachable) && over(ctx):
			return busy // the last try was only too short
		default:
			return err
		}
	}
}

// turn is one try of fn.
func (c *conversation) turn(ctx context.Context, p priority, fn func(context.Context, driver) error) (again bool, err error) {
	if rest, failures := c.host.breaker.rest(time.Now()); p == priorityPoll && rest > 0 {
		return false, fail(ErrUnreachable, "not asked for another %s: no answer %d times in a row",
			rest.Round(100*time.Millisecond), failures)
	}

	slot := slotOf(ctx)
	if err := slot.take(ctx); err != nil {
		return false, err
	}

	if err := c.host.queue.enter(ctx, p); err != nil {
		return false, err
	}
	defer c.host.queue.leave()

	slot.listen()

	if c.closed.Load() {
		return false, fail(ErrUnreachable, "the conversation is closed")
	}

	d, err := c.router.route(ctx)
	if err != nil {
		return false, err
	}

	err = fn(ctx, d)
	c.count(ctx, err)

	return c.router.outcome(d, err)
}

// count tells the breaker how the call fared. Who was cancelled has learnt
// nothing.
func (c *conversation) count(ctx context.Context, err error) {
	switch {
	case !isKind(err, ErrUnreachable):
		c.host.breaker.answered()
	case !errors.Is(ctx.Err(), context.Canceled):
		c.host.breaker.silent(time.Now())
	}
}

func (c *conversation) readState(ctx context.Context, p priority) (state State, err error) {
	err = c.exchange(ctx, p, func(ctx context.Context, d driver) (err error) {
		state, err = d.state(ctx)

		return err
	})

	return state, err
}
