package controllers

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"k8s.io/client-go/util/workqueue"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/policy"
	"github.com/bmctl/bmctl/serve/resources"
)

// Agents are the metal agents that are connected, by machine id. *agent.Hub
// implements it; its docs say what the methods promise.
type Agents interface {
	Connected(id string) bool
	Conflict(id string) (older, newer netip.Addr, found bool)
	PowerManagement(ctx context.Context, id string) (addr string, port int, userExists bool, err error)
	SetPowerManagement(ctx context.Context, id, username string, password power.Secret) error
	Wipe(ctx context.Context, id string, zeroes bool) error
	Drop(id string, before time.Time)
}

// Config is what a Controller needs. All fields are required but Observe and PowerRead.
type Config struct {
	ProviderID string
	State      state.State
	Power      power.Opener
	Agents     Agents
	Log        *slog.Logger
	// Observe gets every event; it must return at once.
	Observe func(localapi.Event)
	// PowerRead, unless nil, is told how long each reading of a machine's power took,
	// and, as one of power's kinds, why it failed. It is called from many goroutines
	// and must return at once.
	PowerRead func(took time.Duration, err error)

	MinRebootInterval time.Duration
	MaxDisruptions    int
	MaxStaleness      time.Duration
	PollInterval      time.Duration
	PollConcurrency   int
	PollTimeout       time.Duration
	// PXEMode is the firmware mode of the PXE override.
	PXEMode        power.Mode
	WipeWithZeroes bool
	RedfishPort    int
	// QEMUDir is where `talosctl cluster create` keeps its machines, whose power is
	// switched over HTTP; empty: machines have BMCs.
	QEMUDir string
	// Labels are put on every infra.MachineStatus.
	Labels map[string]string
	// DiskMethod of a machine that boots its disk.
	DiskMethod func(boot.Machine) boot.DiskMethod
	// Assets turns a wanted Talos into URLs.
	Assets Assets
	// StateDir keeps what a restart needs: who we are and the snapshot.
	StateDir string
	// Takeover acts although another serve, or another provider, seems alive.
	Takeover bool
	// Host names this machine to people who read the lease.
	Host string
	// Name is how people call a machine; nil: the first block of its id.
	Name func(id, bmcAddress string) string
}

// agentGrace is how long an agent's absence must last to be believed: agents
// need a moment to call again after a restart of ours or a lost connection.
const agentGrace = 30 * time.Second

// Controller reconciles all machines.
type Controller struct {
	cfg   Config
	log   *slog.Logger
	known *Knowledge
	queue workqueue.TypedRateLimitingInterface[string]
	lease *lease
	store *store

	mu     sync.Mutex
	lives  map[string]*live
	recent map[string]bootState // of machines that Omni does not know (yet)
	byMAC  map[string]string    // ids of those that it does
	budget budget
	seeded sync.Once // the budget

	ctx       context.Context // of Run: acts end with it
	acts      sync.WaitGroup
	latePolls atomic.Uint64
}

// New returns a controller that does nothing until Run, but whose knowledge and
// decisions can be asked already.
func New(cfg Config) (*Controller, error) {
	if cfg.PowerRead == nil {
		cfg.PowerRead = func(time.Duration, error) {}
	}

	c := &Controller{
		cfg:   cfg,
		log:   cfg.Log,
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]()),
		lives: map[string]*live{},

		recent: map[string]bootState{},
		byMAC:  map[string]string{},
	}

	c.known = NewKnowledge(cfg.ProviderID, cfg.Log, c.Enqueue)

	var err error
	if c.store, err = openStore(cfg.StateDir); err != nil {
		return nil, err
	}

	c.lease = newLease(c)

	return c, nil
}

// Knowledge returns what is known of Omni.
func (c *Controller) Knowledge() *Knowledge { return c.known }

// Enqueue asks for a machine to be looked at soon.
func (c *Controller) Enqueue(id string) { c.queue.Add(id) }

// Run watches Omni and keeps the machines until ctx ends; then it lets running
// acts end (their context ends too) and returns.
func (c *Controller) Run(ctx context.Context) {
	const workers = 16

	c.ctx = ctx

	var wg sync.WaitGroup

	wg.Go(func() { c.known.Run(ctx, c.cfg.State) })
	wg.Go(func() { c.lease.run(ctx) })
	wg.Go(func() { c.pollAll(ctx) })
	wg.Go(func() { c.store.run(ctx, c.log) })

	for range workers {
		wg.Go(func() { c.work(ctx) })
	}

	<-ctx.Done()
	c.queue.ShutDown()
	wg.Wait()
	c.acts.Wait()
	c.closeBMCs()
}

func (c *Controller) work(ctx context.Context) {
	for {
		id, stop := c.queue.Get()
		if stop {
			return
		}

		c.reconcile(ctx, id)
		c.queue.Done(id)
	}
}

// reconcile looks at one machine: it reports, and starts the act that policy
// wants. It waits for Omni, but never for a BMC or an agent.
func (c *Controller) reconcile(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	err := c.look(ctx, id)

	switch {
	case err == nil:
		c.queue.Forget(id)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
	default:
		c.log.Warn("machine not reconciled; trying again", "machine_id", id, "error", err)
		c.queue.AddRateLimited(id)
	}
}

