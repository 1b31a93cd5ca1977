package tui

import (
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"
	"pgregory.net/rapid"
)

// edited is a line after keys were typed into it.
func edited(start string, keys ...tea.KeyMsg) editor {
	e := newEditor(start)
	for _, k := range keys {
		e = e.key(k)
	}

	return e
}

func runes(text string) tea.KeyMsg        { return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text)} }
func special(kind tea.KeyType) tea.KeyMsg { return tea.KeyMsg{Type: kind} }

func TestEditor(t *testing.T) {
	for name, test := range map[string]struct {
		start string
		keys  []tea.KeyMsg
		want  string // with | where the cursor is
	}{
		"type":                     {"", []tea.KeyMsg{runes("r"), runes("1")}, "r1|"},
		"a space":                  {"a", []tea.KeyMsg{{Type: tea.KeySpace, Runes: []rune{' '}}, runes("b")}, "a b|"},
		"paste":                    {"", []tea.KeyMsg{runes("rack=r1\n\x1b[2J\tx")}, "rack=r1[2Jx|"},
		"wide":                     {"日本", []tea.KeyMsg{special(tea.KeyBackspace), runes("語")}, "日語|"},
		"in the middle":            {"ac", []tea.KeyMsg{special(tea.KeyLeft), runes("b")}, "ab|c"},
		"left of the start":        {"a", []tea.KeyMsg{special(tea.KeyLeft), special(tea.KeyLeft), runes("b")}, "b|a"},
		"right of the end":         {"a", []tea.KeyMsg{special(tea.KeyRight), runes("b")}, "ab|"},
		"home, end":                {"b", []tea.KeyMsg{special(tea.KeyHome), runes("a"), special(tea.KeyEnd), runes("c")}, "abc|"},
		"ctrl-a, ctrl-e":           {"b", []tea.KeyMsg{special(tea.KeyCtrlA), runes("a"), special(tea.KeyCtrlE), runes("c")}, "abc|"},
		"backspace at the start":   {"a", []tea.KeyMsg{special(tea.KeyHome), special(tea.KeyBackspace)}, "|a"},
		"delete":                   {"abc", []tea.KeyMsg{special(tea.KeyHome), special(tea.KeyDelete), special(tea.KeyCtrlD)}, "|c"},
		"delete at the end":        {"abc", []tea.KeyMsg{special(tea.KeyDelete)}, "abc|"},
		"ctrl-u":                   {"abc", []tea.KeyMsg{special(tea.KeyLeft), special(tea.KeyCtrlU)}, "|c"},
		"ctrl-k":                   {"abc", []tea.KeyMsg{special(tea.KeyHome), special(tea.KeyRight), special(tea.KeyCtrlK)}, "a|"},
		"ctrl-w":                   {"rack=r1 power=on  ", []tea.KeyMsg{special(tea.KeyCtrlW)}, "rack=r1 |"},
		"ctrl-w twice":             {"rack=r1 power=on", []tea.KeyMsg{special(tea.KeyCtrlW), special(tea.KeyCtrlW), special(tea.KeyCtrlW)}, "|"},
		"ctrl-w in a word":         {"ab cd", []tea.KeyMsg{special(tea.KeyLeft), special(tea.KeyCtrlW)}, "ab |d"},
		"keys that mean nothing":   {"a", []tea.KeyMsg{special(tea.KeyUp), special(tea.KeyF1), special(tea.KeyTab)}, "a|"},
		"no more than can be read": {strings.Repeat("a", longest-1), []tea.KeyMsg{runes("bcd"), runes("e")}, strings.Repeat("a", longest-1) + "b|"},
	} {
		t.Run(name, func(t *testing.T) {
			e := edited(test.start, test.keys...)
			if got := string(e.text[:e.at]) + "|" + string(e.text[e.at:]); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestEditorIsAValue: what was typed before is not changed by what is typed
// behind it, as a model that was kept must not be.
func TestEditorIsAValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := []tea.KeyMsg{
			runes("x"), runes("日"), special(tea.KeyBackspace), special(tea.KeyDelete), special(tea.KeyLeft), special(tea.KeyRight), special(tea.KeyHome),
			special(tea.KeyEnd), special(tea.KeyCtrlW), special(tea.KeyCtrlU), special(tea.KeyCtrlK), {Type: tea.KeySpace, Runes: []rune{' '}},
		}

		var (
			kept  []editor
			texts []string
		)

		e := newEditor(rapid.String().Draw(t, "start"))

		for _, k := range rapid.SliceOfN(rapid.SampledFrom(keys), 1, 30).Draw(t, "keys") {
			e = e.key(k)
			kept, texts = append(kept, e), append(texts, e.value())

			if e.at < 0 || e.at > len(e.text) {
				t.Fatalf("the cursor is at %d of %d", e.at, len(e.text))
			}
		}

		for i, old := range kept {
			if old.value() != texts[i] {
				t.Fatalf("what was %q has become %q", texts[i], old.value())
			}
		}
	})
}

// TestALongLineShowsWhereItIsTyped however narrow the screen is.
func TestALongLineShowsWhereItIsTyped(t *testing.T) {
	m := press(opened(&site{snapshot: fleet()}, Options{Plain: true}, 60, 20), "/")
	m = feed(m, tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(strings.Repeat("rack=r1 ", 40) + "power=off"), Paste: true})

	lines := strings.Split(m.View(), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "power=off▏") || width(last) > 60 {
		t.Errorf("the end of what is typed is not seen: %q", last)
	}

	m = press(m, "home")
	lines = strings.Split(m.View(), "\n")

	if last := lines[len(lines)-1]; !strings.Contains(last, "filter: ▏rack=r1") {
		t.Errorf("the beginning is not seen: %q", last)
	}
}
