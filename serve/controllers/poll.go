package controllers

import (
	"context"
	"hash/fnv"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/policy"
)

// pollAll reads every machine's power once per interval, each at a moment of its
// own within it, so that the BMCs are not all asked at once.
func (c *Controller) pollAll(ctx context.Context) {
	slots := make(chan struct{}, c.cfg.PollConcurrency)
	step := min(time.Second, c.cfg.PollInterval/10)
	begun := time.Now()
	last := time.Duration(-1)

	for ctx.Err() == nil {
		now := time.Since(begun)

		for _, id := range c.due(last, now) {
			c.startPoll(ctx, slots, id)
		}

		last = now

		select {
		case <-ctx.Done():
		case <-time.After(step):
		}
	}
}

// due returns the machines whose moment lies in (last, now].
func (c *Controller) due(last, now time.Duration) []string {
	var ids []string

	interval := c.cfg.PollInterval

	for _, id := range c.known.IDs() {
		offset := pollOffset(id, interval)
		if rounds(now, offset, interval) > rounds(last, offset, interval) {
			ids = append(ids, id)
		}
	}

	return ids
}

// rounds counts how often a machine's moment has come by t.
func rounds(t, offset, interval time.Duration) int64 {
	if t < offset {
		return 0
	}

	return int64((t-offset)/interval) + 1
}

// pollOffset is a machine's moment within the interval: stable over restarts.
func pollOffset(id string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails

	return time.Duration(h.Sum64() % uint64(interval)) //nolint:gosec // positive
}

// startPoll polls a machine, unless all slots are taken by slower ones: then its
// next moment does. An act in progress reads the power itself.
func (c *Controller) startPoll(ctx context.Context, slots chan struct{}, id string) {
	m := c.known.Machine(id)
	if m.Infra == nil {
		return
	}

	c.mu.Lock()
	acting := c.live(id).job != policy.ActNone && c.live(id).job != policy.ActWipe
	c.mu.Unlock()

	if acting || m.BMC == nil {
		c.Enqueue(id)

		return
	}

	select {
	case slots <- struct{}{}:
		c.acts.Go(func() {
			defer func() { <-slots }()
			c.poll(ctx, m)
		})
	default:
		c.log.Warn("poll skipped: all are waiting for slower BMCs", "machine_id", id)
	}
}

func (c *Controller) poll(ctx context.Context, m Machine) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.PollTimeout)
	defer cancel()

	bmc, err := c.bmc(ctx, m)
	if err == nil {
		_, err = c.readPower(ctx, m.ID, bmc)
	}

	if err == nil {
		err = c.learnProtocol(ctx, m.ID, bmc)
	}

	if err != nil {
		c.log.Debug("poll failed", "machine_id", m.ID, "error", err)
	}

	c.Enqueue(m.ID)
}

// learnProtocol notes how the BMC is spoken to, for people; it asks once.
func (c *Controller) learnProtocol(ctx context.Context, id string, bmc power.BMC) error {
	c.mu.Lock()
	known := c.live(id).protocol != ""
	c.mu.Unlock()

	if known {
		return nil
	}

	info, err := bmc.Info(ctx)
	if err != nil {
		return err
	}

	c.mu.Lock()
	c.live(id).protocol = info.Protocol
	c.mu.Unlock()

	return nil
}
