package tui

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Options are the ways of the view. The zero value is usable.
type Options struct {
	// Theme is one of Themes; empty means auto.
	Theme string
	// ASCII draws with ASCII alone.
	ASCII bool
	// Plain leaves out every style, bold and faint too.
	Plain bool
	// ReadOnly refuses every act but the console.
	ReadOnly bool
	// ReducedMotion stops the spinner.
	ReducedMotion bool
	// NoMouse leaves the mouse to the terminal, for its own selection.
	NoMouse bool
	// Refresh is how often the snapshot is taken without an event; 0 means 5 s.
	Refresh time.Duration
	// Copy puts text into the clipboard; nil: the terminal is asked to.
	Copy func(text string) error
}

// pane is one of the machine's panes.
type pane int

const (
	paneDetails pane = iota
	paneBoot
	paneEvents
	paneConsole
	paneLog
	panes // their number
)

func (p pane) String() string {
	return [...]string{"Details", "Boot", "Events", "Console", "Log"}[p]
}

// Model is the whole state of the view. Update returns a changed copy; what
// copies share is never written.
type Model struct {
	src   Source
	ctx   context.Context //nolint:containedctx // handed to commands only: it ends them with the program
	opts  Options
	theme *theme
	keys  keyMap

	w, h int
	now  time.Time

	rows    []row          // all machines
	byID    map[string]int // raw id -> index in rows
	shown   []*row         // those that pass the filter, in order
	columns []column       // as wide as the shown machines need
	tally   tally

	cursor   int             // index in shown
	cursorID string          // raw id of that machine: the cursor stays with it
	top      int             // first line of the table
	selected map[string]bool // raw ids
	anchor   string          // where the range began; empty: none

	filter  filter
	sort    sortKey
	reverse bool

	pane   pane
	open   bool // the pane stands in place of the table
	scroll int  // of the pane
	modal  modal

	health   Health
	cannot   map[Verb]string
	loaded   bool      // a snapshot has come
	asOf     time.Time // of the newest snapshot
	failure  error     // of the newest attempt; nil: it succeeded
	failedAt time.Time // when failures began
	fetching bool
	dirty    bool // something happened since the snapshot was asked for

	streamErr error // the events broke off
	retryAt   time.Time

	events ring[Event]
	log    ring[logLine]
	jobs   []job
	jobSeq int
	notice notice
	beat   int // of the spinner
	click  int // line of the last click, -1: none or long ago
}

// notice is the line above the keys.
type notice struct {
	text string
	role role
	at   time.Time
}

// filter is what narrows the table.
type filter struct {
	expr  string
	match func(Row) bool
}

// tally counts the machines for the top line.
type tally struct{ on, off, booting, unknown, pending int }

// logLine is what was done from here, or what came of it.
type logLine struct {
	at   time.Time
	text string
	role role
}

// job is an act under way.
type job struct {
	id           int
	what         string
	total        int
	done, failed int
}

// New returns the view of src at the time now. The context ends its commands.
func New(ctx context.Context, src Source, opts Options, now time.Time) (Model, error) {
	if opts.Refresh <= 0 {
		opts.Refresh = 5 * time.Second
	}

	looks, err := newTheme(opts.Theme, opts.ASCII, opts.Plain)
	if err != nil {
		return Model{}, err
	}

	m := Model{
		src: src, ctx: ctx, opts: opts, theme: &looks, keys: newKeyMap(), now: now, selected: map[string]bool{}, pane: paneBoot,
		events: newRing[Event](ringLimit), log: newRing[logLine](ringLimit), click: -1, fetching: true,
	}
	m.measure()

	return m, nil
}

func (m *Model) tooSmall() bool { return m.w < minWidth || m.h < minHeight }

func (m *Model) say(r role, text string) { m.notice = notice{clean(text), r, m.now} }

func (m *Model) record(r role, text string) {
	m.log = m.log.push(logLine{m.now, clean(text), r})
}

// at returns the machine under the cursor, or nil.
func (m *Model) at() *row {
	if m.cursor < 0 || m.cursor >= len(m.shown) {
		return nil
	}

	return m.shown[m.cursor]
}

// targets are the machines that an act is about: those selected, else the one
// under the cursor. Selected ones that the filter hides count too; the
// confirmation names every one. They are in no order.
func (m *Model) targets() []*row {
	if len(m.selected) == 0 {
		if r := m.at(); r != nil {
			return []*row{r}
		}

		return nil
	}

	var chosen []*row

	for i := range m.rows {
		if m.selected[m.rows[i].raw] {
			chosen = append(chosen, &m.rows[i])
		}
	}

	return chosen
}

// arrange filters and sorts the machines anew.
func (m *Model) arrange() {
	shown := make([]*row, 0, len(m.rows))

	for i := range m.rows {
		if m.filter.match == nil || m.filter.match(m.rows[i].Row) {
			shown = append(shown, &m.rows[i])
		}
	}

	order(shown, m.sort, m.reverse)
	m.shown = shown
	m.measure()

	if i := slices.IndexFunc(shown, func(r *row) bool { return r.raw == m.cursorID }); i >= 0 {
		m.cursor = i
	}
}

// settle brings the cursor, the range and the scroll positions back into bounds.
func (m *Model) settle() {
	m.cursor = max(0, min(m.cursor, len(m.shown)-1))
	m.cursorID = ""

	if r := m.at(); r != nil {
		m.cursorID = r.raw
	}

	if lines := m.rects().Table.H; lines > 0 {
		m.top = max(0, min(m.top, m.cursor, len(m.shown)-lines), m.cursor-lines+1)
	}

	m.scroll = max(0, min(m.scroll, m.paneOverflow()))
}

func (m *Model) rects() rects {
	return layout(m.w, m.h, showing{notice: m.bannerText() != "", filter: m.filterShown(), open: m.open, rows: len(m.rows)})
}

// setFilter narrows the table; a bad expression is said and leaves it as it was.
func (m *Model) setFilter(expr string) error {
	match, err := m.src.Filter(expr)
	if err != nil {
		return err
	}

	if expr == "" {
		match = nil
	}

	m.filter = filter{expr, match}
	m.arrange()

	return nil
}

func (m *Model) toggle(ids ...string) {
	m.selected = maps.Clone(m.selected)

	for _, id := range ids {
		if m.selected[id] {
			delete(m.selected, id)
		} else {
			m.selected[id] = true
		}
	}
}
