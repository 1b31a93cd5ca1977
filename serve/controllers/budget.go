package controllers

import (
	"slices"
	"time"
)

// budgetWindow is the time over which disruptions are counted.
const budgetWindow = 10 * time.Minute

// budget counts disruptions of allocated machines over the fleet: it bounds what
// one mistake can do. It is guarded by Controller.mu.
type budget struct{ taken []time.Time }

// left tells whether another disruption fits.
func (b *budget) left(limit int) bool {
	for len(b.taken) > 0 && time.Since(b.taken[0]) >= budgetWindow {
		b.taken = b.taken[1:]
	}

	return len(b.taken) < limit
}

// take notes a disruption, if it fits.
func (b *budget) take(limit int) bool {
	if !b.left(limit) {
		return false
	}

	b.taken = append(b.taken, time.Now())

	return true
}

// seed notes the disruptions of our last run, as far as they were recorded: a
// restart must not double what one mistake can do.
func (b *budget) seed(machines []Machine) {
	for _, m := range machines {
		if m.Reboot == nil || m.Infra == nil || !m.facts().Allocated {
			continue
		}

		at := m.Reboot.TypedSpec().Value.LastRebootTimestamp.AsTime()
		if since := time.Since(at); since >= 0 && since < budgetWindow {
			b.taken = append(b.taken, at)
		}
	}

	slices.SortFunc(b.taken, time.Time.Compare)
}
