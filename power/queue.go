package power

import (
	"context"
	"slices"
	"sync"
	"time"
)

// priority orders the calls that wait for one controller.
type priority int

// The priorities, the most urgent first.
const (
	priorityAct priority = iota
	priorityVerify
	priorityPoll
)

// queue lets one exchange at a time through to a controller, the more urgent
// first and equally urgent ones in the order in which they came.
type queue struct {
	mu      sync.Mutex
	busy    bool
	waiting []*ticket
}

type ticket struct {
	priority priority
	turn     chan struct{}
}

// enter waits for the caller's turn. On success leave must be called.
func (q *queue) enter(ctx context.Context, p priority) error {
	q.mu.Lock()
	if !q.busy {
		q.busy = true
		q.mu.Unlock()

		return nil
	}

	t := &ticket{priority: p, turn: make(chan struct{})}
	at, _ := slices.BinarySearchFunc(q.waiting, p+1, func(w *ticket, p priority) int { return int(w.priority - p) })
	q.waiting = slices.Insert(q.waiting, at, t)
	q.mu.Unlock()

	since := time.Now()

	select {
	case <-t.turn:
		return nil
	case <-ctx.Done():
		q.giveUp(t)

		return fail(ErrBusy, "other calls to this controller were still under way after %s",
			time.Since(since).Round(100*time.Millisecond)).because(ctx.Err())
	}
}

// giveUp leaves the line; a turn that has come at the same moment is passed on.
func (q *queue) giveUp(t *ticket) {
	q.mu.Lock()
	i := slices.Index(q.waiting, t)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	q.mu.Unlock()

	if i < 0 {
		q.leave()
	}
}

// leave lets the next one through.
func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()

	if len(q.waiting) == 0 {
		q.busy = false

		return
	}

	next := q.waiting[0]
	q.waiting = q.waiting[1:]
	close(next.turn)
}
