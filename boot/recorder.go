package boot

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// recordQueue is how many records wait for a slow log or observer.
const recordQueue = 8192

// record is an event with what the log says of it; an event without a type is
// for the log alone.
type record struct {
	event Event
	level slog.Level
	text  string
	attrs []slog.Attr
}

// recorder takes the log and the observer out of the packets' way: with a write
// to a file for each packet a responder was measured to lose most of them. What
// finds the queue full is dropped and counted.
type recorder struct {
	log     *slog.Logger
	observe func(Event)
	queue   chan record
	dropped atomic.Int64
}

func newRecorder(log *slog.Logger, observe func(Event)) *recorder {
	return &recorder{log: log, observe: observe, queue: make(chan record, recordQueue)}
}

// post hands a record over; it never blocks.
func (r *recorder) post(rec record) {
	rec.event.Time = time.Now()
	select {
	case r.queue <- rec:
	default:
		r.dropped.Add(1)
	}
}

// ignored posts that something got no answer, and why.
func (r *recorder) ignored(event Event, reason string) {
	event.Type, event.Reason = EventIgnored, reason
	r.post(record{event: event, level: slog.LevelDebug, text: "ignored", attrs: []slog.Attr{
		slog.String("mac", event.MAC), slog.String("source", event.Addr.String()), slog.String("reason", reason),
	}})
}

// run writes records until the context ends and the queue is empty.
func (r *recorder) run(ctx context.Context) {
	for {
		select {
		case rec := <-r.queue:
			r.write(rec)
		case <-ctx.Done():
			r.drain()
			return
		}
	}
}

func (r *recorder) drain() {
	for {
		select {
		case rec := <-r.queue:
			r.write(rec)
		default:
			return
		}
	}
}

func (r *recorder) write(rec record) {
	r.log.LogAttrs(context.Background(), rec.level, rec.text, rec.attrs...)
	if rec.event.Type != "" {
		r.observe(rec.event)
	}
	if n := r.dropped.Swap(0); n > 0 {
		reason := fmt.Sprintf("%d events came faster than they could be recorded", n)
		r.log.Warn("events dropped", "reason", reason)
		r.observe(Event{Type: EventIgnored, Time: time.Now(), Reason: reason})
	}
}
