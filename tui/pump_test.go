package tui

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// scripted is a Source whose stream of events a test writes.
type scripted struct {
	site
	run   func(ctx context.Context, yield func(Event, error) bool)
	calls atomic.Int32
}

func (s *scripted) Events(ctx context.Context) iter.Seq2[Event, error] {
	s.calls.Add(1)

	return func(yield func(Event, error) bool) { s.run(ctx, yield) }
}

// follows runs the commands that follow the events until n messages have come.
func follows(ctx context.Context, s *scripted, n int) (all []eventsMsg) {
	for cmd := follow(ctx, s); len(all) < n; {
		msg, ok := cmd().(eventsMsg)
		if !ok {
			return all
		}

		all, cmd = append(all, msg), msg.next
	}

	return all
}

// TestEventsComeInBatches: what happens within a tenth of a second is one
// redraw, what happens later another.
func TestEventsComeInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &scripted{run: func(ctx context.Context, yield func(Event, error) bool) {
			for i := range 30 {
				if !yield(Event{Type: "power", Text: itoa(i)}, nil) {
					return
				}

				time.Sleep(20 * time.Millisecond)
			}

			<-ctx.Done()
		}}

		begun := time.Now()
		total := 0

		for i, batch := range follows(ctx, s, 6) {
			if len(batch.events) < 4 || len(batch.events) > 6 || batch.err != nil {
				t.Errorf("batch %d has %d events, %v", i, len(batch.events), batch.err)
			}

			total += len(batch.events)
		}

		if took := time.Since(begun); took < 500*time.Millisecond || took > 700*time.Millisecond {
			t.Errorf("%d events in 6 batches took %v", total, took)
		}

		cancel()
		time.Sleep(maxRetry) // until all have ended
	})
}

// TestABrokenStreamIsTriedAgain after 1, 2, 4, 8 and again 8 seconds, and sooner
// once events have come.
func TestABrokenStreamIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		fails := errors.New("it breaks")
		s := &scripted{}
		s.run = func(_ context.Context, yield func(Event, error) bool) {
			if s.calls.Load() == 6 && !yield(Event{Type: "power"}, nil) {
				return
			}

			yield(Event{}, fails)
		}

		begun := time.Now()
		again := []time.Duration{1, 3, 7, 15, 23, 0, 24, 26} // seconds since it begun

		for i, msg := range follows(ctx, s, len(again)) {
			if again[i] == 0 {
				if len(msg.events) != 1 || msg.err != nil {
					t.Errorf("message %d: %d events, %v", i, len(msg.events), msg.err)
				}

				continue
			}

			if at := msg.retryAt.Sub(begun).Round(time.Second); !errors.Is(msg.err, fails) || at != again[i]*time.Second {
				t.Errorf("failure %d is tried again at %v, want %d s (%v)", i, at, again[i], msg.err)
			}
		}

		if took := time.Since(begun).Round(time.Second); took != 24*time.Second {
			t.Errorf("it took %v, want 24s", took)
		}

		cancel()
		time.Sleep(maxRetry) // until all have ended
	})
}

// TestTheEndEndsTheStream wherever it waits.
func TestTheEndEndsTheStream(t *testing.T) {
	for name, run := range map[string]func(ctx context.Context, yield func(Event, error) bool){
		"for an event":  func(ctx context.Context, _ func(Event, error) bool) { <-ctx.Done() },
		"for the pause": func(_ context.Context, yield func(Event, error) bool) { yield(Event{}, errors.New("broken")) },
		"for a reader": func(_ context.Context, yield func(Event, error) bool) {
			for yield(Event{}, nil) {
				time.Sleep(time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
				defer cancel()

				cmd := follow(ctx, &scripted{run: run})
				for msg := cmd(); msg != nil; {
					msg = msg.(eventsMsg).next()
				}

				if ctx.Err() == nil {
					t.Error("it ended before its context")
				}

				time.Sleep(maxRetry) // and leaves no goroutine behind, or the bubble complains
			})
		})
	}
}

// TestASourceThatPanicsInItsOwnGoroutine panics where the program can restore
// the terminal.
func TestASourceThatPanicsInItsOwnGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{run: func(context.Context, func(Event, error) bool) { panic("forced") }}

		defer func() {
			caught, ok := recover().(*Panic)
			if !ok || caught.Value != "forced" || len(caught.Stack) == 0 {
				t.Errorf("recovered %v", caught)
			}
		}()

		follow(t.Context(), s)()
	})
}

// TestAPanicAnywhereEndsTheProgramOnce: the first one counts, and the model
// stays as it was.
func TestAPanicAnywhereEndsTheProgramOnce(t *testing.T) {
	quits := make(chan struct{}, 10)
	caught := &crash{quit: func() { quits <- struct{}{} }}
	fine := guarded{explosive{}, caught}

	if caught.err() != nil {
		t.Fatal("a panic before any")
	}

	if next, cmd := fine.Update("fine"); cmd != nil || next.(guarded).Model != (explosive{}) {
		t.Errorf("%v, a command: %t", next, cmd != nil)
	}

	next, _ := fine.Update("update")
	if next.(guarded).Model != (explosive{}) {
		t.Errorf("after a panic the model is %v", next)
	}

	<-quits

	if view := (guarded{explosive{view: true}, caught}).View(); view != "" {
		t.Errorf("the view that panicked is %q", view)
	}

	_, cmd := fine.Update("command")
	cmd()

	_, cmd = fine.Update("batch")
	for _, each := range cmd().(tea.BatchMsg) {
		each()
	}

	var first *Panic
	if err := caught.err(); !errors.As(err, &first) || first.Value != "update" || first.Error() != "panic: update" {
		t.Errorf("the first panic is %v", err)
	}

	if len(quits) > 0 {
		t.Error("it ends more than once")
	}
}

// explosive is a model that panics where it is told to.
type explosive struct{ view bool }

func (e explosive) Init() tea.Cmd { return nil }

func (e explosive) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	bang := func() tea.Msg { panic("later") }

	switch msg {
	case "update":
		panic("update")
	case "command":
		return e, bang
	case "batch":
		return e, tea.Batch(bang, bang)
	default:
		return e, nil
	}
}

func (e explosive) View() string {
	if e.view {
		panic("view")
	}

	return "fine"
}
