package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/power"
)

// errAway is what Omni says while it is away.
var errAway = errors.New("omni is away")

// link is the connection to Omni: it can break, and with it break the watches.
type link struct {
	state.CoreState

	mu     sync.Mutex
	away   bool
	broken chan struct{} // closed when the connection breaks
}

func newLink(st state.CoreState) *link {
	return &link{CoreState: st, broken: make(chan struct{})}
}

func (l *link) set(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if away && !l.away {
		close(l.broken)
		l.broken = make(chan struct{})
	}

	l.away = away
}

func (l *link) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.away {
		return errAway
	}

	return nil
}

func (l *link) Get(ctx context.Context, p resource.Pointer, o ...state.GetOption) (resource.Resource, error) {
	if err := l.check(); err != nil {
		return nil, err
	}

	return l.CoreState.Get(ctx, p, o...)
}

func (l *link) Create(ctx context.Context, r resource.Resource, o ...state.CreateOption) error {
	if err := l.check(); err != nil {
		return err
	}

	return l.CoreState.Create(ctx, r, o...)
}

func (l *link) Update(ctx context.Context, r resource.Resource, o ...state.UpdateOption) error {
	if err := l.check(); err != nil {
		return err
	}

	return l.CoreState.Update(ctx, r, o...)
}

func (l *link) Destroy(ctx context.Context, p resource.Pointer, o ...state.DestroyOption) error {
	if err := l.check(); err != nil {
		return err
	}

	return l.CoreState.Destroy(ctx, p, o...)
}

func (l *link) WatchKindAggregated(ctx context.Context, kind resource.Kind, ch chan<- []state.Event, o ...state.WatchKindOption) error {
	if err := l.check(); err != nil {
		return err
	}

	l.mu.Lock()
	broken := l.broken
	l.mu.Unlock()

	inner := make(chan []state.Event)
	if err := l.CoreState.WatchKindAggregated(ctx, kind, inner, o...); err != nil {
		return err
	}

	go func() {
		for {
			var events []state.Event

			select {
			case <-ctx.Done():
				return
			case <-broken:
				events = []state.Event{{Type: state.Errored, Error: errAway}}
			case events = <-inner:
			}

			select {
			case <-ctx.Done():
				return
			case ch <- events:
			}
		}
	}()

	return nil
}

// board is a machine in virtual time: power, BMC, firmware and agent.
type board struct {
	id    string
	world *world

	mu        sync.Mutex
	on        bool
	override  bool // PXE, once
	users     map[string]string
	silent    bool // the BMC does not answer
	agent     bool // an agent is connected
	installed bool // on the disk
	bootedAt  int  // counts boots, so that a late one is dropped

	wipes  []string // the wipe ids in force when it was wiped
	cycles int

	asked   []time.Time // for its power
	wipedAt time.Time   // when the last wipe began
}

// switchTo changes the power; mu is held.
func (b *board) switchTo(on bool) {
	b.bootedAt++
	b.agent = false

	if b.on = on; on {
		go b.boots(b.bootedAt)
	}
}

// boots is what happens after power-on: firmware, then what the provider says.
func (b *board) boots(boot int) {
	for {
		time.Sleep(20 * time.Second)

		b.mu.Lock()
		disk := b.installed && !b.override
		stale := b.bootedAt != boot
		b.override = false
		b.mu.Unlock()

		if stale || disk || b.runs(boot) {
			return
		}
	}
}

// runs asks what to boot; it tells whether the machine runs something then.
func (b *board) runs(n int) bool {
	d, err := b.world.decide(b.id)
	if err != nil || d.Kind == boot.Wait {
		return false
	}

	b.mu.Lock()
	defer b.mu.Unlock()

	b.agent = b.bootedAt == n && d.Kind == boot.Agent
	b.world.enqueue(b.id)

	return true
}

// bmc is a conversation with a board's BMC.
type bmc struct {
	b *board
	t power.Target
}

