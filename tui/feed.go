package tui

import (
	"context"
	"iter"
	"runtime/debug"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// The messages of the Source and the clock.
type (
	snapshotMsg struct {
		Snapshot
		err error
		at  time.Time
	}
	eventsMsg struct {
		events   []Event
		err      error     // the stream broke
		retryAt  time.Time // when it is tried again
		panicked *Panic    // what the Source panicked with
		next     tea.Cmd
	}
	tickMsg    time.Time
	refreshMsg struct{}
	askMsg     struct{}
	resultMsg  struct {
		job    int
		result Result
		next   tea.Cmd
	}
	doneMsg    struct{ job int }
	clickedMsg struct{}
)

const (
	// batching is how long events are gathered before they are shown: ten redraws
	// a second are enough for a slow line.
	batching = 100 * time.Millisecond
	// snapshotTimeout limits one snapshot.
	snapshotTimeout = 20 * time.Second
	maxRetry        = 8 * time.Second
	noticeLasts     = 8 * time.Second
)

func tick() tea.Cmd { return tea.Tick(time.Second, func(at time.Time) tea.Msg { return tickMsg(at) }) }

func (m Model) refresh() tea.Cmd {
	return tea.Tick(m.opts.Refresh, func(time.Time) tea.Msg { return refreshMsg{} })
}

// fetch takes a snapshot.
func (m Model) fetch() tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(m.ctx, snapshotTimeout)
		defer cancel()

		snapshot, err := m.src.Snapshot(ctx)

		return snapshotMsg{snapshot, err, time.Now()}
	}
}

// ask takes a snapshot, unless one is under way: then another follows it.
func (m Model) ask() (Model, tea.Cmd) {
	if m.fetching {
		m.dirty = true

		return m, nil
	}

	m.fetching, m.dirty = true, false

	return m, m.fetch()
}

func (m Model) onSnapshot(msg snapshotMsg) (Model, tea.Cmd) {
	m.fetching = false

	var cmd tea.Cmd
	if m.dirty {
		cmd = tea.Tick(batching, func(time.Time) tea.Msg { return askMsg{} })
	}

	if msg.err != nil {
		if m.failure == nil {
			m.failedAt = m.now
		}

		m.failure = msg.err

		return m, cmd
	}

	m.failure, m.loaded = nil, true
	m.asOf = msg.At

	if m.asOf.IsZero() {
		m.asOf = msg.at
	}

	m.health, m.cannot = cleanHealth(msg.Health), msg.Cannot
	m.take(msg.Rows)

	return m, cmd
}

func cleanHealth(h Health) Health {
	for _, text := range []*string{&h.Source, &h.Omni, &h.Serve, &h.OmniError, &h.Notice} {
		*text = clean(*text)
	}

	return h
}

// take replaces the machines. One that stands twice counts once; selected ones
// that are gone are selected no more.
func (m *Model) take(rows []Row) {
	fresh := make([]row, 0, len(rows))
	index := make(map[string]int, len(rows))

	for _, r := range rows {
		if at, twice := index[r.ID]; twice {
			fresh[at] = newRow(r)

			continue
		}

		index[r.ID] = len(fresh)
		fresh = append(fresh, newRow(r))
	}

	m.rows, m.byID = fresh, index
	m.tally = count4(fresh)
	m.keepSelected()
	m.arrange()
}

func (m *Model) keepSelected() {
	gone := false

	for id := range m.selected {
		if _, there := m.byID[id]; !there {
			gone = true
		}
	}

	if !gone {
		return
	}

	kept := map[string]bool{}

	for id := range m.selected {
		if _, there := m.byID[id]; there {
			kept[id] = true
		}
	}

	m.selected = kept
}

func count4(rows []row) tally {
	var t tally

	for i := range rows {
		r := &rows[i]

		switch {
		case r.booting():
			t.booting++
		case r.Power == "on":
			t.on++
		case r.Power == "off":
			t.off++
		default:
			t.unknown++
		}

		if r.Status == "pending" {
			t.pending++
		}
	}

	return t
}

func (m Model) onEvents(msg eventsMsg) (Model, tea.Cmd) {
	m.streamErr, m.retryAt = msg.err, msg.retryAt

	if len(msg.events) == 0 {
		return m, msg.next
	}

	events := make([]Event, len(msg.events))
	for i, e := range msg.events {
		for _, text := range []*string{&e.MAC, &e.Type, &e.Text, &e.Reason} {
			*text = clean(*text)
		}

		events[i] = e
	}

	m.events = m.events.push(events...)
	next, cmd := m.ask()

	return next, tea.Batch(cmd, msg.next)
}

func (m Model) onTick(at tickMsg) (Model, tea.Cmd) {
	m.now = time.Time(at).In(m.now.Location())
	m.beat++

	if m.notice.text != "" && m.now.Sub(m.notice.at) > noticeLasts {
		m.notice = notice{}
	}

	return m, tick()
}

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
func gather(ctx context.Context, events <-chan Event, batches chan<- eventsMsg) (any bool) {
	for event := range events {
		any = true
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
			return any
		}
	}

	return any
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
