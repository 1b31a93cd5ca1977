package power

import (
	"context"
	"math/rand/v2"
	"time"
)

// pause is a growing wait with jitter: each one is between half and all of its
// length.
type pause struct{ next, longest time.Duration }

func newPause(first, longest time.Duration) *pause { return &pause{first, longest} }

// wait tells whether there is time for another try.
func (p *pause) wait(ctx context.Context) bool {
	length := p.next/2 + rand.N(p.next/2+1)
	p.next = min(2*p.next, p.longest)

	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < length {
		// The last look is worth more than the last pause.
		length = time.Until(deadline) / 2
	}

	if length < 10*time.Millisecond {
		return false
	}

	timer := time.NewTimer(length)
	defer timer.Stop()

	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
