package tui

import (
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// TestLayout takes every size: the parts must lie on the screen, one below the
// other, and leave none of it out but blank lines.
func TestLayout(t *testing.T) {
	for w := 20; w <= 200; w++ {
		for h := 5; h <= 60; h++ {
			for _, what := range []showing{{}, {notice: true, filter: true}, {open: true}, {rows: 3}, {rows: 10000, filter: true}, {open: true, notice: true}} {
				if problem := checkLayout(w, h, what); problem != "" {
					t.Fatalf("%dx%d %+v: %s: %+v", w, h, what, problem, layout(w, h, what))
				}
			}
		}
	}
}

func checkLayout(w, h int, what showing) string {
	r := layout(w, h, what)
	y := 0

	for _, part := range []rect{r.Header, r.Notice, r.Filter, r.Heads, r.Table, r.Title, r.Pane, r.Status, r.Footer} {
		switch {
		case part.H < 0 || part.Y < 0:
			return "a part is nowhere"
		case part.H == 0:
			continue
		case part.Y < y || part.Y > y+1:
			return "parts overlap, or leave more than a line between them"
		}

		y = part.Y + part.H
	}

	big := w >= minWidth && h >= minHeight

	switch {
	case y > h || big && y != h:
		return "it ends above or below the last line"
	case big && r.Footer.H != 1:
		return "the keys are missing"
	case big && what.open && (r.Pane.H < 5 || r.Table.H > 0):
		return "the pane does not stand in place of the table"
	case big && !what.open && r.Table.H < 5:
		return "the table is too low to be of use"
	case w >= splitWidth && h >= splitHeight && !what.open && r.Pane.H < 8:
		return "there is room for the pane, and it is not there"
	default:
		return ""
	}
}

// TestEveryViewFits draws sizes of all kinds, with every modal.
func TestEveryViewFits(t *testing.T) {
	s := &site{snapshot: fleet(), events: bootEvents()}
	s.snapshot.Rows = append(s.snapshot.Rows, strangers()...)

	for i, keys := range [][]string{{}, {"j", "enter"}, {"1"}, {"*", "p", "c"}, {"g", "a"}, {"?"}, {"/", "x"}, {"p"}} {
		m := press(opened(s, Options{}, 120, 30), keys...)

		for w := 20 + i%4; w <= 200; w += 4 {
			for h := 5 + i%3; h <= 60; h += 3 {
				m.w, m.h = w, h
				m.settle()

				if problem := misfit(m.View(), w, h); problem != "" {
					t.Fatalf("%dx%d after %v: %s", w, h, keys, problem)
				}
			}
		}
	}
}

// misfit finds a line that is too wide, by either way of counting cells, and too
// many of them.
func misfit(view string, w, h int) string {
	lines := strings.Split(view, "\n")
	if len(lines) > h {
		return "more lines than the screen has:\n" + view
	}

	for _, line := range lines {
		if ansi.StringWidthWc(line) > w || ansi.StringWidth(line) > w {
			return "a line is too wide: " + line
		}
	}

	return ""
}

// strangers are machines whose every text is hostile or odd.
func strangers() []Row {
	odd := []string{
		"\x1b[2J\x1b[Howned", "\x1b]0;title\a", "\x9b31mred", "new\nline\rback\ttab", "日本語のホスト名はここです", "e\u0301\u0301\u0301\u0301",
		"\u202eright to left", "zero\u200bwidth\u200djoin", "👩‍👩‍👧‍👦 family", "flag 🇩🇪🇫🇷", "1️⃣ keycap", "broken \xff\xfe utf8", "❤️", "\u2028line", strings.Repeat("long ", 100),
		"หน้านี้", "क्षि", "ﷺ", "\x00nul", "\x7fdel", "\U000e0041tag",
	}

	rows := make([]Row, 0, len(odd)+1)
	for i, text := range odd {
		rows = append(rows, Row{
			ID: text, Name: text, Power: text, Stage: text, Status: text, Reason: text, Cluster: text, Role: text, Talos: text,
			BMC: BMC{text, text, 0, text}, LastEvent: text, Labels: map[string]string{text: text}, Held: text, MAC: text, Address: text,
			Serial: text, BootDecision: text, BootReason: text, Cannot: map[Verb]string{Reject: text},
		})

		if i%2 == 0 {
			rows[i].Name = ""
		}
	}

	return append(rows, Row{})
}
