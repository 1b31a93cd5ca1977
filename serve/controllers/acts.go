package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/policy"
	"github.com/bmctl/bmctl/serve/resources"
	"github.com/bmctl/bmctl/serve/resources/specs"
)

// actTimeout bounds one act with all its steps, other than a wipe.
const (
	actTimeout  = 3 * time.Minute
	longestWipe = 7 * 24 * time.Hour
)

// errReplan ends an act because what it rested on has changed; nothing was done.
var errReplan = errors.New("the facts have changed")

// start starts the act of the plan, unless one runs on the machine already or
// the last one of its kind failed a moment ago.
func (c *Controller) start(ctx context.Context, m Machine, facts policy.Facts, plan policy.Plan) error {
	if mend, wanted := c.mendAccess(m, facts); wanted && c.startJob(m, mend) {
		return nil
	}

	switch plan.Act {
	case policy.ActNone:
		c.lookAgain(m, facts)
	case policy.ActAckPowerOff:
		return c.ackPowerOff(ctx, m)
	case policy.ActAckReboot:
		return c.ackReboot(ctx, m, plan.Reason)
	default:
		c.startJob(m, plan)
	}

	return nil
}

// lookAgain has a machine looked at when an interval that blocked its act ends.
func (c *Controller) lookAgain(m Machine, facts policy.Facts) {
	if !facts.IntervalElapsed {
		c.queue.AddAfter(m.ID, c.cfg.MinRebootInterval-time.Since(m.lastStart()))
	}

	if !facts.AgentSettled {
		c.queue.AddAfter(m.ID, min(agentGrace, c.cfg.MinRebootInterval))
	}
}

// startJob starts an act in a goroutine of its own, so that a slow BMC or agent
// delays nobody else, and tells whether one runs now. Its outcome is looked at by
// another reconcile.
func (c *Controller) startJob(m Machine, plan policy.Plan) bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	l := c.live(m.ID)

	if l.job != policy.ActNone {
		if m.tearingDown() && l.job == policy.ActWipe {
			l.cancel()
		}

		return true
	}

	if wait := l.wait(plan.Act); wait > 0 {
		c.queue.AddAfter(m.ID, wait)

		return false
	}

	if plan.Disruptive && !c.budget.take(c.cfg.MaxDisruptions) {
		c.queue.AddAfter(m.ID, time.Minute)

		return false
	}

	timeout := actTimeout
	if plan.Act == policy.ActWipe {
		timeout = longestWipe // the agent's own bound for the way of wiping is shorter
	}

	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	l.job, l.jobSince, l.cancel = plan.Act, time.Now(), cancel

	c.acts.Go(func() {
		defer cancel()
		c.finish(m.ID, plan, c.carryOut(ctx, m, plan))
	})

	return true
}

// finish notes how an act ended.
func (c *Controller) finish(id string, plan policy.Plan, err error) {
	c.mu.Lock()

	l := c.live(id)
	l.idle()

	switch {
	case err == nil:
		delete(l.backoffs, plan.Act)
	case errors.Is(err, errReplan), c.ctx.Err() != nil:
	default:
		l.failed(plan.Act, err)
	}

	retry := l.wait(plan.Act)
	c.mu.Unlock()

	if err != nil && !errors.Is(err, errReplan) && c.ctx.Err() == nil {
		c.log.Warn("act failed; trying again", "machine_id", id, "error", err, "reason", plan.Reason, "retry_in", retry.Round(time.Second))
		c.observe(id, "error", err.Error(), plan.Reason)
	}

	c.Enqueue(id)
}

// carryOut runs one act to its end.
func (c *Controller) carryOut(ctx context.Context, m Machine, plan policy.Plan) error {
	switch plan.Act {
	case policy.ActRelease:
		return c.release(ctx, m)
	case policy.ActReleaseReset:
		return c.releaseWithReset(ctx, m)
	case policy.ActSetupBMC:
		return c.setupBMC(ctx, m)
	case policy.ActWipe:
		return c.wipe(ctx, m, plan)
	case policy.ActPowerOn:
		return c.powerOn(ctx, m, plan)
	case policy.ActPowerOff:
		return c.powerOff(ctx, m, plan)
	case policy.ActReboot, policy.ActRequestedReboot:
		return c.reboot(ctx, m, plan)
	default:
		return fmt.Errorf("no such act: %d", plan.Act)
	}
}

