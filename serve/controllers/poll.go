package controllers

import (
	"context"
	"hash/fnv"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/policy"
)

// pollAll reads every machine's power once per interval, each at a moment of its
// own within it, so that the BMCs are not all asked at once, and once more soon
// after an act.
func (c *Controller) pollAll(ctx context.Context) {
	lanes := newLanes(c.cfg.PollConcurrency)
	step := min(time.Second, c.cfg.PollInterval/10)
	begun := time.Now()
	last := time.Duration(-1)

	for ctx.Err() == nil {
		now := time.Since(begun)

		for _, id := range c.due(last, now) {
			c.startPoll(ctx, lanes, id)
		}

		last = now

		select {
		case <-ctx.Done():
		case <-time.After(step):
		}
	}
}

// due returns the machines whose moment lies in (last, now], or who are to be
// looked at after an act.
func (c *Controller) due(last, now time.Duration) []string {
	var ids []string

	interval, at := c.cfg.PollInterval, time.Now()
	all := c.known.IDs()

	c.mu.Lock()
	defer c.mu.Unlock()

	for _, id := range all {
		l, offset := c.lives[id], pollOffset(id, interval)
		acted := l != nil && !l.pollAt.IsZero() && !at.Before(l.pollAt)

		if acted {
			l.pollAt = time.Time{}
		}

		if acted || rounds(now, offset, interval) > rounds(last, offset, interval) {
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

// lanes bound how many BMCs are asked at once. Those that did not answer when
// they were last asked may take the whole timeout again: they have at most half
// of the slots, so that they never keep the others waiting.
type lanes struct{ all, doubtful chan struct{} }

func newLanes(concurrency int) lanes {
	return lanes{all: make(chan struct{}, concurrency), doubtful: make(chan struct{}, max(1, concurrency/2))}
}

// enter waits for a slot until ctx ends; leave gives it back.
func (l lanes) enter(ctx context.Context, doubtful bool) (leave func(), ok bool) {
	slots := []chan struct{}{l.all}
	if doubtful {
		slots = []chan struct{}{l.doubtful, l.all}
	}

	for i, slot := range slots {
		select {
		case slot <- struct{}{}:
		case <-ctx.Done():
			leaveAll(slots[:i])

			return nil, false
		}
	}

	return func() { leaveAll(slots) }, true
}

func leaveAll(slots []chan struct{}) {
	for _, slot := range slots {
		<-slot
	}
}

// startPoll polls a machine as soon as there is a slot; there is at most one poll
// of it at a time. An act in progress reads the power itself.
func (c *Controller) startPoll(ctx context.Context, lanes lanes, id string) {
	m := c.known.Machine(id)
	if m.Infra == nil {
		return
	}

	c.mu.Lock()
	l := c.live(id)
	polling, doubtful := l.polling, l.misses > 0
	acting := l.job != policy.ActNone && l.job != policy.ActWipe
	asked := !polling && !acting && m.BMC != nil
	l.polling = polling || asked
	c.mu.Unlock()

	if !asked {
		c.Enqueue(id)

		return
	}

	moment := time.Now()

	c.acts.Go(func() {
		defer c.polled(id)

		leave, ok := lanes.enter(ctx, doubtful)
		if !ok {
			return
		}
		defer leave()

		if time.Since(moment) >= time.Second {
			c.latePolls.Add(1)
		}

		c.poll(ctx, m)
	})
}

// polled notes that a poll is over and has its outcome looked at.
func (c *Controller) polled(id string) {
	c.mu.Lock()
	c.live(id).polling = false
	c.mu.Unlock()

	c.Enqueue(id)
}

// LatePolls counts the readings of power that began a second or more after their
// moment, because all slots were taken by slower BMCs.
func (c *Controller) LatePolls() uint64 { return c.latePolls.Load() }

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
