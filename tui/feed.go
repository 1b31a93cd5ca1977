package tui

import (
	"context"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// The messages of the Source and the clock.
type (
	snapshotMsg struct {
		rows   []row
		byID   map[string]int
		tally  tally
		health Health
		cannot map[Verb]string
		at     time.Time
		err    error
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

		return arrived(snapshot, err, time.Now())
	}
}

// arrived makes a snapshot ready to be shown: its texts harmless, a machine that
// stands twice taken once. It is done in the command, for it takes its time among
// many machines.
func arrived(s Snapshot, err error, now time.Time) snapshotMsg {
	if err != nil {
		return snapshotMsg{err: err, at: now}
	}

	if s.At.IsZero() {
		s.At = now
	}

	msg := snapshotMsg{rows: make([]row, 0, len(s.Rows)), byID: make(map[string]int, len(s.Rows)), health: cleanHealth(s.Health), cannot: s.Cannot, at: s.At}

	for _, r := range s.Rows {
		if at, twice := msg.byID[r.ID]; twice {
			msg.rows[at] = newRow(r)

			continue
		}

		msg.byID[r.ID] = len(msg.rows)
		msg.rows = append(msg.rows, newRow(r))
	}

	msg.tally = tallyOf(msg.rows)

	return msg
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
	m.asOf, m.health, m.cannot = msg.at, msg.health, msg.cannot
	m.rows, m.byID, m.tally = msg.rows, msg.byID, msg.tally
	m.keepSelected()
	m.arrange()

	return m, cmd
}

func cleanHealth(h Health) Health {
	for _, text := range []*string{&h.Source, &h.Omni, &h.Serve, &h.OmniError, &h.Notice} {
		*text = clean(*text)
	}

	return h
}

// keepSelected drops the selected machines that are gone.
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

func tallyOf(rows []row) tally {
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
		for _, text := range []*string{&e.MAC, &e.Type, &e.Text, &e.Reason, &e.Address, &e.Interface, &e.Arch, &e.File, &e.Decision} {
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
