package controllers

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/resources"
)

// releaseTimeout bounds all that is done to a machine that is being removed.
const releaseTimeout = 30 * time.Second

// hold puts our finalizers on a machine that lives.
func (c *Controller) hold(ctx context.Context, m Machine) error {
	if m.tearingDown() {
		return nil
	}

	ours := resources.MachineFinalizers(c.cfg.ProviderID)
	held := true

	for _, finalizer := range ours {
		held = held && m.Infra.Metadata().Finalizers().Has(finalizer)
	}

	if held {
		return nil
	}

	if err := c.cfg.State.AddFinalizer(ctx, m.Infra.Metadata(), ours...); err != nil {
		return fmt.Errorf("put our finalizers on %s: %w", ShortID(m.ID), err)
	}

	return nil
}

// releaseWithReset resets a machine that runs something else once into agent
// mode and then releases it. A BMC that does not answer, or refuses, never holds
// the finalizers. That the reset was begun is recorded first, so that it is not
// repeated when we are killed in between.
func (c *Controller) releaseWithReset(ctx context.Context, m Machine) error {
	if m.Reboot == nil || m.Reboot.TypedSpec().Value.BegunRebootId != beganRemoval {
		if err := c.beginReboot(ctx, m, beganRemoval); err != nil {
			return err
		}

		if err := c.resetForRemoval(ctx, m); err != nil {
			c.log.Warn("not reset at its removal", "machine_id", m.ID, "error", err)
			c.observe(m.ID, "error", "not reset at its removal: "+err.Error(), "removed from Omni")
		}
	}

	return c.release(ctx, m)
}

// beganRemoval marks in the place of a reboot id that the reset of a removal was
// begun.
const beganRemoval = "removal"

func (c *Controller) resetForRemoval(ctx context.Context, m Machine) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()

	bmc, err := c.bmc(ctx, m)
	if err != nil {
		return err
	}

	// Off stays off: a scrapped machine is not switched on.
	if s, err := bmc.State(ctx); err != nil || s != power.StateOn {
		return err
	}

	if err = bmc.SetBoot(ctx, power.Boot{Device: power.DevicePXE, Mode: c.cfg.PXEMode}); err != nil {
		return err
	}

	begun := time.Now()
	if err = bmc.Do(ctx, power.Cycle); err != nil {
		return err
	}

	c.cfg.Agents.Drop(m.ID, begun)

	c.log.Info("power cycle", "machine_id", m.ID, "reason", "removed from Omni", "by", "policy")
	c.observe(m.ID, "power", "power cycle", "removed from Omni while it ran")

	return nil
}

// release removes everything that we wrote about the machine, and our finalizers
// last: until then a crash changes nothing.
func (c *Controller) release(ctx context.Context, m Machine) error {
	if err := c.destroyOwn(ctx, c.known.Machine(m.ID)); err != nil {
		return err
	}

	err := c.cfg.State.RemoveFinalizer(ctx, m.Infra.Metadata(), resources.MachineFinalizers(c.cfg.ProviderID)...)
	if err != nil && !state.IsNotFoundError(err) {
		return fmt.Errorf("release %s: %w", ShortID(m.ID), err)
	}

	c.observe(m.ID, "omni", "released", "removed from Omni")

	return nil
}

// released tells whether nothing of ours is left on a machine that goes.
func (c *Controller) released(m Machine) bool {
	if !m.tearingDown() || m.hasOwn() {
		return false
	}

	for _, finalizer := range resources.MachineFinalizers(c.cfg.ProviderID) {
		if m.Infra.Metadata().Finalizers().Has(finalizer) {
			return false
		}
	}

	return true
}

// destroyOwn destroys every resource of ours about the machine.
func (c *Controller) destroyOwn(ctx context.Context, m Machine) error {
	for _, own := range []struct {
		r     resource.Resource
		owner string
	}{
		{orNil(m.Reported), resources.InfraMachineStatusController},
		{orNil(m.Wipe), resources.WipeStatusController},
		{orNil(m.Reboot), resources.RebootStatusController},
		{orNil(m.Power), resources.PowerOperationController},
		{orNil(m.BMC), resources.BMCConfigurationController},
		{orNil(m.Seen), resources.MachineStatusController},
	} {
		if own.r == nil {
			continue
		}

		if err := c.destroy(ctx, own.r, own.owner); err != nil {
			return fmt.Errorf("destroy %s of %s: %w", own.r.Metadata().Type(), ShortID(m.ID), err)
		}
	}

	return nil
}

func (c *Controller) destroy(ctx context.Context, r resource.Resource, owner string) error {
	md := r.Metadata()

	if !md.Finalizers().Empty() {
		err := c.cfg.State.RemoveFinalizer(ctx, md, resources.Owner(c.cfg.ProviderID, resources.RebootStatusController))
		if err != nil && !state.IsNotFoundError(err) {
			return err
		}
	}

	err := c.cfg.State.Destroy(ctx, md, state.WithDestroyOwner(resources.Owner(c.cfg.ProviderID, owner)))
	if err != nil && !state.IsNotFoundError(err) {
		return err
	}

	c.known.Put(r, false)

	return nil
}

// forget drops what we know of a machine that Omni does not know (any more).
// What we once wrote about it must go too: were it to join again, as a new
// machine, the record of its last life would speak for it.
func (c *Controller) forget(ctx context.Context, m Machine) error {
	c.mu.Lock()

	var bmc power.BMC

	if l := c.lives[m.ID]; l != nil && l.bmc != nil {
		bmc, l.bmc = l.bmc, nil
	}

	if l := c.lives[m.ID]; l != nil && l.cancel == nil {
		maps.DeleteFunc(c.byMAC, func(_, id string) bool { return id == m.ID })
		delete(c.lives, m.ID)
	}
	c.mu.Unlock()

	if bmc != nil {
		_ = bmc.Close() // nothing is wanted of it any more
	}

	if !c.mayWrite() {
		return nil
	}

	c.store.forget(m.ID)

	return c.destroyOwn(ctx, m)
}
