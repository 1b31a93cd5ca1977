package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/bmctl/bmctl/boot/pxeclient"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/lab/agentsim"
)

// Machine is a simulated machine: firmware, a disk, a NIC, and what runs on it.
// It implements bmcsim.Machine; its BMC switches it on and off.
type Machine struct {
	Name   string
	UUID   string
	MAC    string
	Serial string
	// Redfish tells which face its BMC has; the other is IPMI.
	Redfish bool
	BMC     *bmcsim.BMC

	lab   *Lab
	local netip.Addr // its own address
	log   *slog.Logger

	mu        sync.Mutex
	cancel    context.CancelFunc // ends what runs; nil: off
	done      chan struct{}
	installed bool // Talos is on its disk
	wipes     []time.Time
	asked     []time.Time        // for a wipe
	setUps    []time.Time        // of a BMC user
	flap      context.CancelFunc // ends the agent that runs; nil: none does
}

// machineName is the i-th machine's, counting from 1.
func machineName(i int) string { return fmt.Sprintf("r1n%02d", i) }

// newMachine makes the i-th machine of a lab, counting from 1.
func newMachine(l *Lab, i int, rnd *rand.Rand) (*Machine, error) {
	id, err := uuid.NewRandomFromReader(randReader{rnd})
	if err != nil {
		return nil, err
	}

	m := &Machine{
		Name:    machineName(i),
		UUID:    id.String(),
		MAC:     fmt.Sprintf("02:77:00:%02x:%02x:%02x", rnd.IntN(256), i>>8, i&255),
		Serial:  fmt.Sprintf("LAB%06d", i),
		Redfish: i <= l.cfg.Redfish,
		lab:     l,
		local:   l.address(78, i),
		log:     l.log.With("machine", machineName(i)),
	}

	cfg := bmcsim.Config{
		UUID: m.UUID, Vendor: "Lab", Model: "Pizza Box", Serial: m.Serial,
		Users:    map[string]string{bmcUser: l.bmcPassword.Reveal()},
		ListenIP: l.address(77, i), IPMIPort: bmcsim.PortOff, RedfishPort: bmcsim.PortOff,
		Machine: m, Log: m.log,
	}

	if m.Redfish {
		cfg.RedfishPort = l.redfishPort
	} else {
		cfg.IPMIPort = l.ipmiPort
	}

	m.BMC, err = bmcsim.Start(cfg)

	return m, err
}

// address is the i-th loopback address of a block: 127.77.x.y are the BMCs',
// 127.78.x.y the machines'.
func (l *Lab) address(block byte, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, block, byte(4*l.cfg.Subnet + i>>8), byte(i)}) //nolint:gosec // see Config.validate
}

type randReader struct{ *rand.Rand }

// Read implements io.Reader with the seeded generator: the lab's ids are meant
// to be the same for the same seed.
func (r randReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.IntN(256)) //nolint:gosec // not a secret
	}

	return len(p), nil
}

// PowerOn implements bmcsim.Machine: the firmware starts.
func (m *Machine) PowerOn(b power.Boot) {
	ctx, cancel := context.WithCancel(m.lab.ctx)
	done := make(chan struct{})

	m.mu.Lock()
	m.cancel, m.done = cancel, done
	m.mu.Unlock()

	go func() {
		defer close(done)
		defer cancel()

		if err := m.firmware(ctx, b); err != nil && ctx.Err() == nil {
			m.log.Warn("stands still", "error", err)
		}
	}()
}

// PowerOff implements bmcsim.Machine: whatever runs is gone.
func (m *Machine) PowerOff() {
	m.mu.Lock()
	cancel, done := m.cancel, m.done
	m.cancel, m.flap = nil, nil
	m.mu.Unlock()

	if cancel != nil {
		cancel()
		<-done
	}
}

// firmware runs one boot after the other: by the override, else disk first, then
// network, as the guide recommends.
func (m *Machine) firmware(ctx context.Context, b power.Boot) error {
	for ctx.Err() == nil {
		if err := pause(ctx, m.lab.cfg.POST); err != nil {
			return err
		}

		if b.Device != power.DevicePXE && m.isInstalled() {
			return m.runDisk(ctx)
		}

		if err := m.bootNetwork(ctx); !errors.Is(err, errBootAgain) {
			return err
		}

		b = power.Boot{}
	}

	return ctx.Err()
}

// errBootAgain: the machine restarts by itself.
var errBootAgain = errors.New("boot again")

