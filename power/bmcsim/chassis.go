package bmcsim

import (
	"slices"
	"sync"
	"time"

	"github.com/bmctl/bmctl/power"
)

// ActKind is what an [Act] asked for.
type ActKind string

// The kinds of act. Every one that arrives is logged, also one that changed
// nothing or was refused.
const (
	ActOn        ActKind = "on"
	ActOff       ActKind = "off"
	ActSoft      ActKind = "soft"
	ActCycle     ActKind = "cycle"
	ActReset     ActKind = "reset"
	ActNMI       ActKind = "nmi"
	ActBootSet   ActKind = "boot-set"
	ActBootClear ActKind = "boot-clear"
)

// Act is one request to change something that reached the controller.
type Act struct {
	At       time.Time
	Kind     ActKind
	Protocol power.Protocol
	// System is the id of the Redfish system asked; empty for the machine's own.
	System string
	// Boot is the override that was set, for ActBootSet.
	Boot power.Boot
	// Refused tells that the controller said no.
	Refused bool
}

// chassis is the state that both faces show and switch.
type chassis struct {
	faults      *faults
	bootTimeout time.Duration
	now         func() time.Time

	mu       sync.Mutex
	on       bool
	override override
	setAt    time.Time // when the override was last set over IPMI
	keepBoot bool      // boot option 3: the override outlives its timeout
	acts     []Act
	changes  []powerChange
	lit      bool
	litUntil time.Time

	machine *machineQueue
}

func newChassis(cfg Config, fs *faults) *chassis {
	return &chassis{
		faults:      fs,
		bootTimeout: cfg.BootTimeout,
		now:         time.Now,
		on:          cfg.On,
		override:    override{uefi: true},
		machine:     newMachineQueue(cfg.Machine),
	}
}

func (c *chassis) close() { c.machine.close() }

func (c *chassis) state() power.State {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.on {
		return power.StateOn
	}

	return power.StateOff
}

func (c *chassis) log() []Act {
	c.mu.Lock()
	defer c.mu.Unlock()

	return slices.Clone(c.acts)
}

// note appends to the log an act that concerns another system, or was refused
// before it reached the chassis.
func (c *chassis) note(act Act) {
	c.mu.Lock()
	defer c.mu.Unlock()

	act.At = c.now()
	c.acts = append(c.acts, act)
}

// switchPower carries out a power act and tells whether it was accepted:
// cycle, reset and NMI need a machine that is on.
func (c *chassis) switchPower(kind ActKind, protocol power.Protocol) bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	needsPower := kind == ActCycle || kind == ActReset || kind == ActNMI
	refused := needsPower && !c.on
	c.acts = append(c.acts, Act{At: c.now(), Kind: kind, Protocol: protocol, Refused: refused})

	if refused || c.faults.on(protocol, FaultLyingPower) {
		return !refused
	}

	switch kind {
	case ActOn:
		c.powerOn()
	case ActOff:
		c.powerOff()
	case ActSoft:
		if !c.faults.on(protocol, FaultIgnoreSoft) {
			c.powerOff()
		}
	case ActCycle, ActReset:
		c.powerOff()
		c.powerOn()
	case ActNMI, ActBootSet, ActBootClear: // the power stays as it is
	}

	return true
}

// powerOn switches on and hands the override to the machine; mu is held.
func (c *chassis) powerOn() {
	if c.on {
		return
	}

	c.expireBoot()
	boot := c.override.boot()
	if !c.override.persistent {
		c.override.enabled = false
	}

	c.powerOnWith(boot)
}

// powerOnWith switches on a machine that is off, and has it boot so; mu is held.
func (c *chassis) powerOnWith(boot power.Boot) {
	c.on = true
	c.changes = append(c.changes, powerChange{c.now(), true})
	c.machine.add(func(m Machine) { m.PowerOn(boot) })
}

// powerOff switches off; mu is held.
func (c *chassis) powerOff() {
	if !c.on {
		return
	}

	c.on = false
	c.changes = append(c.changes, powerChange{c.now(), false})
	c.machine.add(Machine.PowerOff)
}

// expireBoot drops an override set over IPMI that no power act followed in
// time; mu is held. IPMI 2.0, table 28-14, parameter 3, bit 3.
func (c *chassis) expireBoot() {
	if !c.keepBoot && !c.setAt.IsZero() && c.now().Sub(c.setAt) > c.bootTimeout {
		c.override.enabled = false
	}
}

func (c *chassis) bootOverride() override {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.override
}

// setBoot changes the override; one set over IPMI may expire.
func (c *chassis) setBoot(o override, protocol power.Protocol) {
	c.mu.Lock()
	defer c.mu.Unlock()

	now := c.now()
	act := Act{At: now, Kind: ActBootClear, Protocol: protocol}

	if boot := o.boot(); boot != (power.Boot{}) {
		act.Kind, act.Boot = ActBootSet, boot
	}

	c.acts = append(c.acts, act)

	if c.faults.on(protocol, FaultLyingBoot) {
		return
	}

	c.override, c.setAt = o, time.Time{}
	if protocol == power.ProtocolIPMI {
		c.setAt = now
	}
}

func (c *chassis) setKeepBoot(keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.keepBoot = keep
}

// override is a boot override as both protocols can tell it: the device is
// IPMI's selector (IPMI 2.0, table 28-14, parameter 5, data 2, bits 5:2).
type override struct {
	enabled    bool
	persistent bool
	uefi       bool
	selector   byte
}

// IPMI boot device selectors.
const (
	selectNone       = 0x0
	selectPXE        = 0x1
	selectDisk       = 0x2
	selectCD         = 0x5
	selectSetup      = 0x6
	selectRemoteDisk = 0x9
	selectUSB        = 0xf
)

// boot is the override in power's terms; what power has no name for is none.
func (o override) boot() power.Boot {
	device := map[byte]power.Device{
		selectPXE: power.DevicePXE, selectDisk: power.DeviceDisk,
		selectRemoteDisk: power.DeviceDisk, selectSetup: power.DeviceSetup,
	}[o.selector]

	if !o.enabled || device == power.DeviceNone {
		return power.Boot{}
	}

	mode := power.ModeBIOS
	if o.uefi {
		mode = power.ModeUEFI
	}

	return power.Boot{Device: device, Mode: mode, Persistent: o.persistent}
}

// machineQueue calls the machine in order, from one goroutine of its own.
type machineQueue struct {
	machine Machine
	wake    chan struct{}
	stop    chan struct{}
	done    chan struct{}

	mu      sync.Mutex
	pending []func(Machine)
}

func newMachineQueue(m Machine) *machineQueue {
	q := &machineQueue{
		machine: m,
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
	}

	go q.run()

	return q
}

func (q *machineQueue) add(call func(Machine)) {
	if q.machine == nil {
		return
	}

	q.mu.Lock()
	q.pending = append(q.pending, call)
	q.mu.Unlock()

	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *machineQueue) run() {
	defer close(q.done)

	for {
		select {
		case <-q.stop:
			return
		case <-q.wake:
			q.drain()
		}
	}
}

func (q *machineQueue) drain() {
	for {
		q.mu.Lock()
		if len(q.pending) == 0 {
			q.mu.Unlock()

			return
		}

		call := q.pending[0]
		q.pending = q.pending[1:]
		q.mu.Unlock()

		select {
		case <-q.stop:
			return
		default:
			call(q.machine)
		}
	}
}

func (q *machineQueue) close() {
	close(q.stop)
	<-q.done
}
