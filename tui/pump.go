package tui

import (
	"context"
	"iter"
	"runtime/debug"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// follow reads the Source's events in batches, again and again.
func follow(ctx context.Context, src Source) tea.Cmd {
	return func() tea.Msg {
		batches := make(chan eventsMsg)
		go pump(ctx, src, batches)

		return receive(ctx, batches)()
	}
}

// receive waits for one batch; its message carries the wait for the next.
func receive(ctx context.Context, batches <-chan eventsMsg) tea.Cmd {
	return func() tea.Msg {
		select {
		case <-ctx.Done():
			return nil
		case batch := <-batches:
			if batch.panicked != nil {
				panic(batch.panicked) // here the program restores the terminal first
			}

			batch.next = receive(ctx, batches)

			return batch
		}
	}
}

// pump gathers events into batches until ctx ends. When the stream breaks it
// waits, longer each time, and goes on.
func pump(ctx context.Context, src Source, batches chan<- eventsMsg) {
	pause := time.Second

	for ctx.Err() == nil {
		events := make(chan Event)
		broken := make(chan error, 1)

		streaming, stop := context.WithCancel(ctx)
		go func() {
			defer close(events)
			defer relayPanic(ctx, batches, broken)

			broken <- stream(streaming, src.Events(streaming), events)
		}()

		if gather(ctx, events, batches) {
			pause = time.Second
		}

		stop()

		err := <-broken
		if err == nil || ctx.Err() != nil {
			return
		}

		if !send(ctx, batches, eventsMsg{err: err, retryAt: time.Now().Add(pause)}) || !sleep(ctx, pause) {
			return
		}

		pause = min(2*pause, maxRetry)
	}
}

// relayPanic hands a panic of this goroutine over to the program, which would
// otherwise leave the terminal as it is.
func relayPanic(ctx context.Context, batches chan<- eventsMsg, broken chan<- error) {
	if what := recover(); what != nil {
		broken <- nil

		send(ctx, batches, eventsMsg{panicked: &Panic{what, debug.Stack()}})
	}
}

func stream(ctx context.Context, source iter.Seq2[Event, error], events chan<- Event) error {
	for event, err := range source {
		if err != nil {
			return err
		}

		select {
		case events <- event:
		case <-ctx.Done():
			return nil
		}
	}

	return nil
}

// gather passes events on in batches until their channel is closed, and tells
// whether there was one.
func gather(ctx context.Context, events <-chan Event, batches chan<- eventsMsg) (some bool) {
	for event := range events {
		some = true
		batch := []Event{event}
		over := time.After(batching)

		for open := true; open; {
			select {
			case more, ok := <-events:
				if open = ok; ok {
					batch = append(batch, more)
				}
			case <-over:
				open = false
			}
		}

		if !send(ctx, batches, eventsMsg{events: batch}) {
			return some
		}
	}

	return some
}

func send(ctx context.Context, batches chan<- eventsMsg, batch eventsMsg) bool {
	select {
	case batches <- batch:
		return true
	case <-ctx.Done():
		return false
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
