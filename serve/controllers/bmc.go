package controllers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/siderolabs/omni/client/api/omni/specs"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/agent"
	"github.com/bmctl/bmctl/serve/policy"
	"github.com/bmctl/bmctl/serve/resources"
	own "github.com/bmctl/bmctl/serve/resources/specs"
)

// access is a way to a BMC, as it is stored.
type access = own.BMCConfigurationSpec

// target turns stored access into what package power opens.
func (c *Controller) target(id string, a *access) (power.Target, error) {
	if a.GetIpmi() == nil {
		return c.qemuTarget(id, a.GetApi().GetAddress())
	}

	return power.Target{
		Name:        c.name(id, a.Ipmi.Address),
		Address:     a.Ipmi.Address,
		Port:        int(a.Ipmi.Port),
		RedfishPort: c.cfg.RedfishPort,
		Username:    a.Ipmi.Username,
		Password:    power.NewSecret(a.Ipmi.Password),
		UUID:        id,
	}, nil
}

// qemuTarget is the HTTP power API at an address, host:port.
func (c *Controller) qemuTarget(id, address string) (power.Target, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return power.Target{}, fmt.Errorf("%s: power API at %q: %w", ShortID(id), address, err)
	}

	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return power.Target{}, fmt.Errorf("%s: power API at %q: %w", ShortID(id), address, err)
	}

	return power.Target{Name: c.name(id, host), Address: host, Port: int(port), Protocol: power.ProtocolQEMU, UUID: id}, nil
}

// name is how people call a machine: its inventory name, else the first block of
// its id.
func (c *Controller) name(id, bmcAddress string) string {
	if c.cfg.Name != nil {
		if name := c.cfg.Name(id, bmcAddress); name != "" {
			return name
		}
	}

	return ShortID(id)
}

// ShortID is the first block of a machine id.
func ShortID(id string) string { return id[:min(8, len(id))] }

// bmc returns the open conversation with the machine's BMC; one is kept per
// machine, for as long as its access stays the same.
func (c *Controller) bmc(ctx context.Context, m Machine) (power.BMC, error) {
	if m.BMC == nil {
		return nil, fmt.Errorf("%s: no BMC access is stored", ShortID(m.ID))
	}

	a := m.BMC.TypedSpec().Value
	key := a.String()

	c.mu.Lock()
	l := c.live(m.ID)
	bmc, same := l.bmc, l.bmcSpec == key
	c.mu.Unlock()

	if bmc != nil && same {
		return bmc, nil
	}

	t, err := c.target(m.ID, a)
	if err != nil {
		return nil, err
	}

	opened, err := c.cfg.Power.Open(ctx, t)
	if err != nil {
		return nil, err
	}

	c.mu.Lock()
	replaced := l.bmc
	l.bmc, l.bmcSpec = opened, key
	c.mu.Unlock()

	if replaced != nil {
		_ = replaced.Close() // of access that is no longer in force
	}

	return opened, nil
}

func (c *Controller) closeBMCs() {
	c.mu.Lock()

	var open []power.BMC

	for _, l := range c.lives {
		if l.bmc != nil {
			open = append(open, l.bmc)
			l.bmc = nil
		}
	}
	c.mu.Unlock()

	closeAll(open)
}

