package cli

import (
	"testing"
	"time"

	"github.com/bmctl/bmctl/serve/localapi"
)

func TestEarlier(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	events := []localapi.Event{
		{At: now.Add(-72 * time.Hour), Text: "kernel"}, {At: now.Add(-50 * time.Hour), Text: "wiped"}, {At: now.Add(-time.Minute), Text: "script: agent"},
	}

	for want, c := range map[string]struct {
		events    []localapi.Event
		firstSeen time.Time
	}{
		"earlier: nothing in the event log":                                                            {nil, now},
		"earlier: it was here 3d ago; 2 events, the last: wiped 2d ago (2026-11-20T10:00:00Z)":         {events, now.Add(-2 * time.Minute)},
		"earlier: it was here 3d ago; 3 events, the last: script: agent 1m ago (2026-11-22T11:59:00Z)": {events, time.Time{}},
		"earlier: it was here 3d ago; 1 event, the last: kernel 3d ago (2026-11-19T12:00:00Z)":         {events, now.Add(-50 * time.Hour)},
	} {
		if got := earlier(c.events, c.firstSeen, now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