// fresh reads the power state and returns the conversation to go on with;
// errReplan when the state is another than the plan rests on.
func (c *Controller) fresh(ctx context.Context, m Machine, want policy.Power) (power.BMC, error) {
	bmc, err := c.bmc(ctx, m)
	if err != nil {
		return nil, err
	}

	got, err := c.readPower(ctx, m.ID, bmc)
	if err != nil {
		return nil, err
	}

	if got != want {
		return nil, errReplan
	}

	return bmc, c.stillWanted(m, want)
}

// stillWanted asks policy again, with what is known now: between the plan and
// the act the operator may have cordoned or removed the machine.
func (c *Controller) stillWanted(m Machine, want policy.Power) error {
	now := c.known.Machine(m.ID)
	if now.Infra == nil {
		return errReplan
	}

	facts := c.facts(now)
	facts.Power, facts.BudgetLeft = want, true // our own share is taken already

	c.mu.Lock()
	job := c.live(m.ID).job
	c.mu.Unlock()

	if policy.PlanFor(facts).Act != job {
		return errReplan
	}

	return nil
}

// override sets the one-shot PXE override where the plan wants it.
func (c *Controller) override(ctx context.Context, m Machine, bmc power.BMC, plan policy.Plan) error {
	if !plan.Override {
		return nil
	}

	if err := bmc.SetBoot(ctx, power.Boot{Device: power.DevicePXE, Mode: c.cfg.PXEMode}); err != nil {
		return err
	}

	c.observe(m.ID, "power", "boot override: pxe, once", plan.Reason)

	return nil
}

func (c *Controller) powerOn(ctx context.Context, m Machine, plan policy.Plan) error {
	bmc, err := c.fresh(ctx, m, policy.PowerOff)
	if err != nil {
		return err
	}

	if err = c.override(ctx, m, bmc, plan); err != nil {
		return err
	}

	// The time is recorded first: should we be killed in between, a restart must
	// not take the machine for one that has been on for long.
	if err = c.recordPower(ctx, m, specs.PowerState_POWER_STATE_ON); err != nil {
		return err
	}

	return c.do(ctx, m, bmc, power.On, policy.PowerOn, plan)
}

func (c *Controller) powerOff(ctx context.Context, m Machine, plan policy.Plan) error {
	bmc, err := c.fresh(ctx, m, policy.PowerOn)
	if err != nil {
		return err
	}

	if err = c.do(ctx, m, bmc, power.Off, policy.PowerOff, plan); err != nil {
		return err
	}

	return c.recordPower(ctx, m, specs.PowerState_POWER_STATE_OFF)
}

// reboot is a reboot of either kind. What is begun is recorded first, so that a
// restart of ours in between never reboots a second time.
func (c *Controller) reboot(ctx context.Context, m Machine, plan policy.Plan) error {
	bmc, err := c.fresh(ctx, m, policy.PowerOn)
	if err != nil {
		return err
	}

	if err = c.override(ctx, m, bmc, plan); err != nil {
		return err
	}

	requested := ""
	if plan.Act == policy.ActRequestedReboot {
		requested = m.Infra.TypedSpec().Value.RequestedRebootId
	}

	if err = c.beginReboot(ctx, m, requested); err != nil {
		return err
	}

	if err = c.do(ctx, m, bmc, power.Cycle, policy.PowerOn, plan); err != nil {
		return errors.Join(err, c.endReboot(ctx, m, false))
	}

	return c.endReboot(ctx, m, true)
}

