package tui

// ring keeps the newest entries and counts those it dropped. It is a value: push
// leaves earlier copies as they were.
type ring[T any] struct {
	items   []T // oldest first
	dropped int
	limit   int
}

// ringLimit is how many events and log lines are kept.
const ringLimit = 2000

func newRing[T any](limit int) ring[T] { return ring[T]{limit: limit} }

func (r ring[T]) push(more ...T) ring[T] {
	all := append(r.items[:len(r.items):len(r.items)], more...)
	if over := len(all) - r.limit; over > 0 {
		all = append([]T(nil), all[over:]...)
		r.dropped += over
	}

	r.items = all

	return r
}
