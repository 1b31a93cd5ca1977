package tui

import (
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// moveKey moves the cursor, or scrolls the pane that stands in place of the
// table.
func moveKey(m Model, msg tea.KeyMsg) (Model, tea.Cmd, bool) {
	lines := max(1, m.rects().Table.H)
	if m.open {
		lines = max(1, m.rects().Pane.H)
	}

	steps := map[*key.Binding]int{
		&m.keys.Up: -1, &m.keys.Down: 1, &m.keys.PageUp: -lines / 2, &m.keys.PageDown: lines / 2,
		&m.keys.Top: -1 << 30, &m.keys.Bottom: 1 << 30,
	}

	for binding, step := range steps {
		if key.Matches(msg, *binding) {
			m.move(step)

			return m, nil, true
		}
	}

	return m, nil, false
}

func (m *Model) move(step int) {
	if m.open {
		m.scroll += step
		if m.scroll < 0 {
			m.scroll = 0
		}

		return
	}

	m.moveTo(m.cursor + step)
}

func (m *Model) moveTo(index int) {
	m.cursor = max(0, min(index, len(m.shown)-1))
	m.scroll = 0

	if m.anchor != "" {
		m.selectRange()
	}
}

// selectRange selects everything between the anchor and the cursor.
func (m *Model) selectRange() {
	from := slices.IndexFunc(m.shown, func(r *row) bool { return r.raw == m.anchor })
	if from < 0 || m.at() == nil {
		m.anchor = ""

		return
	}

	chosen := map[string]bool{}
	for _, r := range m.shown[min(from, m.cursor) : max(from, m.cursor)+1] {
		chosen[r.raw] = true
	}

	m.selected = chosen
}

// chooseKey selects machines.
func chooseKey(m Model, msg tea.KeyMsg) (Model, tea.Cmd, bool) {
	r := m.at()

	switch {
	case key.Matches(msg, m.keys.Select) && r != nil:
		m.anchor = ""
		m.toggle(r.raw)

		if !m.open {
			m.moveTo(m.cursor + 1)
		}
	case key.Matches(msg, m.keys.Range) && r != nil:
		if m.anchor != "" {
			m.anchor = "" // the range stands

			break
		}

		m.anchor = r.raw
		m.selectRange()
	case key.Matches(msg, m.keys.All):
		m.selectAll()
	default:
		return m, nil, false
	}

	return m, nil, true
}

// selectAll selects every machine shown, or none when all of them are.
func (m *Model) selectAll() {
	m.anchor = ""
	all := map[string]bool{}

	for _, r := range m.shown {
		if !m.selected[r.raw] {
			for _, r := range m.shown {
				all[r.raw] = true
			}

			break
		}
	}

	m.selected = all
}

// lookKey opens panes, filters and sorts.
func lookKey(m Model, msg tea.KeyMsg) (Model, tea.Cmd, bool) {
	switch {
	case key.Matches(msg, m.keys.Open):
		if m.open && m.pane == paneConsole {
			next, cmd := m.console()

			return next, cmd, true
		}

		m.open = m.at() != nil
	case key.Matches(msg, m.keys.NextPane):
		m.show((m.pane + 1) % panes)
	case key.Matches(msg, m.keys.Pane):
		m.show(pane(msg.Runes[0] - '1'))
	case key.Matches(msg, m.keys.Log):
		m.show(paneLog)
	case key.Matches(msg, m.keys.Back):
		m.back()
	case key.Matches(msg, m.keys.Sort):
		m.sort = (m.sort + 1) % sortKeys
		m.reorder()
	case key.Matches(msg, m.keys.Reverse):
		m.reverse = !m.reverse
		m.reorder()
	case key.Matches(msg, m.keys.Next):
		m.nextMatch(1)
	case key.Matches(msg, m.keys.Previous):
		m.nextMatch(-1)
	default:
		return m, nil, false
	}

	return m, nil, true
}

// show brings the pane up: below the table where there is room, else in its
// place.
func (m *Model) show(p pane) {
	m.pane, m.scroll = p, 0

	if m.rects().Pane.H == 0 && m.at() != nil {
		m.open = true
	}
}

// back takes back one thing: the pane, the range, the selection, the filter.
func (m *Model) back() {
	switch {
	case m.open:
		m.open, m.scroll = false, 0
	case m.anchor != "" || len(m.selected) > 0:
		m.anchor, m.selected = "", map[string]bool{}
	case m.filter.expr != "":
		m.filter = filter{}
		m.arrange()
	}
}

func (m *Model) reorder() {
	m.arrange()

	direction := ""
	if m.reverse {
		direction = ", reversed"
	}

	i := slices.IndexFunc(m.columns, func(c column) bool { return c.key == m.sort })
	m.say(plain, "sorted by "+strings.ToLower(m.columns[i].head)+direction)
}

// nextMatch goes to the next machine that the filter shows, around the end.
func (m *Model) nextMatch(step int) {
	if n := len(m.shown); n > 0 {
		m.moveTo((m.cursor + step + n) % n)
	}
}

// moreKey is what remains.
func moreKey(m Model, msg tea.KeyMsg) (Model, tea.Cmd, bool) {
	switch {
	case key.Matches(msg, m.keys.Filter):
		m.modal = newFilterLine(m.filter.expr)
	case key.Matches(msg, m.keys.Command):
		m.modal = newCommandLine()
	case key.Matches(msg, m.keys.Help):
		m.modal = help{}
	case key.Matches(msg, m.keys.Copy):
		next, cmd := m.copyID()

		return next, cmd, true
	case key.Matches(msg, m.keys.Refresh):
		next, cmd := m.ask()
		next.say(plain, "asked again")

		return next, cmd, true
	case key.Matches(msg, m.keys.Quit):
		next, cmd := m.quit()

		return next, cmd, true
	default:
		return m, nil, false
	}

	return m, nil, true
}

// quit leaves, unless an act is under way, which would be given up: that is
// asked.
func (m Model) quit() (Model, tea.Cmd) {
	if len(m.jobs) == 0 {
		return m, tea.Quit
	}

	m.modal = leave{}

	return m, nil
}

// clickTime is how long after a click a second one makes it double.
const clickTime = 400 * time.Millisecond

func (m Model) onMouse(msg tea.MouseMsg) (Model, tea.Cmd) {
	if m.modal != nil || m.tooSmall() {
		return m, nil
	}

	switch {
	case msg.Button == tea.MouseButtonWheelUp:
		m.move(-3)
	case msg.Button == tea.MouseButtonWheelDown:
		m.move(3)
	case msg.Button == tea.MouseButtonLeft && msg.Action == tea.MouseActionPress:
		return m.onClick(msg.X, msg.Y)
	}

	return m, nil
}

// onClick puts the cursor on the machine, opens it with the second click, sorts
// by the head of a column.
func (m Model) onClick(x, y int) (Model, tea.Cmd) {
	r := m.rects()

	if y == r.Heads.Y && r.Heads.H > 0 {
		for _, c := range place(m.columns, m.w) {
			if x >= c.x && x < c.x+c.w+gap {
				m.reverse = m.sort == c.key && !m.reverse
				m.sort = c.key
				m.reorder()
			}
		}

		return m, nil
	}

	index := m.top + y - r.Table.Y
	if y < r.Table.Y || y >= r.Table.Y+r.Table.H || index >= len(m.shown) {
		return m, nil
	}

	if m.click == y && m.cursor == index {
		m.open, m.click = true, -1

		return m, nil
	}

	m.moveTo(index)
	m.click = y

	return m, tea.Tick(clickTime, func(time.Time) tea.Msg { return clickedMsg{} })
}
