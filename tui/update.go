package tui

import (
	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// Init implements tea.Model.
func (m Model) Init() tea.Cmd {
	return tea.Batch(m.fetch(), follow(m.ctx, m.src), tick(), m.refresh())
}

// Update implements tea.Model.
func (m Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	next, cmd := m.update(msg)
	next.settle()

	return next, cmd
}

func (m Model) update(msg tea.Msg) (Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.w, m.h = msg.Width, msg.Height

		return m, nil
	case tea.KeyMsg:
		return m.onKeys(msg)
	case tea.MouseMsg:
		return m.onMouse(msg)
	case clickedMsg:
		m.click = -1

		return m, nil
	case snapshotMsg:
		return m.onSnapshot(msg)
	case eventsMsg:
		return m.onEvents(msg)
	case tickMsg:
		return m.onTick(msg)
	case refreshMsg:
		next, cmd := m.ask()

		return next, tea.Batch(cmd, m.refresh())
	case askMsg:
		return m.ask()
	case resultMsg:
		return m.onResult(msg)
	case doneMsg:
		return m.onDone(msg).ask()
	default:
		return m, nil
	}
}

// onKeys takes keys apart that came together, as they do on a slow line. What is
// pasted is text: it goes where text is typed, and does nothing elsewhere.
func (m Model) onKeys(msg tea.KeyMsg) (Model, tea.Cmd) {
	if msg.Paste {
		if !m.typing() {
			return m, nil
		}

		return m.modal.key(m, msg)
	}

	if msg.Type != tea.KeyRunes || len(msg.Runes) < 2 || msg.Alt {
		return m.onKey(msg)
	}

	var cmds []tea.Cmd

	for _, r := range msg.Runes {
		next, cmd := m.onKey(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}})
		next.settle()

		m, cmds = next, append(cmds, cmd)
	}

	return m, tea.Batch(cmds...)
}

// typing tells whether text is being typed.
func (m *Model) typing() bool {
	switch modal := m.modal.(type) {
	case prompt:
		return true
	case confirmation:
		return modal.wanted != ""
	default:
		return false
	}
}

func (m Model) onKey(msg tea.KeyMsg) (Model, tea.Cmd) {
	if key.Matches(msg, m.keys.Interrupt) {
		return m, tea.Quit
	}

	if m.tooSmall() && m.modal == nil {
		if key.Matches(msg, m.keys.Quit) {
			return m, tea.Quit
		}

		return m, nil // what is not seen is not acted upon
	}

	m.notice = notice{}

	if m.modal != nil {
		return m.modal.key(m, msg)
	}

	for _, handle := range []func(Model, tea.KeyMsg) (Model, tea.Cmd, bool){moveKey, chooseKey, lookKey, actKey, moreKey} {
		if next, cmd, ok := handle(m, msg); ok {
			return next, cmd
		}
	}

	return m, nil
}
