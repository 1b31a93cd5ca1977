package tui

import (
	"slices"
	"unicode"

	tea "github.com/charmbracelet/bubbletea"
)

// editor is one line of text that is typed. It is a value, as the model is:
// bubbles' own input would bring the system's clipboard along.
type editor struct {
	text []rune
	at   int // where the next character goes
}

// longest is how much can be typed.
const longest = 500

func newEditor(text string) editor {
	runes := []rune(text)

	return editor{runes, len(runes)}
}

func (e editor) value() string { return string(e.text) }

// key carries out one key, as readline does.
func (e editor) key(msg tea.KeyMsg) editor {
	switch msg.Type {
	case tea.KeyRunes, tea.KeySpace:
		return e.insert(msg.Runes)
	case tea.KeyBackspace:
		return e.erase(max(0, e.at-1), e.at)
	case tea.KeyDelete, tea.KeyCtrlD:
		return e.erase(e.at, min(len(e.text), e.at+1))
	case tea.KeyCtrlU:
		return e.erase(0, e.at)
	case tea.KeyCtrlK:
		return e.erase(e.at, len(e.text))
	case tea.KeyCtrlW:
		return e.erase(e.wordStart(), e.at)
	case tea.KeyLeft:
		e.at = max(0, e.at-1)
	case tea.KeyRight:
		e.at = min(len(e.text), e.at+1)
	case tea.KeyHome, tea.KeyCtrlA:
		e.at = 0
	case tea.KeyEnd, tea.KeyCtrlE:
		e.at = len(e.text)
	}

	return e
}

func (e editor) insert(runes []rune) editor {
	runes = slices.DeleteFunc(slices.Clone(runes), unicode.IsControl)
	runes = runes[:max(0, min(len(runes), longest-len(e.text)))]

	return editor{slices.Insert(slices.Clone(e.text), e.at, runes...), e.at + len(runes)}
}

func (e editor) erase(from, to int) editor {
	return editor{slices.Delete(slices.Clone(e.text), from, to), from}
}

func (e editor) wordStart() int {
	at := e.at
	for at > 0 && unicode.IsSpace(e.text[at-1]) {
		at--
	}

	for at > 0 && !unicode.IsSpace(e.text[at-1]) {
		at--
	}

	return at
}
