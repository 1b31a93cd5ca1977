package tui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"pgregory.net/rapid"
)

// TestAnything lets keys, clicks, resizes, snapshots and events come in any
// order, with missing and hostile fields. Nothing may panic, no line may be too
// wide, the cursor must be on a machine, nothing hostile may reach the terminal,
// and no act may happen without its confirmation.
func TestAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &site{snapshot: fleet(), events: bootEvents(), console: []string{"true"}}
		opts := Options{ASCII: rapid.Bool().Draw(t, "ascii"), ReadOnly: rapid.Bool().Draw(t, "read-only"), Theme: rapid.SampledFrom(Themes()).Draw(t, "theme")}
		m := opened(s, opts, 120, 30)

		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			m = anyStep(t, m, s)

			if problem := broken(m); problem != "" {
				t.Fatal(problem)
			}
		}
	})
}

// broken finds an invariant that does not hold.
func broken(m Model) string {
	view := m.View()
	if problem := misfit(view, max(0, m.w), max(1, m.h)); problem != "" {
		return problem
	}

	if m.cursor < 0 || m.cursor > max(0, len(m.shown)-1) || m.top < 0 || m.scroll < 0 {
		return fmt.Sprintf("the cursor is at %d of %d, the table at %d, the pane at %d", m.cursor, len(m.shown), m.top, m.scroll)
	}

	if bare := withoutStyles(view); strings.ContainsFunc(bare, func(r rune) bool { return r != '\n' && hostile(r) }) {
		return fmt.Sprintf("a control character reaches the terminal: %q", bare)
	}

	return ""
}

// withoutStyles takes out the escape sequences of our own styles and no others.
func withoutStyles(view string) string {
	var b strings.Builder

	for {
		before, after, found := strings.Cut(view, "\x1b[")
		b.WriteString(before)

		if !found {
			return b.String()
		}

		end := strings.IndexFunc(after, func(r rune) bool { return r != ';' && (r < '0' || r > '9') })
		if end < 0 || after[end] != 'm' {
			b.WriteString("\x1b")

			end = -1
		}

		view = after[end+1:]
	}
}

func anyStep(t *rapid.T, m Model, s *site) Model {
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0:
		return feed(m, tea.WindowSizeMsg{Width: rapid.IntRange(0, 200).Draw(t, "w"), Height: rapid.IntRange(0, 70).Draw(t, "h")})
	case 1:
		return feed(m, arrived(anySnapshot(t), nil, noon))
	case 2:
		return feed(m, arrived(Snapshot{}, errors.New(rapid.SampledFrom(oddTexts()).Draw(t, "failure")), noon))
	case 3:
		return feed(m, eventsMsg{events: rapid.SliceOfN(rapid.Custom(anyEvent), 0, 20).Draw(t, "events")})
	case 4:
		return feed(m, tickMsg(noon.Add(time.Duration(rapid.Int64Range(-1e12, 1e15).Draw(t, "clock")))))
	case 5:
		return feed(m, tea.MouseMsg{
			X: rapid.IntRange(-1, 210).Draw(t, "x"), Y: rapid.IntRange(-1, 70).Draw(t, "y"), Action: tea.MouseActionPress,
			Button: rapid.SampledFrom([]tea.MouseButton{tea.MouseButtonLeft, tea.MouseButtonWheelUp, tea.MouseButtonWheelDown}).Draw(t, "button"),
		})
	case 6:
		return feed(m, eventsMsg{err: errors.New("gone\x1b[2J"), retryAt: noon.Add(time.Second)})
	default:
		return anyKey(t, m, s)
	}
}

// anyKey presses a key, and holds an act against the confirmation that was open.
func anyKey(t *rapid.T, m Model, s *site) Model {
	keys := []string{
		"j", "k", "g", "G", "ctrl+d", "ctrl+u", "space", "v", "*", "/", "n", "N", "s", "S", "enter", "tab", "1", "2", "3", "4", "5", "esc",
		"p", "o", "f", "c", "r", "b", "d", "a", "x", "C", "L", "y", ":", "R", "?", "up", "down", "left", "right", "backspace", "9c41e0aa", "42", "日本", "\x1b[2J", "é",
	}
	name := rapid.SampledFrom(keys).Draw(t, "key")
	before, question := len(s.acts()), m.modal

	m = press(m, name)

	if len(s.acts()) == before {
		return m
	}

	c, asked := question.(confirmation)

	switch {
	case !asked:
		t.Fatalf("%q did %v without a confirmation", name, s.acts()[before:])
	case m.opts.ReadOnly:
		t.Fatalf("%q did %v although only looking is allowed", name, s.acts()[before:])
	case c.wanted != "" && !c.typed(), c.wanted == "" && name == "enter" && !c.act:
		t.Fatalf("%q alone did %v", name, s.acts()[before:])
	}

	return m
}

func oddTexts() []string {
	texts := []string{"", "on", "off", "agent", "script", "pending", "r1n01"}
	for _, r := range strangers() {
		texts = append(texts, r.ID)
	}

	return texts
}

// anySnapshot is a part of the fleet and of the strangers, some twice, fields
// missing.
func anySnapshot(t *rapid.T) Snapshot {
	rows := slices.Concat(fleet().Rows[:12], strangers(), strangers()[:3])
	rows = rapid.Permutation(rows).Draw(t, "rows")[:rapid.IntRange(0, len(rows)).Draw(t, "n")]

	for i := range rows {
		if i%3 == 0 {
			rows[i].Power = rapid.SampledFrom(oddTexts()).Draw(t, "power")
			rows[i].PowerAt, rows[i].LastEventAt = time.Time{}, time.Time{}
		}
	}

	text := rapid.SampledFrom(oddTexts())

	return Snapshot{Rows: rows, Health: Health{
		Source: text.Draw(t, "source"), Omni: text.Draw(t, "omni"), Serve: text.Draw(t, "serve"), OmniDown: rapid.Bool().Draw(t, "down"), Notice: text.Draw(t, "notice"),
	}}
}

func anyEvent(t *rapid.T) Event {
	text := rapid.SampledFrom(oddTexts())

	return Event{
		At:        noon.Add(time.Duration(rapid.Int64Range(-1e12, 1e12).Draw(t, "at"))),
		MachineID: rapid.SampledFrom([]string{"", fleet().Rows[0].ID, fleet().Rows[1].ID, "nobody"}).Draw(t, "id"),
		MAC:       fleet().Rows[1].MAC,
		Type:      rapid.SampledFrom(append(Stages(), "power", "ignored", "wipe", "", "\x1b[2J")).Draw(t, "type"),
		Text:      text.Draw(t, "text"), Reason: text.Draw(t, "reason"),
	}
}
