package tui

import (
	"slices"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// help shows every key. It scrolls on a screen that is too low for it; any other
// key ends it.
type help struct{ top int }

func (n help) key(m Model, msg tea.KeyMsg) (Model, tea.Cmd) {
	lines := len(m.helpLines(m.boxWidth()))
	room := helpRoom(m.h)
	steps := []struct {
		key  key.Binding
		step int
	}{{m.keys.Up, -1}, {m.keys.Down, 1}, {m.keys.PageUp, -room / 2}, {m.keys.PageDown, room / 2}, {m.keys.Top, -lines}, {m.keys.Bottom, lines}}

	for _, s := range steps {
		if lines > room && key.Matches(msg, s.key) {
			m.modal = help{max(0, min(n.top+s.step, lines-room))}

			return m, nil
		}
	}

	m.modal = nil

	return m, nil
}

// helpRoom is how many lines of it a screen of h lines shows.
func helpRoom(h int) int { return max(1, h-3) }

func (help) foot(*Model) string { return "" }

func (n help) box(m *Model, w, h int) box {
	lines, room := m.helpLines(w), helpRoom(h)
	top := max(0, min(n.top, len(lines)-room))
	hint := m.keyHint("any key", "back", false)

	if len(lines) > room {
		hint = m.keyHint("j k", "scroll", false) + "   " + m.keyHint("any other", "back", false)
	}

	return box{title: "Keys", lines: slices.Clone(lines[top:min(len(lines), top+room)]), right: hint}
}

// helpLines are the keys in their sections: two columns where they fit on w cells.
func (m *Model) helpLines(w int) []string {
	var columns [2][]string

	for i, s := range m.keys.sections() {
		lines := []string{m.theme.in(strong, s.title)}
		for _, k := range s.keys {
			lines = append(lines, "  "+m.theme.in(accent, pad(k.Help().Key, 11))+" "+k.Help().Desc)
		}

		if len(columns[i%2]) > 0 {
			lines = append([]string{""}, lines...)
		}

		columns[i%2] = append(columns[i%2], lines...)
	}

	left := widest(columns[0]) + 2
	if left+widest(columns[1]) > w {
		return slices.Concat(columns[0], []string{""}, columns[1])
	}

	var lines []string

	for i := range max(len(columns[0]), len(columns[1])) {
		lines = append(lines, pad(nth(columns[0], i), left)+nth(columns[1], i))
	}

	return lines
}

func widest(lines []string) int {
	w := 0
	for _, line := range lines {
		w = max(w, width(line))
	}

	return w
}

func nth(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}

	return ""
}
