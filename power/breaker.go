package power

import (
	"math/rand/v2"
	"sync"
	"time"
)

// A controller that did not answer several times in a row is left alone by
// polls for a while: from patience failures on, for a random part of a time
// that doubles with each further one ("full jitter", so that a thousand
// controllers behind one dead switch are not all asked again at once).
const (
	breakerPatience = 3
	breakerFirst    = 2 * time.Second
	breakerLongest  = time.Minute
)

// breaker counts the calls in a row that had no answer.
type breaker struct {
	mu       sync.Mutex
	failures int
	until    time.Time
}

// rest is how long the controller is left alone yet, after how many failures.
func (b *breaker) rest(now time.Time) (time.Duration, int) {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.until.Sub(now), b.failures
}

// answered closes the breaker.
func (b *breaker) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.failures, b.until = 0, time.Time{}
}

// silent counts a call without an answer.
func (b *breaker) silent(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()

	b.failures++
	if b.failures >= breakerPatience {
		b.until = now.Add(rand.N(breakerSpan(b.failures)))
	}
}

// breakerSpan is the longest rest after so many failures.
func breakerSpan(failures int) time.Duration {
	span := breakerFirst
	for range failures - breakerPatience {
		if span *= 2; span >= breakerLongest {
			return breakerLongest
		}
	}

	return span
}