func (c *Controller) look(ctx context.Context, id string) error {
	m := c.known.Machine(id)

	if m.Infra == nil {
		return c.forget(ctx, m)
	}

	if c.known.Complete() {
		c.store.note(id, m.facts().Installed())
	}
	c.keepAsked(id)

	if !c.mayWrite() || c.released(m) {
		return nil
	}

	c.seeded.Do(c.seedBudget)
	c.noteFuture(m)

	for _, step := range []func(context.Context, Machine) error{c.hold, c.recordWipe, c.settleReboot} {
		if err := step(ctx, m); err != nil {
			return err
		}
	}

	// The steps asked Omni, and what was written is to be planned with. In the
	// meantime the machine may have gone; that is looked at by itself.
	if m = c.known.Machine(id); m.Infra == nil {
		return nil
	}

	facts := c.facts(m)
	plan := policy.PlanFor(facts)

	if plan.Act != policy.ActRelease && plan.Act != policy.ActReleaseReset {
		if err := c.report(ctx, m, facts); err != nil {
			return err
		}
	}

	return c.start(ctx, m, facts, plan)
}

// seedBudget has the budget begin with the disruptions of our last run.
func (c *Controller) seedBudget() {
	var machines []Machine
	for _, id := range c.known.IDs() {
		machines = append(machines, c.known.Machine(id))
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	c.budget.seed(machines)
}

// mayWrite tells whether we may write to Omni: we hold the lease and know the
// whole, recent state.
func (c *Controller) mayWrite() bool {
	return c.known.Complete() && c.known.Age() < c.cfg.MaxStaleness && c.lease.idle() == ""
}

// live returns the machine's live state; c.mu must be held. For a machine that
// Omni does not know it is made up each time: whoever asks for boot scripts under
// random ids must not fill our memory.
func (c *Controller) live(id string) *live {
	l := c.lives[id]
	if l == nil {
		l = &live{agentGoneAt: time.Now(), boot: c.recent[id]}

		if c.known.Machine(id).Infra != nil {
			c.lives[id] = l
		}
	}

	return l
}

// facts gathers everything that policy asks about a machine.
func (c *Controller) facts(m Machine) policy.Facts {
	connected := c.cfg.Agents.Connected(m.ID)
	older, newer, conflict := c.cfg.Agents.Conflict(m.ID)
	idle := c.lease.idle()
	kept := c.store.machine(m.ID)

	f := m.facts()
	f.Complete = c.known.Complete()
	f.Stale = f.Complete && c.known.Age() >= c.cfg.MaxStaleness
	f.Idle = idle
	f.Placeholder = boot.Placeholder(m.ID)
	f.SnapshotInstalled = kept.Installed
	f.AgentConnected = connected

	c.mu.Lock()
	defer c.mu.Unlock()

	l := c.live(m.ID)
	l.agentSeen(connected)

	f.Power = l.powerOf(m)
	f.Wiping = l.job == policy.ActWipe || l.wiped != nil
	f.IntervalElapsed = elapsed(m.lastStart(), c.cfg.MinRebootInterval)
	f.AgentSettled = connected || elapsed(l.agentGoneAt, min(agentGrace, c.cfg.MinRebootInterval))
	f.BudgetLeft = c.budget.left(c.cfg.MaxDisruptions)

	switch {
	case conflict:
		f.Distrust = "agents at " + older.String() + " and " + newer.String() + " both answer for it"
	case kept.Distrust != "":
		f.Distrust = kept.Distrust
	case l.distrustBMC != "":
		f.Distrust = l.distrustBMC
	}

	return f
}

// agentSeen notes whether the agent is connected.
func (l *live) agentSeen(connected bool) {
	switch {
	case connected && !l.agentGoneAt.IsZero():
		l.agentGoneAt, l.agentSince = time.Time{}, time.Now()
		l.lastText, l.lastAt = "agent connected", time.Now()
	case !connected && l.agentGoneAt.IsZero():
		l.agentGoneAt, l.agentSince = time.Now(), time.Time{}
		l.lastText, l.lastAt = "agent gone", time.Now()
	}
}

// observe publishes an event of a machine.
func (c *Controller) observe(id, kind, text, reason string) {
	c.mu.Lock()
	l := c.live(id)
	l.lastText, l.lastAt = text, time.Now()
	c.mu.Unlock()

	c.tell(localapi.Event{At: time.Now(), MachineID: id, Type: kind, Text: text, Reason: reason})
}

// tell publishes an event.
func (c *Controller) tell(e localapi.Event) {
	if c.cfg.Observe != nil {
		c.cfg.Observe(e)
	}
}

// modify writes one of our resources under its classic owner and notes it.
func modify[T any, R interface {
	*T
	resource.Resource
}](ctx context.Context, c *Controller, empty R, owner string, change func(R)) error {
	written, err := c.cfg.State.ModifyWithResult(ctx, empty, func(r resource.Resource) error {
		change(r.(R)) //nolint:forcetypeassert // the state returns the type that was asked for

		return nil
	}, state.WithUpdateOwner(resources.Owner(c.cfg.ProviderID, owner)))
	if err != nil {
		return err
	}

	c.known.Touch()
	c.known.Put(written, true)

	return nil
}
