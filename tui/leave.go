package tui

import (
	"fmt"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// leave asks before acts under way are given up.
type leave struct{}

func (leave) key(m Model, msg tea.KeyMsg) (Model, tea.Cmd) {
	m.modal = nil

	if key.Matches(msg, m.keys.Yes) {
		return m, tea.Quit
	}

	return m, nil
}

func (leave) foot(*Model) string { return "" }

func (leave) box(m *Model, w, _ int) box {
	lines := wrap("What is under way is given up; what was begun is not undone:", w)

	for _, j := range m.jobs {
		lines = append(lines, "  "+j.progress())
	}

	return box{"Leave", append(lines, ""), "", m.theme.in(strong, "[ Stay ]") + "   " + m.keyHint("y", "leave", false)}
}

func (j job) progress() string {
	if j.total == 0 {
		return j.what
	}

	return fmt.Sprintf("%s: %d of %d", j.what, j.done, j.total)
}