// readPower asks the BMC for the power state and notes the answer.
func (c *Controller) readPower(ctx context.Context, id string, bmc power.BMC) (policy.Power, error) {
	begun := time.Now()

	s, err := bmc.State(ctx)
	c.cfg.PowerRead(time.Since(begun), err)

	if err != nil {
		c.missed(id, err)

		return policy.PowerUnknown, err
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	c.live(id).read(toPolicy(s), time.Since(begun))

	return toPolicy(s), nil
}

// missed notes that the BMC did not answer as it should. One that refuses the
// stored login, or is another machine's, is not to be acted upon.
func (c *Controller) missed(id string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	l := c.live(id)
	l.missed(err)

	switch {
	case errors.Is(err, power.ErrAuth):
		l.distrustBMC = "its BMC refuses the stored login"
	case errors.Is(err, power.ErrAmbiguous):
		l.distrustBMC = "the BMC at the stored address is another machine's"
	}
}

// setupBMC makes BMC access known: the user's BMCConfig where there is one, else
// a user that the agent creates.
func (c *Controller) setupBMC(ctx context.Context, m Machine) error {
	if m.BMCConfig != nil {
		return c.takeBMCConfig(ctx, m)
	}

	addr, port, exists, err := c.cfg.Agents.PowerManagement(ctx, m.ID)
	if err != nil {
		return fmt.Errorf("%s: ask the agent for its BMC: %w", ShortID(m.ID), err)
	}

	if c.cfg.QEMUDir != "" {
		return c.setupQEMU(ctx, m)
	}

	ip, err := netip.ParseAddr(addr)
	if err != nil || ip.IsUnspecified() {
		return fmt.Errorf("%s: the agent says its BMC is at %q, which is no address: give it one with: bmctl machines bmc set %s", ShortID(m.ID), addr, ShortID(m.ID))
	}

	password, err := newPassword()
	if err != nil {
		return err
	}

	if err = c.cfg.Agents.SetPowerManagement(ctx, m.ID, agent.Username, power.NewSecret(password)); err != nil {
		return fmt.Errorf("%s: have the agent create the BMC user %s (it existed: %t): %w", ShortID(m.ID), agent.Username, exists, err)
	}

	return c.storeAccess(ctx, m, &access{Ipmi: &own.BMCConfigurationSpec_IPMI{
		Address: addr, Port: uint32(port), Username: agent.Username, Password: password, //nolint:gosec // a port
	}})
}

// setupQEMU finds the power API of a QEMU machine in the directory where
// `talosctl cluster create` keeps its machines.
func (c *Controller) setupQEMU(ctx context.Context, m Machine) error {
	t, err := power.QEMUTarget(c.cfg.QEMUDir, m.ID)
	if err != nil {
		return err
	}

	address := net.JoinHostPort(t.Address, strconv.Itoa(t.Port))

	return c.storeAccess(ctx, m, &access{Api: &own.BMCConfigurationSpec_API{Address: address}})
}

// mendAccess is the set-up of BMC access that is wanted although some is stored:
// the user's BMCConfig differs from it (it applies at once and needs no agent),
// or the BMC refuses it and the agent is there to set it up again.
func (c *Controller) mendAccess(m Machine, facts policy.Facts) (policy.Plan, bool) {
	if facts.Acceptance != policy.Accepted || facts.Cordoned || m.tearingDown() {
		return policy.Plan{}, false
	}

	if wanted := userAccess(m); wanted != nil {
		stored := m.BMC != nil && proto.Equal(m.BMC.TypedSpec().Value, wanted)

		return policy.Plan{Act: policy.ActSetupBMC, Reason: "the user set its BMC access"}, !stored
	}

	c.mu.Lock()
	refused := c.live(m.ID).distrustBMC
	c.mu.Unlock()

	again := refused != "" && facts.Distrust == refused && facts.AgentConnected &&
		m.BMC != nil && !m.BMC.TypedSpec().Value.ManuallyConfigured

	return policy.Plan{Act: policy.ActSetupBMC, Reason: refused}, again
}

func (c *Controller) takeBMCConfig(ctx context.Context, m Machine) error {
	wanted := userAccess(m)
	if wanted == nil {
		return fmt.Errorf("%s: the user's BMC config is empty", ShortID(m.ID))
	}

	return c.storeAccess(ctx, m, wanted)
}

// userAccess is what the user's BMCConfig says, or nil.
func userAccess(m Machine) *access {
	if m.BMCConfig == nil {
		return nil
	}

	return fromUser(m.BMCConfig.TypedSpec().Value.Config)
}

func fromUser(config *specs.InfraMachineBMCConfigSpec) *access {
	switch {
	case config.GetIpmi() != nil:
		return &access{ManuallyConfigured: true, Ipmi: &own.BMCConfigurationSpec_IPMI{
			Address: config.Ipmi.Address, Port: config.Ipmi.Port, Username: config.Ipmi.Username, Password: config.Ipmi.Password,
		}}
	case config.GetApi() != nil:
		return &access{ManuallyConfigured: true, Api: &own.BMCConfigurationSpec_API{Address: config.Api.Address}}
	default:
		return nil
	}
}

// storeAccess stores BMC access after a login and a power read with it; until
// then what was stored stays. BMCs may save a new user late, so a refused login
// is tried again for 5 s.
func (c *Controller) storeAccess(ctx context.Context, m Machine, a *access) error {
	t, err := c.target(m.ID, a)
	if err != nil {
		return err
	}

	state, err := c.prove(ctx, t)
	if err != nil {
		return fmt.Errorf("BMC access is not stored: %w", err)
	}

	err = modify(ctx, c, resources.NewBMCConfiguration(c.cfg.ProviderID, m.ID), resources.BMCConfigurationController, func(r *resources.BMCConfiguration) {
		r.TypedSpec().Value = proto.CloneOf(a)
		r.Metadata().Finalizers().Add(resources.Owner(c.cfg.ProviderID, resources.RebootStatusController))
	})
	if err != nil {
		return fmt.Errorf("%s: store BMC access: %w", t.Label(), err)
	}

	c.mu.Lock()
	c.live(m.ID).read(toPolicy(state), 0)
	c.mu.Unlock()

	c.log.Info("BMC access proven and stored", "machine_id", m.ID, "bmc", t.Address)
	c.observe(m.ID, "bmc", "BMC access proven: "+t.Address, "a login and a power read succeeded")

	return nil
}

// prove logs in and reads the power state.
func (c *Controller) prove(ctx context.Context, t power.Target) (power.State, error) {
	const patience, pause = 5 * time.Second, 500 * time.Millisecond

	begun := time.Now()

	for {
		s, err := c.tryAccess(ctx, t)
		if !errors.Is(err, power.ErrAuth) || time.Since(begun) >= patience {
			return s, err
		}

		select {
		case <-ctx.Done():
			return s, err
		case <-time.After(pause):
		}
	}
}

func (c *Controller) tryAccess(ctx context.Context, t power.Target) (power.State, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()

	bmc, err := c.cfg.Power.Open(ctx, t)
	if err != nil {
		return power.StateUnknown, err
	}
	defer bmc.Close() //nolint:errcheck // the reading is what counts

	return bmc.State(ctx)
}

// newPassword returns 16 characters, with a digit, a special character and both
// cases: some BMCs keep only 16, some policies want all of these.
func newPassword() (string, error) {
	const (
		lower, upper, digits, special = "abcdefghijkmnopqrstuvwxyz", "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789", "-_.+="
		all                           = lower + upper + digits
	)

	sets := []string{lower, special, upper, digits, all, all, all, all, all, all, all, all, all, all, all, all}
	password := make([]byte, len(sets))

	for i, set := range sets {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(set))))
		if err != nil {
			return "", fmt.Errorf("make a password: %w", err)
		}

		password[i] = set[n.Int64()]
	}

	return string(password), nil
}

// closeAll ends the sessions, many at a time: thousands of them, and silent BMCs
// among them, must not keep us from leaving. What is not closed by then ends by
// itself: controllers forget sessions that rest.
func closeAll(open []power.BMC) {
	const parallel, patience = 64, 2 * time.Second

	begun := time.Now()

	var group errgroup.Group

	group.SetLimit(parallel)

	for _, bmc := range open {
		if time.Since(begun) > patience {
			break
		}

		group.Go(bmc.Close)
	}

	_ = group.Wait() // we are leaving: nobody is left to mend what did not close
}
