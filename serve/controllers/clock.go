package controllers

import (
	"fmt"
	"time"

	"github.com/bmctl/bmctl/serve/localapi"
)

// skewTold is how far a clock may be from ours until that is an event.
const skewTold = 30 * time.Second

// elapsed tells whether interval has passed since t. A t in the future, from a
// clock that was wrong once, counts as passed.
func elapsed(t time.Time, interval time.Duration) bool {
	since := time.Since(t)

	return since < 0 || since >= interval
}

// noteFuture tells once that a machine was started in what is our future: the time
// since then counts as over.
func (c *Controller) noteFuture(m Machine) {
	last := m.lastStart()

	c.mu.Lock()
	l := c.live(m.ID)
	told := l.futureStart.Equal(last)
	ahead := time.Until(last) > skewTold

	if ahead {
		l.futureStart = last
	}
	c.mu.Unlock()

	if ahead && !told {
		c.log.Warn("a recorded start lies in the future", "machine_id", m.ID, "at", last)
		c.observe(m.ID, "clock", "its last start is recorded at "+last.UTC().Format(time.RFC3339)+", in the future", "the time since then counts as over")
	}
}

// compareClocks holds our clock against Omni's, which stamped what we sent between
// then and now. A large difference is told when it begins and when it ends.
func (l *lease) compareClocks(sent, stamped time.Time) {
	var skew time.Duration

	switch now := time.Now(); {
	case stamped.Before(sent):
		skew = stamped.Sub(sent)
	case stamped.After(now):
		skew = stamped.Sub(now)
	}

	l.mu.Lock()
	before := l.skewed
	l.skew, l.skewed = skew, skew.Abs() > skewTold
	after := l.skewed
	l.mu.Unlock()

	switch {
	case after && !before:
		text := fmt.Sprintf("Omni's clock is %s %s ours", skew.Abs().Round(time.Second), map[bool]string{true: "ahead of", false: "behind"}[skew > 0])
		l.c.log.Warn("clocks differ", "reason", text)
		l.c.tell(localapi.Event{At: time.Now(), Type: "clock", Text: text, Reason: "they should agree to within " + skewTold.String()})
	case before && !after:
		l.c.log.Info("clocks agree again")
		l.c.tell(localapi.Event{At: time.Now(), Type: "clock", Text: "our clock agrees with Omni's again"})
	}
}
