package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/tui"
)

// tuiInventory is the power of the inventory's hosts: read in the background while
// somebody looks at it, and switched.
type tuiInventory struct {
	a       *app
	ctx     context.Context //nolint:containedctx // of the background readings
	cancel  context.CancelFunc
	dialer  *power.Dialer
	slots   chan struct{} // one for each host that is read now
	changes chan tui.Event
	polling sync.WaitGroup

	mu       sync.Mutex
	wanted   map[string]time.Time // when somebody last looked at the host
	readings map[string]tuiReading
	targets  map[string]power.Target
}

// tuiReading is the last that is known of a host's power.
type tuiReading struct {
	state     power.State
	at        time.Time // when it was read
	latency   time.Duration
	err       error
	changed   time.Time
	lastEvent string
}

const (
	inventoryParallel = 32
	inventoryInterval = 5 * time.Second
	inventoryTimeout  = 5 * time.Second
	inventoryForgets  = time.Minute
	changesKept       = 64 // that nobody has asked for; the next are dropped, and seen in the snapshot
)

func newInventory(ctx context.Context, a *app) *tuiInventory {
	ctx, cancel := context.WithCancel(ctx)

	return &tuiInventory{
		a: a, ctx: ctx, cancel: cancel, changes: make(chan tui.Event, changesKept), wanted: map[string]time.Time{}, slots: make(chan struct{}, inventoryParallel),
		readings: map[string]tuiReading{}, targets: map[string]power.Target{},
		dialer: a.dialer(),
	}
}

func (v *tuiInventory) close() {
	v.cancel()
	v.polling.Wait()
}

// look returns what is known of the host's power, and has it read in the
// background for as long as somebody looks: each host on its own, so that a
// silent one delays no other.
func (v *tuiInventory) look(name string) tuiReading {
	v.mu.Lock()
	defer v.mu.Unlock()

	if _, polled := v.wanted[name]; !polled && v.ctx.Err() == nil {
		v.polling.Go(func() { v.poll(name) })
	}

	v.wanted[name] = time.Now()

	return v.readings[name]
}

// poll reads the host once per interval until nobody has looked for a while.
func (v *tuiInventory) poll(name string) {
	for v.stillWanted(name) {
		select {
		case v.slots <- struct{}{}:
		case <-v.ctx.Done():
			return
		}

		v.read(name)
		<-v.slots

		select {
		case <-time.After(inventoryInterval):
		case <-v.ctx.Done():
			return
		}
	}
}

func (v *tuiInventory) stillWanted(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()

	if time.Since(v.wanted[name]) < inventoryForgets {
		return true
	}

	delete(v.wanted, name)

	return false
}

// read asks one host for its power and tells of a change.
func (v *tuiInventory) read(name string) {
	ctx, cancel := context.WithTimeout(v.ctx, inventoryTimeout)
	defer cancel()

	begun := time.Now()
	state, err := v.state(ctx, name)

	if v.ctx.Err() != nil {
		return
	}

	v.mu.Lock()
	old, known := v.readings[name]
	fresh := old
	fresh.err = err

	if err == nil {
		fresh.state, fresh.at, fresh.latency = state, time.Now(), time.Since(begun)
	}

	changed := !known || old.state != fresh.state || (old.err == nil) != (err == nil)
	if changed {
		fresh.changed, fresh.lastEvent = time.Now(), "power is "+fresh.state.String()
		if err != nil {
			fresh.lastEvent = "bmc: " + err.Error()
		}
	}

	v.readings[name] = fresh
	v.mu.Unlock()

	if changed {
		v.tell(tui.Event{At: fresh.changed, MachineID: v.a.hostID(name), Type: "reading", Text: fresh.lastEvent})
	}
}

// switched tells of an act on a host, if there was one, and reads the host anew.
func (v *tuiInventory) switched(name, id string, event tui.Event) {
	if event.MachineID = id; event.Type != "" {
		v.tell(event)
	}

	v.polling.Go(func() { v.read(name) })
}

func (v *tuiInventory) tell(event tui.Event) {
	select {
	case v.changes <- event:
	default:
	}
}

func (v *tuiInventory) state(ctx context.Context, name string) (power.State, error) {
	target, err := v.target(ctx, name)
	if err != nil {
		return power.StateUnknown, err
	}

	for r := range power.Each(ctx, v.dialer, 1, []power.Target{target}, func(ctx context.Context, bmc power.BMC, _ power.Target) (power.State, error) {
		return bmc.State(ctx)
	}) {
		return r.Value, r.Err
	}

	return power.StateUnknown, nil
}

// target is the host's BMC with its login, which is looked up once.
func (v *tuiInventory) target(ctx context.Context, name string) (power.Target, error) {
	v.mu.Lock()
	target, known := v.targets[name]
	v.mu.Unlock()

	if known {
		return target, nil
	}

	target, err := v.a.inventoryTarget(ctx, name)
	if err != nil {
		return target, err
	}

	v.mu.Lock()
	defer v.mu.Unlock()

	v.targets[name] = target

	return target, nil
}

// inventoryTarget is the BMC of a host with the login that the environment or the
// configuration names for it. Nobody is asked.
func (a *app) inventoryTarget(ctx context.Context, name string) (power.Target, error) {
	host, known := a.file.Hosts[name]
	if !known {
		return power.Target{}, fmt.Errorf("%s is not in the inventory", name)
	}

	bmc := resolver{file: a.file}.ofHost(name, host, 0)
	login := logins{a: a, found: map[string]power.Secret{}}

	if err := login.fill(ctx, &bmc); err != nil {
		return power.Target{}, err
	}

	if bmc.Password.IsZero() {
		return power.Target{}, fmt.Errorf("no password for %s: give it in $%s, or in the host's credentials", bmc.Username, bmcPasswordEnv)
	}

	return bmc.Target, nil
}

// hostID is the machine's id, or its name where the inventory has none.
func (a *app) hostID(name string) string {
	if id := a.file.Hosts[name].ID; id != "" {
		return id
	}

	return name
}

// inventorySnapshot is what is known without serve.
func (s *tuiSource) inventorySnapshot(notice string) tui.Snapshot {
	snapshot := tui.Snapshot{Health: tui.Health{Source: sourceInventory, Notice: notice}, Cannot: s.cannot()}
	for _, verb := range omniVerbs() {
		snapshot.Cannot[verb] = "needs bmctl serve, which tells what the machine is"
	}

	refusals := s.refusals()

	for _, name := range s.a.file.HostNames() {
		host, r := s.a.file.Hosts[name], s.inventory.look(name)
		row := tui.Row{
			ID: s.a.hostID(name), Name: name, Power: r.state.String(), PowerAt: r.at, Labels: host.Labels, LastEvent: r.lastEvent, LastEventAt: r.changed,
			BMC: tui.BMC{Protocol: host.Protocol, Address: host.Address, Latency: r.latency}, Cannot: refusals(name, ""),
		}

		if r.err != nil {
			row.Power, row.BMC.Latency, row.BMC.Error = "unknown", 0, r.err.Error()
			if !r.at.IsZero() {
				row.LastPower = r.state.String()
			}
		}

		snapshot.Rows = append(snapshot.Rows, row)
	}

	return snapshot
}
