package tui

import (
	"cmp"
	"strings"
)

// heads is the line of column heads; the one that the table is ordered by is
// marked.
func (m *Model) heads(places []placed) string {
	var line strings.Builder

	x := 0

	for _, c := range places {
		head := c.head
		if c.key == m.sort && (m.sort != byMachine || m.reverse) {
			head += m.arrow()
		}

		line.WriteString(strings.Repeat(" ", c.x-x) + fit(head, c.w, ""))
		x = c.x + c.w
	}

	return m.theme.in(heading, line.String())
}

func (m *Model) arrow() string {
	switch {
	case m.opts.ASCII && m.reverse:
		return "^"
	case m.opts.ASCII:
		return "v"
	case m.reverse:
		return "↑"
	default:
		return "↓"
	}
}

// table is the visible part of the machines.
func (m *Model) table(places []placed, h int) []string {
	if len(m.shown) == 0 {
		return []string{"", "   " + m.theme.in(faint, m.emptyText())}
	}

	end := min(len(m.shown), m.top+h)
	lines := make([]string, 0, h)

	for i := min(m.top, end); i < end; i++ {
		lines = append(lines, m.line(places, m.shown[i], i == m.cursor))
	}

	return lines
}

func (m *Model) emptyText() string {
	switch {
	case !m.loaded:
		return ""
	case m.filter.expr != "":
		return "no machine matches the filter; esc clears it"
	default:
		return "no machines yet: one appears here when it first boots from the network"
	}
}

// line is one machine.
func (m *Model) line(places []placed, r *row, here bool) string {
	var line strings.Builder

	line.WriteString(m.gutter(m.selected[r.raw], here))

	x := gutter

	for _, c := range places {
		line.WriteString(strings.Repeat(" ", max(0, c.x-x)))
		line.WriteString(m.cellText(c, r, here))

		x = c.x + c.w
	}

	return line.String()
}

func (m *Model) gutter(selected, here bool) string {
	mark, cursor := m.theme.in(good, m.theme.mark), m.theme.in(accent, m.theme.cursor)

	switch {
	case selected && here:
		return cursor + mark + " "
	case here:
		return " " + cursor + " "
	case selected:
		return " " + mark + " "
	default:
		return "   "
	}
}

func (m *Model) cellText(c placed, r *row, here bool) string {
	text := m.cellOf(c.key, r)
	if c.key == byStage && c.w < barWidth+9 {
		text.text = cmp.Or(r.Stage, "-") // no room for the bar
	}

	fitted := fit(text.text, c.w, m.theme.ellipsis)
	if here {
		return m.theme.inBold(text.role, fitted)
	}

	return m.theme.in(text.role, fitted)
}