func (c bmc) ask(ctx context.Context) error {
	c.b.mu.Lock()
	silent, password := c.b.silent, c.b.users[c.t.Username]
	c.b.mu.Unlock()

	if silent {
		<-ctx.Done()

		return fmt.Errorf("%s: %w", c.t.Label(), power.ErrUnreachable)
	}

	time.Sleep(30 * time.Millisecond)

	if password == "" || password != c.t.Password.Reveal() {
		return fmt.Errorf("%s: %w", c.t.Label(), power.ErrAuth)
	}

	return nil
}

func (c bmc) Info(context.Context) (power.Info, error) { return power.Info{}, nil }

func (c bmc) State(ctx context.Context) (power.State, error) {
	c.b.mu.Lock()
	c.b.asked = append(c.b.asked, time.Now())
	c.b.mu.Unlock()

	if err := c.ask(ctx); err != nil {
		return power.StateUnknown, err
	}

	c.b.mu.Lock()
	defer c.b.mu.Unlock()

	if c.b.on {
		return power.StateOn, nil
	}

	return power.StateOff, nil
}

func (c bmc) Do(ctx context.Context, action power.Action) error {
	if err := c.ask(ctx); err != nil {
		return err
	}

	c.b.world.judgePower(c.b.id, action)

	c.b.mu.Lock()
	defer c.b.mu.Unlock()

	switch action {
	case power.On:
		if !c.b.on {
			c.b.switchTo(true)
		}
	case power.Off:
		c.b.switchTo(false)
	case power.Cycle:
		if !c.b.on {
			return fmt.Errorf("%s: %w", c.t.Label(), power.ErrRefused)
		}

		c.b.cycles++
		c.b.switchTo(true)
	}

	return nil
}

func (c bmc) SetBoot(ctx context.Context, o power.Boot) error {
	if err := c.ask(ctx); err != nil {
		return err
	}

	c.b.world.judgePower(c.b.id, 0)

	c.b.mu.Lock()
	defer c.b.mu.Unlock()

	c.b.override = o.Device == power.DevicePXE

	return nil
}

// Close takes its time where nobody answers, as package power's does.
func (c bmc) Close() error {
	c.b.mu.Lock()
	silent := c.b.silent
	c.b.mu.Unlock()

	if silent {
		time.Sleep(3 * time.Second)
	}

	return nil
}

// Open implements power.Opener.
func (w *world) Open(_ context.Context, t power.Target) (power.BMC, error) {
	return bmc{b: w.boards[t.UUID], t: t}, nil
}

// Connected implements controllers.Agents.
func (w *world) Connected(id string) bool {
	b := w.boards[id]

	b.mu.Lock()
	defer b.mu.Unlock()

	return b.agent
}

// Conflict implements controllers.Agents.
func (w *world) Conflict(string) (older, newer netip.Addr, found bool) { return older, newer, false }

// PowerManagement implements controllers.Agents.
func (w *world) PowerManagement(_ context.Context, id string) (addr string, port int, userExists bool, err error) {
	if !w.Connected(id) {
		return "", 0, false, errors.New("no agent")
	}

	return "10.0.0.1", 623, false, nil
}

// SetPowerManagement implements controllers.Agents.
func (w *world) SetPowerManagement(_ context.Context, id, username string, password power.Secret) error {
	w.judgeAccess(id)

	b := w.boards[id]

	b.mu.Lock()
	defer b.mu.Unlock()

	b.users[username] = password.Reveal()

	return nil
}

// Wipe implements controllers.Agents.
func (w *world) Wipe(ctx context.Context, id string, _ bool) error {
	b := w.boards[id]

	b.mu.Lock()
	b.wipedAt = time.Now()
	b.mu.Unlock()

	wipeID := w.judgeWipe(id)

	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(40 * time.Second):
	}

	if !w.Connected(id) {
		return errors.New("the agent went away")
	}

	b.mu.Lock()
	defer b.mu.Unlock()

	b.installed = false
	b.wipes = append(b.wipes, wipeID)

	return nil
}

// Drop implements controllers.Agents: a board's agent goes with its power.
func (w *world) Drop(string, time.Time) {}

// Agent and Talos implement controllers.Assets.
func (w *world) Agent(context.Context, string, []string) (boot.Decision, error) {
	return boot.Decision{}, nil
}

func (w *world) Talos(context.Context, string, string, []string, []string) (boot.Decision, error) {
	return boot.Decision{}, nil
}
