// Package lab is a whole datacentre on loopback: a stand-in for Omni and the
// Image Factory, machines with BMCs that boot over the network, and one real
// serve, as a child process of the same binary. Nothing in it is real, but every
// protocol is.
package lab

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/omnisim"
)

// Config says what lab to build. Zero values mean the defaults named here.
type Config struct {
	// Machines is their number, 3; at most 10,000. The first Redfish of them, 1,
	// have a Redfish BMC, the others IPMI; a negative number is none.
	Machines, Redfish int
	// Subnet keeps the addresses of labs that run at once apart: the BMCs of lab n
	// are at 127.77.4n.1 and on; 0 to 63. More than 1,000 machines reach into the
	// subnets that follow.
	Subnet int
	// Seed makes the machines' ids; the same seed gives the same ids.
	Seed uint64
	// Faults maps machine names to faults of their BMCs (see bmcsim.KnownFaults).
	Faults map[string]string
	// AutoAccept accepts each machine as soon as it waits for it.
	AutoAccept bool
	// Off leaves the machines off at start; else they boot from the network.
	Off bool
	// Settled machines were accepted, wiped and switched off long before serve
	// starts; it implies Off.
	Settled bool
	// Speed divides the times that the machines take; 1.
	Speed float64
	// Dir holds everything; it must be empty or not there.
	Dir string
	// Exe is the bmctl binary whose serve is run, Environ the environment that the
	// lab's own variables are added to.
	Exe     string
	Environ []string
	// MinRebootInterval of serve, 2 s.
	MinRebootInterval time.Duration
	// ServeFlags are further flags for serve.
	ServeFlags []string
	// Log gets what the lab does; serve's own log goes to serve.log in Dir.
	Log *slog.Logger

	// POST, Wipe and Install are how long those take a machine: 300 ms, 800 ms and
	// 1 s; Rejoin is how often Talos on it joins again: 5 s. SleepScale shortens
	// the pauses of boot scripts: 0.05.
	POST, Wipe, Install, Rejoin time.Duration
	SleepScale                  float64
}

func (c Config) withDefaults() Config {
	c.Machines = cmp.Or(c.Machines, 3)
	c.Redfish = cmp.Or(c.Redfish, 1)
	c.Speed = cmp.Or(c.Speed, 1)
	c.MinRebootInterval = cmp.Or(c.MinRebootInterval, 2*time.Second)
	c.POST = c.scaled(cmp.Or(c.POST, 300*time.Millisecond))
	c.Wipe = c.scaled(cmp.Or(c.Wipe, 800*time.Millisecond))
	c.Install = c.scaled(cmp.Or(c.Install, time.Second))
	c.Rejoin = cmp.Or(c.Rejoin, 5*time.Second)
	c.SleepScale = cmp.Or(c.SleepScale, 0.05)

	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}

	return c
}

func (c Config) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) / c.Speed) }

// bmcUser is the administrator of every BMC of the lab; the inventory logs in as
// him. The provider makes a user of its own.
const bmcUser = "admin"

// Lab is a running lab. Its methods are safe for concurrent use.
type Lab struct {
	cfg    Config
	log    *slog.Logger
	ctx    context.Context // of the machines
	cancel context.CancelFunc
	wg     sync.WaitGroup

	factory     *imageFactory
	machines    []*Machine
	bmcPassword power.Secret
	ipmiPort    int
	redfishPort int

	mu    sync.Mutex
	omni  *omnisim.Server
	serve *process
	ports servePorts // of the first serve: a restarted one gets the same
}

// Start builds the lab and returns when serve has bound its ports. Close it.
func Start(ctx context.Context, cfg Config) (*Lab, error) {
	cfg = cfg.withDefaults()

	if err := cfg.validate(); err != nil {
		return nil, err
	}

	l := &Lab{cfg: cfg, log: cfg.Log, bmcPassword: power.NewSecret(rand.Text()[:16])}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))

	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}

	return l, nil
}

func (c Config) validate() error {
	if c.Machines < 1 || c.Machines > 10_000 {
		return fmt.Errorf("%d machines: want 1 to 10000", c.Machines)
	}

	if c.Subnet < 0 || 4*c.Subnet+c.Machines>>8 > 255 {
		return fmt.Errorf("subnet %d: want 0 to %d for %d machines", c.Subnet, (255-c.Machines>>8)/4, c.Machines)
	}

	known := bmcsim.KnownFaults()

	for name, fault := range c.Faults {
		var i int
		if n, err := fmt.Sscanf(name, "r1n%d", &i); n != 1 || err != nil || i < 1 || i > c.Machines || name != machineName(i) {
			return fmt.Errorf("fault of %q: the machines are %s to %s", name, machineName(1), machineName(c.Machines))
		}

		if !slices.Contains(known, fault) {
			return fmt.Errorf("fault %q of %s: want one of %s", fault, name, strings.Join(known, ", "))
		}
	}

	return nil
}

