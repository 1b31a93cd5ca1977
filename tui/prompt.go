package tui

import (
	"iter"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// prompt is a line that is typed: a filter or a command.
type prompt struct {
	label string
	// example stands there while nothing is typed.
	example string
	input   editor
	err     string
	enter   func(m Model, p prompt) (Model, tea.Cmd)
}

func newFilterLine(expr string) prompt {
	return prompt{label: "filter: ", example: "words, or status!=running power=off rack=r1 age>1h", input: newEditor(expr), enter: enterFilter}
}

func newCommandLine() prompt {
	return prompt{label: ": bmctl ", example: "machines get r1n02", input: newEditor(""), enter: enterCommand}
}

func (p prompt) key(m Model, msg tea.KeyMsg) (Model, tea.Cmd) {
	switch {
	case msg.Type == tea.KeyEsc:
		m.modal = nil

		return m, nil
	case key.Matches(msg, m.keys.Confirm):
		return p.enter(m, p)
	}

	p.err = ""
	p.input = p.input.key(msg)
	m.modal = p

	return m, nil
}

// enterFilter narrows the table, or says what is wrong and goes on.
func enterFilter(m Model, p prompt) (Model, tea.Cmd) {
	m.modal = nil

	if err := m.setFilter(strings.TrimSpace(p.input.value())); err != nil {
		p.err = clean(oneLine(err.Error()))
		m.modal = p
	}

	return m, nil
}

// enterCommand runs the command line; its output goes to the log.
func enterCommand(m Model, p prompt) (Model, tea.Cmd) {
	m.modal = nil

	line := strings.TrimSpace(p.input.value())
	line = strings.TrimSpace(strings.TrimPrefix(line, "bmctl "))

	if line == "" {
		return m, nil
	}

	if m.opts.ReadOnly {
		m.say(warn, "the view is read-only")

		return m, nil
	}

	m.record(strong, "bmctl "+line)
	m.show(paneLog)

	return m.begin("bmctl "+line, 0, func() iter.Seq[Result] { return m.src.Run(m.ctx, line) })
}

func (p prompt) box(*Model, int, int) box { return box{} }

func (p prompt) foot(m *Model) string {
	left := " " + m.theme.in(strong, p.label)
	room := max(1, m.w-width(left)-width(p.err)-4)

	value, at := p.input.text, p.input.at
	text := tail(clean(string(value[:at])), room) + m.theme.in(accent, m.theme.prompt) + clean(string(value[at:]))

	right := m.theme.in(bad, p.err)
	if len(value) == 0 {
		right = m.theme.in(faint, cut(p.example, m.w-width(left)-width(text)-2, m.theme.ellipsis))
	}

	return between(left+text, right+" ", m.w)
}
