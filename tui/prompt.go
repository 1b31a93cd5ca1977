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
	input editor
	err   string
	enter func(m Model, p prompt) (Model, tea.Cmd)
}

func newFilterLine(expr string) prompt {
	return prompt{label: "filter: ", input: newEditor(expr), enter: enterFilter}
}

func newCommandLine() prompt {
	return prompt{label: ": bmctl ", input: newEditor(""), enter: enterCommand}
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

	return between(left+text, m.theme.in(bad, p.err)+" ", m.w)
}

// help shows every key.
type help struct{}

func (help) key(m Model, _ tea.KeyMsg) (Model, tea.Cmd) {
	m.modal = nil

	return m, nil
}

func (help) foot(*Model) string { return "" }

// box puts the sections into two columns.
func (help) box(m *Model, w, h int) box {
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

	left := 0
	for _, line := range columns[0] {
		left = max(left, width(line)+2)
	}

	var lines []string

	for i := range max(len(columns[0]), len(columns[1])) {
		line := pad(nth(columns[0], i), left) + nth(columns[1], i)
		lines = append(lines, cut(line, w, m.theme.ellipsis))
	}

	return box{title: "Keys", lines: lines[:max(0, min(len(lines), h-3))], right: m.keyHint("any key", "back", false)}
}

func nth(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}

	return ""
}
