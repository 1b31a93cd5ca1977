package serve

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bmctl/bmctl/serve/localapi"
)

// TestHistoryOverRuns: what happened in an earlier run is known, what the ring and
// the log both hold comes once, and what happened before the log was opened is in it.
func TestHistoryOverRuns(t *testing.T) {
	dir, begun := t.TempDir(), time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	at := func(minute int) time.Time { return begun.Add(time.Duration(minute) * time.Minute) }

	run := func(events ...localapi.Event) *eventRing {
		s := &Server{keptIn: dir, log: slog.New(slog.DiscardHandler), events: newEventRing()}
		s.events.add(events[0])
		end := s.keepEvents()

		for _, e := range events[1:] {
			s.events.add(e)
		}

		end()

		return s.events
	}

	run(localapi.Event{At: at(1), MachineID: "a", Text: "one"}, localapi.Event{At: at(2), MachineID: "b", Text: "two"})
	ring := run(localapi.Event{At: at(4), MachineID: "a", Text: "four"}, localapi.Event{At: at(3), Text: "three"})

	for name, c := range map[string]struct {
		query localapi.HistoryQuery
		want  []string
	}{
		"all":             {localapi.HistoryQuery{}, []string{"one", "two", "three", "four"}},
		"of a machine":    {localapi.HistoryQuery{Machine: "a"}, []string{"one", "four"}},
		"since":           {localapi.HistoryQuery{Since: at(2)}, []string{"two", "three", "four"}},
		"both":            {localapi.HistoryQuery{Machine: "a", Since: at(2)}, []string{"four"}},
		"unknown machine": {localapi.HistoryQuery{Machine: "z"}, nil},
	} {
		events, err := ring.history(c.query)
		if err != nil {
			t.Fatal(err)
		}

		var got []string
		for _, e := range events {
			got = append(got, e.Text)
		}

		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestHistoryWithoutStateDir is what the ring still holds.
func TestHistoryWithoutStateDir(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler), events: newEventRing()}
	defer s.keepEvents()()

	s.events.add(localapi.Event{At: time.Now(), MachineID: "a", Text: "one"})

	if events, err := s.events.history(localapi.HistoryQuery{Machine: "a"}); len(events) != 1 || err != nil {
		t.Errorf("got %v, %v, want the one event", events, err)
	}
}
