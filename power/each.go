package power

import (
	"context"
	"iter"
	"sync"
)

// Result is what came of one target of Each.
type Result[T any] struct {
	// Index is the target's place in the list given to Each.
	Index  int
	Target Target
	Value  T
	Err    error
}

// Each opens a conversation with every target, at most parallel of them at a
// time (at least one), calls do, and closes the conversation. The results come
// in the order in which they are there; a target counts until its result is read.
// Who stops reading cancels the rest; when the iteration has ended nothing of it
// runs any more.
//
// A target of a Dialer that is silent from the start does not count for longer
// than half a second, so that dark controllers delay nobody. Should it answer
// later, it waits until it counts again before its next exchange; do's context is
// how that is known, so do's calls need it or one made from it.
func Each[T any](
	ctx context.Context, opener Opener, parallel int, targets []Target,
	do func(context.Context, BMC, Target) (T, error),
) iter.Seq[Result[T]] {
	return func(yield func(Result[T]) bool) {
		ctx, cancel := context.WithCancel(ctx)
		results := make(chan Result[T])
		work := make(chan int)
		places := make(chan struct{}, max(parallel, 1))

		var workers sync.WaitGroup
		for range min(cap(places)+mostWithout, len(targets)) {
			workers.Go(func() {
				for i := range work {
					place := &slot{places: places}
					results <- visit(withSlot(ctx, place), opener, i, targets[i], do)
					place.leave() // not earlier: who reads and stops, stops what is next
				}
			})
		}

		go func() {
			defer close(results)

			// A cancelled iteration visits the rest too: the calls fail at once,
			// and so every target has its result.
			for i := range targets {
				work <- i
			}

			close(work)
			workers.Wait()
		}()

		reading := true
		for r := range results {
			if reading && !yield(r) {
				reading = false
				cancel()
			}
		}

		cancel()
	}
}

func visit[T any](
	ctx context.Context, opener Opener, index int, target Target,
	do func(context.Context, BMC, Target) (T, error),
) Result[T] {
	r := Result[T]{Index: index, Target: target}

	// Who was cancelled gets none and needs none: its calls fail at once.
	_ = slotOf(ctx).take(ctx)

	bmc, err := opener.Open(ctx, target)
	if err != nil {
		r.Err = err

		return r
	}

	r.Value, r.Err = do(ctx, bmc, target)

	// The session ends by itself where the controller cannot be told any more.
	if err := bmc.Close(); err != nil && r.Err == nil && ctx.Err() == nil {
		r.Err = err
	}

	return r
}