func (l *Lab) build(ctx context.Context) (err error) {
	if err = os.MkdirAll(l.cfg.Dir, 0o700); err != nil {
		return err
	}

	if err = l.StartOmni(); err != nil {
		return err
	}

	if l.factory, err = startFactory(l.log); err != nil {
		return err
	}

	if err = l.buildMachines(); err != nil {
		return err
	}

	if err = l.writeFiles(); err != nil {
		return err
	}

	if l.cfg.Settled {
		if err = l.settle(); err != nil {
			return err
		}
	}

	if err = l.StartServe(ctx); err != nil {
		return err
	}

	if l.cfg.AutoAccept {
		l.wg.Go(l.acceptAll)
	}

	if !l.cfg.Off && !l.cfg.Settled {
		l.PowerOnAll()
	}

	return nil
}

func (l *Lab) buildMachines() error {
	rnd := mrand.New(mrand.NewPCG(l.cfg.Seed, 0)) //nolint:gosec // ids that are the same for the same seed

	for i := 1; i <= l.cfg.Machines; i++ {
		m, err := newMachine(l, i, rnd)
		if err != nil {
			return fmt.Errorf("machine %d: %w", i, err)
		}

		l.machines = append(l.machines, m)

		// The first of its kind picks a free port, which is free at all the others'
		// addresses as well: nobody else lives there.
		l.redfishPort = cmp.Or(l.redfishPort, max(0, m.BMC.RedfishPort()))
		l.ipmiPort = cmp.Or(l.ipmiPort, max(0, m.BMC.IPMIPort()))

		if fault := l.cfg.Faults[m.Name]; fault != "" {
			if err = m.BMC.SetFault(fault, true); err != nil {
				return err
			}
		}
	}

	l.ipmiPort = cmp.Or(l.ipmiPort, 623)

	return nil
}

// Machines are the lab's machines, by name.
func (l *Lab) Machines() []*Machine { return l.machines }

// PowerOnAll tells every machine that is off to boot from the network, as a
// person with the BMC's password does, who tries again when it fails.
func (l *Lab) PowerOnAll() {
	for _, m := range l.machines {
		l.wg.Go(func() {
			for l.ctx.Err() == nil && m.BMC.State() == power.StateOff {
				err := m.powerOn(l.ctx)
				if err == nil || l.ctx.Err() != nil {
					return
				}

				l.log.Warn("not powered on; trying again", "machine", m.Name, "error", err)

				_ = pause(l.ctx, time.Second)
			}
		})
	}
}

// target is the machine's BMC as the inventory has it.
func (m *Machine) target() power.Target {
	t := power.Target{
		Name: m.Name, Address: m.BMC.Addr().String(), UUID: m.UUID,
		Username: bmcUser, Password: m.lab.bmcPassword, Protocol: power.ProtocolIPMI, Port: m.lab.ipmiPort, RedfishPort: m.lab.redfishPort,
	}

	if m.Redfish {
		t.Protocol = power.ProtocolRedfish
	}

	return t
}

func (m *Machine) powerOn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	bmc, err := power.NewDialer(power.Options{}).Open(ctx, m.target())
	if err != nil {
		return err
	}
	defer bmc.Close() //nolint:errcheck // the sessions end with the lab

	if err = bmc.SetBoot(ctx, power.Boot{Device: power.DevicePXE, Mode: power.ModeUEFI}); err != nil {
		return err
	}

	return bmc.Do(ctx, power.On)
}

// acceptAll accepts every machine that waits for it, for as long as the lab runs.
func (l *Lab) acceptAll() {
	for l.ctx.Err() == nil {
		machines, err := l.Omni().Machines()
		if err != nil {
			l.log.Warn("not accepted", "error", err)
		}

		for _, m := range machines {
			if m.TypedSpec().Value.AcceptanceStatus == 0 {
				if err := l.Omni().Accept(m.Metadata().ID()); err != nil {
					l.log.Warn("not accepted", "machine_id", m.Metadata().ID(), "error", err)
				}
			}
		}

		_ = pause(l.ctx, 100*time.Millisecond)
	}
}

// Close stops serve and everything else, and returns what went wrong.
func (l *Lab) Close() error {
	var errs []error

	errs = append(errs, l.StopServe())
	l.cancel()
	l.wg.Wait()

	for _, m := range l.machines {
		if m.BMC != nil {
			errs = append(errs, m.BMC.Close())
		}

		m.PowerOff()
	}

	if l.factory != nil {
		l.factory.close()
	}

	if omni := l.Omni(); omni != nil {
		errs = append(errs, omni.Close())
	}

	return errors.Join(errs...)
}

// configURL is where Talos on a machine's disk reads its config: it keeps what
// it was installed with.
func (l *Lab) configURL(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return "http://" + l.ports.HTTP.String() + "/config?u=" + id
}

// servePorts are the addresses that serve has bound.
type servePorts struct {
	DHCP, ProxyDHCP, TFTP, HTTP netip.AddrPort
}
