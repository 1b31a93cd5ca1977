package cli

import (
	"context"
	"fmt"
	"iter"
	"slices"
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
	inventoryAct      = 2 * time.Minute
	inventoryForgets  = time.Minute
	changesKept       = 64 // that nobody has asked for; the next are dropped, and seen in the snapshot
)

func newInventory(ctx context.Context, a *app) *tuiInventory {
	ctx, cancel := context.WithCancel(ctx)

	return &tuiInventory{
		a: a, ctx: ctx, cancel: cancel, changes: make(chan tui.Event, changesKept), wanted: map[string]time.Time{}, slots: make(chan struct{}, inventoryParallel),
		readings: map[string]tuiReading{}, targets: map[string]power.Target{},
		dialer: power.NewDialer(power.Options{CheckCertificate: a.checkPin}),
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
	for _, verb := range []tui.Verb{tui.Accept, tui.Reject, tui.Cordon, tui.Uncordon} {
		snapshot.Cannot[verb] = "needs bmctl serve, which tells what the machine is"
	}

	for _, name := range s.a.file.HostNames() {
		host, r := s.a.file.Hosts[name], s.inventory.look(name)
		row := tui.Row{
			ID: s.a.hostID(name), Name: name, Power: r.state.String(), PowerAt: r.at, Labels: host.Labels, LastEvent: r.lastEvent, LastEventAt: r.changed,
			BMC: tui.BMC{Protocol: host.Protocol, Address: host.Address, Latency: r.latency},
		}

		if r.err != nil {
			row.Power, row.BMC.Latency, row.BMC.Error = "unknown", 0, r.err.Error()
		}

		snapshot.Rows = append(snapshot.Rows, row)
	}

	return snapshot
}

// bmcAct is a power verb as the drivers have it: an action or a boot override.
type bmcAct struct {
	action power.Action
	boot   *power.Boot
}

func powerActTable() map[tui.Verb]bmcAct {
	once := func(device power.Device) bmcAct { return bmcAct{boot: &power.Boot{Device: device}} }

	return map[tui.Verb]bmcAct{
		tui.PowerOn: {action: power.On}, tui.PowerOff: {action: power.Off}, tui.PowerSoft: {action: power.Soft},
		tui.PowerCycle: {action: power.Cycle}, tui.PowerReset: {action: power.Reset},
		tui.BootPXE: once(power.DevicePXE), tui.BootDisk: once(power.DeviceDisk), tui.BootBIOS: once(power.DeviceSetup), tui.BootNone: once(power.DeviceNone),
	}
}

func powerAct(verb tui.Verb) (bmcAct, bool) {
	found, ok := powerActTable()[verb]

	return found, ok
}

func powerActs() iter.Seq[tui.Verb] {
	return func(yield func(tui.Verb) bool) {
		for verb := range powerActTable() {
			if !yield(verb) {
				return
			}
		}
	}
}

// hostOfMachine is a machine's host in the inventory; empty: there is none.
type hostOfMachine struct{ id, host string }

// do acts on the hosts side by side.
func (v *tuiInventory) do(ctx context.Context, what bmcAct, machines []hostOfMachine) iter.Seq[tui.Result] {
	return func(yield func(tui.Result) bool) {
		targets, failed := v.targetsOf(ctx, &machines)
		for _, result := range failed {
			if !yield(result) {
				return
			}
		}

		begun := time.Now()

		for r := range power.Each(ctx, v.dialer, inventoryParallel, targets, what.on) {
			result := tui.Result{ID: machines[r.Index].id, Text: r.Value, Err: r.Err}
			if r.Err == nil && what.boot == nil {
				result.Text += fmt.Sprintf(" after %.1fs", time.Since(begun).Seconds())
			}

			go v.read(machines[r.Index].host)

			if !yield(result) {
				return
			}
		}
	}
}

// targetsOf finds the BMCs, and takes out those machines that have none.
func (v *tuiInventory) targetsOf(ctx context.Context, machines *[]hostOfMachine) (targets []power.Target, failed []tui.Result) {
	*machines = slices.DeleteFunc(*machines, func(m hostOfMachine) bool {
		if m.host == "" {
			failed = append(failed, tui.Result{ID: m.id, Err: fmt.Errorf("not in the inventory")})

			return true
		}

		target, err := v.target(ctx, m.host)
		if err != nil {
			failed = append(failed, tui.Result{ID: m.id, Err: err})

			return true
		}

		targets = append(targets, target)

		return false
	})

	return targets, failed
}

// on carries the act out on one BMC and says what came of it.
func (w bmcAct) on(ctx context.Context, bmc power.BMC, _ power.Target) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, inventoryAct)
	defer cancel()

	if w.boot != nil {
		text := "boot override: " + w.boot.Device.String() + ", once"
		if w.boot.Device == power.DeviceNone {
			text = "boot override: none"
		}

		return text, bmc.SetBoot(ctx, *w.boot)
	}

	if err := bmc.Do(ctx, w.action); err != nil {
		return "", err
	}

	state, err := bmc.State(ctx)

	return "power " + w.action.String() + ": " + state.String(), err
}
