package controllers

import (
	"context"
	"fmt"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"

	"github.com/bmctl/bmctl/serve/policy"
	"github.com/bmctl/bmctl/serve/resources"
)

// wiped is a wipe that the agent reported as done: what was in force before it.
type wiped struct {
	wipeID string
	token  string
}

// wipe has the agent wipe the disks. What is recorded of it is read before the
// call; the record itself is written by recordWipe, which is tried until it
// succeeds: a wipe that happened is never forgotten while we live.
func (c *Controller) wipe(ctx context.Context, m Machine, plan policy.Plan) error {
	spec := m.Infra.TypedSpec().Value
	before := &wiped{wipeID: spec.WipeId, token: spec.NodeUniqueToken}
	begun := time.Now()

	c.log.Info("wiping the disks", "machine_id", m.ID, "reason", plan.Reason)
	c.observe(m.ID, "wipe", "wiping", plan.Reason)

	if err := c.cfg.Agents.Wipe(ctx, m.ID, c.cfg.WipeWithZeroes); err != nil {
		return fmt.Errorf("%s: wipe: %w", ShortID(m.ID), err)
	}

	c.mu.Lock()
	c.live(m.ID).wiped = before
	c.mu.Unlock()

	c.log.Info("wiped disks on the machine", "machine_id", m.ID, "duration", time.Since(begun).Seconds())
	c.observe(m.ID, "wipe", "wiped in "+time.Since(begun).Round(time.Second).String(), plan.Reason)

	return nil
}

// recordWipe records a wipe that succeeded. The install event id is read again
// now: one that came late must not mark the wiped disk as installed. When the
// wipe id changed meanwhile the machine is to be wiped again, and nothing is
// recorded.
func (c *Controller) recordWipe(ctx context.Context, m Machine) error {
	c.mu.Lock()
	done := c.live(m.ID).wiped
	c.mu.Unlock()

	if done == nil {
		return nil
	}

	now, err := safe.StateGet[*infra.Machine](ctx, c.cfg.State, infra.NewMachine(m.ID).Metadata())
	if err != nil {
		return fmt.Errorf("record the wipe of %s: %w", ShortID(m.ID), err)
	}

	spec := now.TypedSpec().Value
	if spec.WipeId == done.wipeID {
		err = modify(ctx, c, resources.NewWipeStatus(c.cfg.ProviderID, m.ID), resources.WipeStatusController, func(r *resources.WipeStatus) {
			r.TypedSpec().Value.LastWipeId = done.wipeID
			r.TypedSpec().Value.LastWipeInstallEventId = spec.InstallEventId
			r.TypedSpec().Value.InitialWipeDone = true
			r.TypedSpec().Value.WipedNodeUniqueToken = done.token
		})
		if err != nil {
			return fmt.Errorf("record the wipe of %s: %w", ShortID(m.ID), err)
		}
	}

	c.known.Put(now, true)

	c.mu.Lock()
	c.live(m.ID).wiped = nil
	c.mu.Unlock()

	return nil
}
