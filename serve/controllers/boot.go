package controllers

import (
	"cmp"
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/policy"
)

// Assets turns a wanted Talos into what iPXE can load. The returned decision has
// Kernel, Initrd and Args set, or Chain. It may ask the Image Factory, within
// ctx, and answers from memory what it has asked before.
type Assets interface {
	// Agent is Talos in agent mode, with extra kernel arguments.
	Agent(ctx context.Context, arch string, args []string) (boot.Decision, error)
	// Talos is the given version with extensions and extra kernel arguments.
	Talos(ctx context.Context, arch, version string, extensions, args []string) (boot.Decision, error)
}

// Decide implements boot.Decider from what is known, without asking Omni.
func (c *Controller) Decide(ctx context.Context, asker boot.Machine) (boot.Decision, error) {
	m := c.known.Machine(asker.UUID)
	c.noteAsked(m, asker)

	plan := policy.PlanFor(c.facts(m))

	decision, err := c.decision(ctx, m, asker, plan)
	if err != nil {
		return boot.Decision{}, err
	}

	decision.Reason = plan.BootReason

	return decision, nil
}

func (c *Controller) decision(ctx context.Context, m Machine, asker boot.Machine, plan policy.Plan) (boot.Decision, error) {
	var (
		extra      []string
		version    string
		extensions []string
	)

	if m.Infra != nil {
		spec := m.Infra.TypedSpec().Value
		extra, version, extensions = strings.Fields(spec.ExtraKernelArgs), spec.ClusterTalosVersion, spec.Extensions
	}

	switch plan.Boot {
	case policy.BootDisk:
		return boot.Decision{Kind: boot.Disk, Method: c.cfg.DiskMethod(asker)}, nil
	case policy.BootAgent:
		d, err := c.cfg.Assets.Agent(ctx, asker.Arch, extra)
		d.Kind = boot.Agent

		return d, err
	case policy.BootTalos:
		d, err := c.cfg.Assets.Talos(ctx, asker.Arch, version, extensions, extra)
		d.Kind = boot.Talos

		return d, err
	default:
		return boot.Decision{Kind: boot.Wait}, nil
	}
}

// recentMachines bounds what is remembered of machines that Omni does not know.
const recentMachines = 4096

// noteAsked remembers that a machine asked for its boot script, and holds it when
// its board is another than the one first seen under its id.
func (c *Controller) noteAsked(m Machine, asker boot.Machine) {
	c.mu.Lock()

	b := c.recent[asker.UUID]
	if l := c.lives[asker.UUID]; l != nil {
		b = l.boot
	}

	if b.firstSeen.IsZero() {
		b.firstSeen = time.Now()
	}

	if b.serial == "" {
		b.serial = asker.Serial
	}

	b.vendor, b.model = cmp.Or(asker.Manufacturer, b.vendor), cmp.Or(asker.Product, b.model)
	b.asked, b.mac, b.addr = true, asker.MAC, asker.Addr.Unmap().String()
	b.stage, b.stageAt = string(boot.EventScript), time.Now()

	if m.Infra == nil {
		if len(c.recent) >= recentMachines {
			clear(c.recent) // these are strangers; the lively ones ask again
		}

		c.recent[asker.UUID] = b
		c.mu.Unlock()

		return
	}

	l := c.live(m.ID)
	l.boot, l.serial = b, asker.Serial
	if asker.MAC != "" {
		c.byMAC[asker.MAC] = m.ID
	}
	delete(c.recent, m.ID)
	c.mu.Unlock()

	c.checkBoard(m.ID, b, asker.Serial)
	c.Enqueue(m.ID)
}

// keepAsked keeps what a machine told when it asked for its script before Omni knew
// it: its agent calls again after a restart of ours, from the same address.
func (c *Controller) keepAsked(id string) {
	if c.store.machine(id).Address != "" {
		return
	}

	c.mu.Lock()
	b := c.live(id).boot
	c.mu.Unlock()

	if b.asked {
		c.checkBoard(id, b, b.serial)
	}
}

// checkBoard compares the serial number of a boot request with the one first
// seen for the id, over restarts: cheap boards share ids, and a wipe could hit
// the wrong machine.
func (c *Controller) checkBoard(id string, b bootState, serial string) {
	before := c.store.machine(id).Distrust

	distrust, err := c.store.seen(id, b, serial)
	if err != nil {
		c.log.Warn("state is not kept over a restart", "error", err)
	}

	if distrust != before {
		c.log.Warn("machine held", "machine_id", id, "reason", distrust)
		c.observe(id, "held", "held", distrust)
	}
}

// SawBoot notes a step of a machine's boot and returns the machine's id, if that
// is known, and the number of the boot, 0 where it is none of a machine's: until it
// asks for its script a machine is told by its MAC, or by the UUID of its DHCP packet
// if that is a known one.
func (c *Controller) SawBoot(e boot.Event) (id string, number int) {
	c.mu.Lock()
	defer c.mu.Unlock()

	id = c.whoBoots(e)

	if e.Type == boot.EventIgnored || e.Type == boot.EventAsset || e.Type == boot.EventRival {
		return id, 0
	}

	if b, stranger := c.recent[id]; stranger {
		number = b.attempt.step(e)
		c.recent[id] = b

		return id, number
	}

	l := c.lives[id]
	if l == nil {
		return id, 0
	}

	l.boot.stage, l.boot.stageAt = string(e.Type), e.Time
	l.lastText, l.lastAt = strings.TrimSpace(string(e.Type)+" "+e.File), e.Time

	return id, l.boot.attempt.step(e)
}

// whoBoots is the id of the machine of a step. The caller holds the lock.
func (c *Controller) whoBoots(e boot.Event) string {
	if e.Firmware == "" && e.UUID != "" {
		return e.UUID
	}

	_, stranger := c.recent[e.UUID]
	if stranger || c.lives[e.UUID] != nil {
		return e.UUID
	}

	return c.byMAC[e.MAC]
}

// AskedFrom tells whether the machine ever asked for its boot script from the
// address: an agent that calls from elsewhere may be another's.
func (c *Controller) AskedFrom(id string, addr netip.Addr) bool {
	if c.store.machine(id).Address == addr.Unmap().String() {
		return true
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	b := c.recent[id]
	if l := c.lives[id]; l != nil {
		b = l.boot
	}

	return b.addr == addr.Unmap().String()
}
