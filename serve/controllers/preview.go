package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/policy"
)

// Preview is what would be done with a machine now, and why.
type Preview struct {
	Machine localapi.Machine
	// Act is "" where nothing would be done, else what: wipe, power on, power
	// off, reboot, set up the BMC, release, ...
	Act    string
	Reason string
	// Boot and BootReason are what its boot request would be answered.
	Boot       string
	BootReason string
	// Allocated: the machine is in a cluster.
	Allocated bool
	// Disrupts: the act would take a cluster machine down or wipe it.
	Disrupts bool
}

// Preview reads Omni and every known BMC once and returns the plans, sorted by
// machine id. It writes nothing and calls no agent; the controller must not be
// running, and is not usable for Run afterwards.
func (c *Controller) Preview(ctx context.Context) ([]Preview, error) {
	ctx, cancel := context.WithCancel(ctx)

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	c.ctx = ctx

	wg.Go(func() { c.known.Run(ctx, c.cfg.State) })

	if err := c.awaitList(ctx); err != nil {
		return nil, err
	}

	c.readAll(ctx)
	defer c.closeBMCs()

	var previews []Preview

	for _, id := range c.known.IDs() {
		if p, err := c.preview(id); err == nil {
			previews = append(previews, p)
		}
	}

	return previews, nil
}

// awaitList waits for the first complete list. An Omni that does not know the
// provider will not send one.
func (c *Controller) awaitList(ctx context.Context) error {
	for !c.known.Complete() {
		_, _, err := c.known.Connection()
		if NotRegistered(err) {
			return fmt.Errorf("the list of machines did not come: %w", err)
		}

		select {
		case <-ctx.Done():
			return fmt.Errorf("the list of machines did not come: %w", firstError(err, ctx.Err()))
		case <-time.After(20 * time.Millisecond):
		}
	}

	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}

	return nil
}

// readAll reads the power of every machine whose BMC is known.
func (c *Controller) readAll(ctx context.Context) {
	slots := make(chan struct{}, c.cfg.PollConcurrency)

	var wg sync.WaitGroup

	for _, id := range c.known.IDs() {
		m := c.known.Machine(id)
		if m.Infra == nil || m.BMC == nil {
			continue
		}

		slots <- struct{}{}

		wg.Go(func() {
			defer func() { <-slots }()
			c.poll(ctx, m)
		})
	}

	wg.Wait()
}

func (c *Controller) preview(id string) (Preview, error) {
	m := c.known.Machine(id)

	view, err := c.View(id)
	if err != nil {
		return Preview{}, err
	}

	facts := c.facts(m)
	facts.Idle, facts.IntervalElapsed, facts.BudgetLeft, facts.AgentSettled = "", true, true, true
	facts.AgentConnected = m.Seen != nil && m.Seen.TypedSpec().Value.AgentAccessible

	plan := policy.PlanFor(facts)

	return Preview{
		Machine: view, Act: actName(plan.Act), Reason: plan.Reason,
		Boot: view.BootDecision, BootReason: plan.BootReason,
		Allocated: facts.Allocated,
		Disrupts:  facts.Allocated && (plan.Disruptive || plan.Act == policy.ActPowerOff),
	}, nil
}

// actName is how people call an act.
func actName(a policy.Act) string {
	return [...]string{
		policy.ActNone:            "",
		policy.ActRelease:         "release",
		policy.ActReleaseReset:    "reset and release",
		policy.ActAckPowerOff:     "note the power-off request",
		policy.ActAckReboot:       "note the reboot request",
		policy.ActSetupBMC:        "set up the BMC",
		policy.ActWipe:            "wipe",
		policy.ActPowerOn:         "power on",
		policy.ActPowerOff:        "power off",
		policy.ActReboot:          "reboot",
		policy.ActRequestedReboot: "requested reboot",
	}[a]
}
