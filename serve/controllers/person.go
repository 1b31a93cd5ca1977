package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/policy"
)

var (
	// ErrNotPermitted: a person's act on a machine that must not be touched.
	ErrNotPermitted = errors.New("not permitted")
	// ErrInCluster: a person's act on a machine in a cluster, without saying that
	// this is meant.
	ErrInCluster = errors.New("in a cluster")
)

// actOfPerson stands for a person's act among the acts of policy.
const actOfPerson policy.Act = -1

// PersonAct is a power act that somebody orders through the local socket.
type PersonAct struct {
	Action power.Action // 0: the boot override alone
	Boot   *power.Boot  // set before the action; nil leaves it as it is
	// InCluster says that a machine in a cluster is meant.
	InCluster bool
	// By is who ordered it, for the log.
	By string
}

// Power carries out a person's act with the stored BMC access. It is refused with
// the reason on a machine that is not accepted, is rejected, cordoned, held or
// being removed, and on one in a cluster unless that is meant: serve would undo
// it. Errors wrap ErrNotFound, ErrNotYet, ErrNotPermitted, ErrInCluster, or are
// those of package power.
func (c *Controller) Power(ctx context.Context, id string, act PersonAct) error {
	m, err := c.listed(id)
	if err != nil {
		return err
	}

	facts := c.facts(m)
	if err := permitted(m, facts, act); err != nil {
		return fmt.Errorf("%s: %w", c.name(id, ""), err)
	}

	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()

	if err := c.beginPerson(id, cancel); err != nil {
		return err
	}

	defer c.endPerson(id)

	return c.order(ctx, m, act)
}

// permitted says why a person may not do this to the machine.
func permitted(m Machine, f policy.Facts, act PersonAct) error {
	switch {
	case f.Stale:
		return fmt.Errorf("%w: Omni has been away too long", ErrNotYet)
	case f.TearingDown:
		return fmt.Errorf("%w: it is being removed from Omni", ErrNotPermitted)
	case f.Acceptance == policy.Pending:
		return fmt.Errorf("%w: it waits to be accepted", ErrNotPermitted)
	case f.Acceptance == policy.Rejected:
		return fmt.Errorf("%w: it was rejected", ErrNotPermitted)
	case f.Cordoned:
		return fmt.Errorf("%w: it is cordoned", ErrNotPermitted)
	case f.Held() != "":
		return fmt.Errorf("%w: it is held: %s", ErrNotPermitted, f.Held())
	case m.BMC == nil:
		return fmt.Errorf("%w: its BMC is not set up yet", ErrNotPermitted)
	case f.Allocated && !act.InCluster:
		return fmt.Errorf("%w: ask Omni instead, which asks the operating system", ErrInCluster)
	default:
		return nil
	}
}

// beginPerson takes the machine for a person's act: there is one act at a time.
func (c *Controller) beginPerson(id string, cancel context.CancelFunc) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	l := c.live(id)
	if l.job != policy.ActNone {
		return fmt.Errorf("%s: %w: an act is under way", ShortID(id), ErrNotYet)
	}

	l.job, l.jobSince, l.cancel = actOfPerson, time.Now(), cancel

	return nil
}

func (c *Controller) endPerson(id string) {
	c.mu.Lock()
	c.live(id).idle()
	c.mu.Unlock()

	c.Enqueue(id)
}

func (c *Controller) order(ctx context.Context, m Machine, act PersonAct) error {
	bmc, err := c.bmc(ctx, m)
	if err != nil {
		return err
	}

	if act.Boot != nil {
		if err := bmc.SetBoot(ctx, *act.Boot); err != nil {
			return err
		}

		c.log.Info("boot override "+act.Boot.Device.String(), "machine_id", m.ID, "by", act.By)
		c.observe(m.ID, "power", "boot override: "+act.Boot.Device.String(), "ordered by "+act.By)
	}

	if act.Action == 0 {
		return nil
	}

	begun := time.Now()
	if err := bmc.Do(ctx, act.Action); err != nil {
		c.missed(m.ID, err)

		return err
	}

	if act.Action != power.NMI && act.Action != power.On {
		c.cfg.Agents.Drop(m.ID, begun)
	}

	c.log.Info("power "+act.Action.String(), "machine_id", m.ID, "by", act.By)
	c.observe(m.ID, "power", "power "+act.Action.String(), "ordered by "+act.By)

	_, err = c.readPower(ctx, m.ID, bmc)

	return err
}