func (m *Machine) isInstalled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.installed
}

// bootNetwork is a PXE boot, and then what was loaded by it.
func (m *Machine) bootNetwork(ctx context.Context) error {
	serve, err := m.lab.waitServe(ctx)
	if err != nil {
		return err
	}

	client := &pxeclient.Client{
		DHCP: serve.DHCP, ProxyDHCP: serve.ProxyDHCP, TFTPPort: int(serve.TFTP.Port()),
		Local: m.local, Firmware: pxeclient.UEFI, Arch: "amd64",
		MAC: m.MAC, UUID: m.UUID, Serial: m.Serial, Manufacturer: "Lab", Product: "Pizza Box", Hostname: m.Name,
		SleepScale: m.lab.cfg.SleepScale, Log: m.log,
	}

	result, err := client.Boot(ctx)
	if err != nil {
		if pause(ctx, time.Second) != nil {
			return ctx.Err()
		}

		m.log.Warn("network boot failed; the firmware tries again", "error", err)

		return errBootAgain
	}

	switch result.Outcome {
	case pxeclient.OutcomeKernel:
		return m.runKernel(ctx, result.Cmdline)
	case pxeclient.OutcomeDisk:
		if m.isInstalled() {
			return m.runDisk(ctx)
		}

		return errors.New("no bootable disk")
	default:
		return errBootAgain
	}
}

// runKernel is Talos as it was loaded over the network: agent mode where its
// arguments name a provider, else a machine for a cluster.
func (m *Machine) runKernel(ctx context.Context, cmdline string) error {
	args := agentsim.ParseArgs(strings.ReplaceAll(cmdline, "${uuid}", m.UUID))

	if args.ProviderAddress != "" {
		return m.runAgent(ctx, args)
	}

	if err := m.talos(args).Join(ctx); err != nil {
		return err
	}

	// Omni configures the machine, and Talos installs itself and goes on from the disk.
	if err := pause(ctx, m.lab.cfg.Install); err != nil {
		return err
	}

	m.mu.Lock()
	m.installed = true
	m.mu.Unlock()

	return m.runInstalled(ctx)
}

// runAgent is agent mode: one agent after the other, as Flap ends them.
func (m *Machine) runAgent(ctx context.Context, args agentsim.Args) error {
	for {
		one, cancel := context.WithCancel(ctx)

		m.mu.Lock()
		m.flap = cancel
		m.mu.Unlock()

		err := m.talos(args).Run(one)

		cancel()

		if ctx.Err() != nil || one.Err() == nil {
			return err
		}
	}
}

// Flap breaks the connections of the machine's agent, which calls again at once,
// as over a network that is bad. Where no agent runs it does nothing.
func (m *Machine) Flap() {
	m.mu.Lock()
	flap := m.flap
	m.mu.Unlock()

	if flap != nil {
		flap()
	}
}

// AgentMode tells whether an agent runs on the machine.
func (m *Machine) AgentMode() bool {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.flap != nil
}

func (m *Machine) runDisk(ctx context.Context) error {
	m.mu.Lock()
	args := agentsim.Args{ConfigURL: m.lab.configURL(m.UUID)}
	m.mu.Unlock()

	if err := m.talos(args).Join(ctx); err != nil {
		return err
	}

	return m.runInstalled(ctx)
}

// runInstalled is Talos from the disk: it tells Omni so, as soon as Omni is there
// and knows the machine, and runs.
func (m *Machine) runInstalled(ctx context.Context) error {
	for m.lab.Omni().InstallEvent(m.UUID) != nil {
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}

	<-ctx.Done()

	return ctx.Err()
}

func (m *Machine) talos(args agentsim.Args) *agentsim.Agent {
	return &agentsim.Agent{
		MachineID: m.UUID, Args: args, Hardware: hardware{m}, LocalAddr: m.local,
		RejoinEvery: m.lab.cfg.Rejoin, Log: m.log,
	}
}

// Wipes are the times at which the machine's disks were wiped.
func (m *Machine) Wipes() []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()

	return slices.Clone(m.wipes)
}

// WipesAsked are the times at which its agent was told to wipe.
func (m *Machine) WipesAsked() []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()

	return slices.Clone(m.asked)
}

// SetUps are the times at which its agent was told to make a user of the BMC.
func (m *Machine) SetUps() []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()

	return slices.Clone(m.setUps)
}

// Installed tells whether Talos is on the machine's disk.
func (m *Machine) Installed() bool { return m.isInstalled() }

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
