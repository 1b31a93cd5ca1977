package boot

import (
	"context"
	"log/slog"
	"strings"
	"testing"
)

func TestTheRecorderLosesNothingAtTheEnd(t *testing.T) {
	seen := 0
	r := newRecorder(slog.New(slog.DiscardHandler), func(Event) { seen++ })
	for range 100 {
		r.ignored(Event{}, "test")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r.run(ended)
	if seen != 100 {
		t.Errorf("%d of 100 events were observed", seen)
	}
}

func TestTheRecorderTellsWhatItDropped(t *testing.T) {
	var reasons []string
	r := newRecorder(slog.New(slog.DiscardHandler), func(e Event) { reasons = append(reasons, e.Reason) })
	for range recordQueue + 5 {
		r.ignored(Event{}, "test")
	}
	r.drain()
	if len(reasons) != recordQueue+1 || !strings.HasPrefix(reasons[1], "5 events came faster") {
		t.Errorf("%d events, the second %q", len(reasons), reasons[1])
	}
}
