package serve

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/eventlog"
	"github.com/bmctl/bmctl/serve/localapi"
)

// eventRing keeps the latest events and wakes those who follow them. The zero
// value is not usable: see newEventRing.
type eventRing struct {
	mu     sync.Mutex
	events []localapi.Event // oldest first, at most eventsKept
	seq    uint64           // of the newest
	more   chan struct{}    // closed when an event is added
	log    *eventlog.Log    // nil: events do not outlive serve
}

// typeBMC is the type of the events of how a BMC is spoken to.
const typeBMC = "bmc"

// eventsKept bounds the ring.
const eventsKept = 4096

func newEventRing() *eventRing { return &eventRing{more: make(chan struct{})} }

// add appends an event; it never waits for those who follow.
func (r *eventRing) add(e localapi.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.seq++
	e.Seq = r.seq
	r.events = append(r.events, e)

	if len(r.events) > 2*eventsKept {
		r.events = append([]localapi.Event(nil), r.events[len(r.events)-eventsKept:]...)
	}

	close(r.more)
	r.more = make(chan struct{})

	if r.log != nil {
		r.log.Add(e)
	}
}

// keepIn has all events from now on, and those of this run, written to the log.
func (r *eventRing) keepIn(log *eventlog.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()

	for _, e := range r.events {
		log.Add(e)
	}

	r.log = log
}

// kept is the log, or nil.
func (r *eventRing) kept() *eventlog.Log {
	r.mu.Lock()
	defer r.mu.Unlock()

	return r.log
}

// history returns what happened in this run and, as far as it is kept, in earlier
// ones. What this run wrote to the log counts once.
func (r *eventRing) history(query localapi.HistoryQuery) (events []localapi.Event, err error) {
	if log := r.kept(); log != nil && query.Machine != "" {
		events, err = log.Of(query.Machine)
	} else if log != nil {
		events, err = log.Since(query.Since)
	}

	current, _, _ := r.after(0)
	events = append(events, current...)

	events = slices.DeleteFunc(events, func(e localapi.Event) bool {
		return e.At.Before(query.Since) || query.Machine != "" && e.MachineID != query.Machine
	})
	slices.SortStableFunc(events, func(a, b localapi.Event) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Seq, b.Seq))
	})

	return slices.CompactFunc(events, func(a, b localapi.Event) bool { return a.Seq == b.Seq && a.At.Equal(b.At) }), err
}

// after returns the events newer than since, and what to wait for when there are none.
func (r *eventRing) after(since uint64) ([]localapi.Event, uint64, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if since == localapi.Now {
		return nil, r.seq, r.more
	}

	if since > r.seq { // of an earlier run
		since = 0
	}

	kept := r.events[max(0, len(r.events)-eventsKept):]
	for len(kept) > 0 && kept[0].Seq <= since {
		kept = kept[min(len(kept), int(since-kept[0].Seq)+1):] //nolint:gosec // bounded by eventsKept
	}

	return append([]localapi.Event(nil), kept...), r.seq, r.more
}

// follow yields events newer than since and then new ones, until ctx ends.
func (r *eventRing) follow(ctx context.Context, since uint64) iter.Seq[localapi.Event] {
	return func(yield func(localapi.Event) bool) {
		for {
			events, newest, more := r.after(since)
			since = newest

			for _, e := range events {
				if !yield(e) {
					return
				}
			}

			select {
			case <-ctx.Done():
				return
			case <-more:
			}
		}
	}
}

// bootEvent is a step of a machine's boot as people are shown it.
func bootEvent(e boot.Event) localapi.Event {
	text := string(e.Type)
	if e.Type == boot.EventRival {
		text += " " + e.Addr.String()
	}

	if e.File != "" {
		text += " " + e.File
	}

	shown := localapi.Event{
		At: e.Time, MachineID: e.UUID, MAC: e.MAC, Type: string(e.Type), Text: text, Reason: e.Reason,
		Interface: e.Interface, Firmware: e.Firmware, Arch: e.Arch, File: e.File, Bytes: e.Bytes, DurationSeconds: e.Duration.Seconds(),
	}

	if e.Addr.IsValid() && !e.Addr.IsUnspecified() {
		shown.Address = e.Addr.String()
	}

	if e.Type == boot.EventScript {
		shown.Decision = e.Decision.String()
		shown.Text += ": " + shown.Decision
	}

	return shown
}

// redfishFallback is power.Options.Fallback: which protocol a BMC is spoken to
// in, where that is not the one that was hoped for, happens to its machine.
func (s *Server) redfishFallback(target power.Target, reason error) {
	event := localapi.Event{At: time.Now(), MachineID: target.UUID, Type: typeBMC}

	if reason != nil {
		event.Text, event.Reason = "BMC "+target.Address+" does not let us in over Redfish: IPMI is spoken for now", reason.Error()
	} else {
		event.Text = "BMC " + target.Address + " lets us in over Redfish again"
	}

	s.events.add(event)
}