// do carries out a power action and notes the state that it led to.
func (c *Controller) do(ctx context.Context, m Machine, bmc power.BMC, action power.Action, leads policy.Power, plan policy.Plan) error {
	begun := time.Now()

	if err := bmc.Do(ctx, action); err != nil {
		c.missed(m.ID, err)

		return err
	}

	c.mu.Lock()
	c.live(m.ID).read(leads, c.live(m.ID).latency)
	c.mu.Unlock()

	c.cfg.Agents.Drop(m.ID, begun) // what ran on the machine until then is gone

	c.log.Info("power "+action.String(), "machine_id", m.ID, "reason", plan.Reason, "by", "policy")
	c.observe(m.ID, "power", "power "+action.String(), plan.Reason)

	return nil
}

// recordPower records a power operation of ours, and when it was a power on.
func (c *Controller) recordPower(ctx context.Context, m Machine, op specs.PowerState) error {
	return modify(ctx, c, resources.NewPowerOperation(c.cfg.ProviderID, m.ID), resources.PowerOperationController, func(r *resources.PowerOperation) {
		r.TypedSpec().Value.LastPowerOperation = op

		if op == specs.PowerState_POWER_STATE_ON {
			r.TypedSpec().Value.LastPowerOnTimestamp = timestamppb.Now()
		}
	})
}

// ackPowerOff records Omni's power-off request, and in which life of the machine
// it was made.
func (c *Controller) ackPowerOff(ctx context.Context, m Machine) error {
	spec := m.Infra.TypedSpec().Value

	err := modify(ctx, c, resources.NewPowerOperation(c.cfg.ProviderID, m.ID), resources.PowerOperationController, func(r *resources.PowerOperation) {
		r.TypedSpec().Value.LastPowerOffId = spec.PowerOffRequestId
		r.TypedSpec().Value.WipeIdAtPowerOff = spec.WipeId
	})
	if err == nil {
		c.observe(m.ID, "omni", "power-off requested", "it will not be powered on")
	}

	return err
}

// beginReboot records that a reboot begins now, and which requested one it is.
func (c *Controller) beginReboot(ctx context.Context, m Machine, requested string) error {
	return c.modifyReboot(ctx, m, func(spec *specs.RebootStatusSpec) {
		spec.BegunRebootId = requested
		spec.LastRebootTimestamp = timestamppb.Now()
	})
}

// endReboot records how a reboot that was begun ended. Its time stays in either
// case: of a failed one it is not certain that nothing happened.
func (c *Controller) endReboot(ctx context.Context, m Machine, done bool) error {
	return c.modifyReboot(ctx, m, func(spec *specs.RebootStatusSpec) {
		if done && spec.BegunRebootId != "" {
			spec.LastRebootId = spec.BegunRebootId
		}

		spec.BegunRebootId = ""
	})
}

// settleReboot takes a requested reboot that was begun by a process that is no
// more as done: a production machine is not rebooted twice for one request.
func (c *Controller) settleReboot(ctx context.Context, m Machine) error {
	c.mu.Lock()
	running := c.live(m.ID).job != policy.ActNone
	c.mu.Unlock()

	if running || m.tearingDown() || m.Reboot == nil || m.Reboot.TypedSpec().Value.BegunRebootId == "" {
		return nil
	}

	c.observe(m.ID, "power", "reboot taken as done", "it was begun when we were stopped")

	return c.endReboot(ctx, m, true)
}

// ackReboot records a requested reboot that is not carried out.
func (c *Controller) ackReboot(ctx context.Context, m Machine, reason string) error {
	err := c.modifyReboot(ctx, m, func(spec *specs.RebootStatusSpec) {
		spec.LastRebootId = m.Infra.TypedSpec().Value.RequestedRebootId
	})
	if err == nil {
		c.observe(m.ID, "omni", "requested reboot not carried out", reason)
	}

	return err
}

func (c *Controller) modifyReboot(ctx context.Context, m Machine, change func(*specs.RebootStatusSpec)) error {
	return modify(ctx, c, resources.NewRebootStatus(c.cfg.ProviderID, m.ID), resources.RebootStatusController, func(r *resources.RebootStatus) {
		change(r.TypedSpec().Value)
	})
}
