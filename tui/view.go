package tui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
)

// View implements tea.Model: m.h lines, none wider than m.w.
func (m Model) View() string {
	if m.w <= 0 || m.h <= 0 {
		return ""
	}

	screen := make([]string, m.h)
	if m.tooSmall() {
		screen[0] = m.smallLine()
	} else {
		m.draw(screen)
	}

	for i, line := range screen {
		screen[i] = cut(line, m.w, "")
	}

	return strings.Join(screen, "\n")
}

func (m *Model) smallLine() string {
	return fmt.Sprintf("bmctl needs %dx%d, this is %dx%d  %s", minWidth, minHeight, m.w, m.h, m.counts(" ", "boot"))
}

func (m *Model) draw(screen []string) {
	r := m.rects()
	put := func(part rect, lines ...string) {
		for i := range min(part.H, len(lines)) {
			screen[part.Y+i] = lines[i]
		}
	}

	put(r.Header, m.header())
	put(r.Notice, m.theme.in(warn, " "+cut(m.bannerText(), m.w-2, m.theme.ellipsis)))
	put(r.Filter, m.filterLine())

	if r.Table.H > 0 {
		places := place(m.columns, m.w)
		put(r.Heads, m.heads(places))
		put(r.Table, m.table(places, r.Table.H)...)
	}

	put(r.Title, m.title())
	put(r.Pane, m.paneView(r.Pane.H)...)
	put(r.Status, m.statusLine())
	put(r.Footer, m.footer())
	m.overlay(screen)
}

// counts is "36 on  3 off  2 booting  1 ?", without what is zero.
func (m *Model) counts(separator, booting string) string {
	var parts []string

	for _, part := range []struct {
		n    int
		word string
	}{{m.tally.on, "on"}, {m.tally.off, "off"}, {m.tally.booting, booting}, {m.tally.unknown, "?"}} {
		if part.n > 0 {
			parts = append(parts, itoa(part.n)+" "+part.word)
		}
	}

	return strings.Join(parts, separator)
}

// part is a piece of the top line; of those that do not fit together the ones of
// the lowest rank give way.
type part struct {
	text string
	rank int
}

// header is the top line: who tells, how many machines, what waits for a person,
// and at its end the time.
func (m *Model) header() string {
	parts := []part{{" " + m.theme.in(strong, "bmctl"), 9}}

	switch trouble := m.trouble(); {
	case trouble != "":
		parts = append(parts, part{m.theme.in(bad, trouble), 8})

		if m.loaded {
			parts = append(parts, part{machines(len(m.rows)) + " as of " + m.asOf.In(m.now.Location()).Format("15:04:05"), 6})
		}
	case !m.loaded:
		parts = append(parts, part{m.spinner() + " asking for the machines", 6})
	default:
		parts = append(append(parts, m.who()...), part{m.total(), 7})
	}

	if n := m.tally.pending; n == 1 {
		parts = append(parts, part{m.theme.in(warn, "1 waits for accept"), 5})
	} else if n > 1 {
		parts = append(parts, part{m.theme.in(warn, itoa(n)+" wait for accept"), 5})
	}

	return m.joined(parts, m.theme.in(faint, m.now.Format("15:04:05"))+" ")
}

// total is how many machines there are, and of each power.
func (m *Model) total() string {
	if m.w < splitWidth && len(m.rows) > 1 {
		return itoa(len(m.rows)) + ": " + m.counts(" ", "boot")
	}

	return strings.TrimSuffix(machines(len(m.rows))+": "+m.counts("  ", "booting"), ": ")
}

// who names where the machines come from.
func (m *Model) who() []part {
	switch {
	case m.health.Omni != "" && m.health.Serve != "":
		return []part{{"omni " + m.health.Omni, 3}, {"serve " + m.health.Serve, 2}}
	case m.health.Omni != "":
		return []part{{"omni " + m.health.Omni, 3}}
	default:
		return []part{{cmp.Or(m.health.Source, "machines"), 3}}
	}
}

func machines(n int) string {
	if n == 1 {
		return "1 machine"
	}

	return itoa(n) + " machines"
}

// clockRank is below that of what waits for a person.
const clockRank = 4

// joined puts the parts that fit on one line, with the clock at its end.
func (m *Model) joined(parts []part, clock string) string {
	for rank := 0; ; rank++ {
		var left strings.Builder

		for _, p := range parts {
			if p.rank >= rank {
				left.WriteString(p.text + "  ")
			}
		}

		right := clock
		if rank > clockRank {
			right = ""
		}

		if line := left.String(); width(line)+width(right) <= m.w || rank > 8 {
			return between(line, right, m.w)
		}
	}
}

// trouble says who does not answer, since when, and when it is tried again.
func (m *Model) trouble() string {
	switch {
	case m.failure != nil:
		return cmp.Or(m.health.Source, "source") + " AWAY " + age(m.now.Sub(m.failedAt))
	case m.health.OmniDown:
		text := "omni UNREACHABLE"
		if !m.health.OmniSince.IsZero() {
			text += " " + m.now.Sub(m.health.OmniSince).Truncate(1e9).String()
		}

		if left := m.health.OmniRetry.Sub(m.now); left > 0 {
			text += " (retry in " + age(left) + ")"
		}

		return text
	default:
		return ""
	}
}

// bannerText is the line below the top one, for what the person must know.
func (m *Model) bannerText() string {
	switch {
	case m.failure != nil:
		return clean(oneLine(m.failure.Error()))
	case m.streamErr != nil && m.now.Before(m.retryAt): // then it is tried, and may stand
		return "events broke off: " + clean(oneLine(m.streamErr.Error())) + " (retry in " + age(m.retryAt.Sub(m.now)) + ")"
	default:
		return m.health.Notice
	}
}

func (m *Model) spinner() string {
	if m.opts.ReducedMotion {
		return m.theme.dot
	}

	return m.theme.glyphs.spinner[m.beat%len(m.theme.glyphs.spinner)]
}

func (m *Model) filterShown() bool { return m.filter.expr != "" }

func (m *Model) filterLine() string {
	counts := m.theme.in(faint, fmt.Sprintf("%d of %d shown ", len(m.shown), len(m.rows)))
	left := " " + m.theme.in(strong, "filter:") + " "

	return between(left+cut(clean(m.filter.expr), m.w-width(left)-width(counts)-1, m.theme.ellipsis), counts, m.w)
}

// statusLine is the line above the keys: the newest notice, what is under way.
func (m *Model) statusLine() string {
	right := ""
	if len(m.jobs) > 0 {
		j := m.jobs[len(m.jobs)-1]
		right = m.spinner() + " " + cut(j.progress(), m.w/2, m.theme.ellipsis) + " "
	}

	left := " " + m.theme.in(m.notice.role, cut(m.notice.text, m.w-width(right)-2, m.theme.ellipsis))

	return between(left, m.theme.in(accent, right), m.w)
}

// keyHint is one key with what it does; one that cannot be used is faint.
func (m *Model) keyHint(keys, word string, off bool) string {
	if off {
		return m.theme.in(faint, keys+" "+word)
	}

	return m.theme.in(accent, keys) + " " + word
}

// footer is the last line: the keys that matter now, as many as fit.
func (m *Model) footer() string {
	if m.modal != nil {
		if foot := m.modal.foot(m); foot != "" {
			return foot
		}
	}

	left := " "
	if n := len(m.selected); n > 0 {
		left += m.theme.in(strong, itoa(n)+" selected:") + "  "
	}

	right := m.hint(m.keys.Help) + "   " + m.hint(m.keys.Quit) + " "
	room := m.w - width(right)

	for _, item := range m.footItems() {
		if width(left)+width(item)+3 > room {
			break
		}

		left += item + "   "
	}

	return between(left, right, m.w)
}

func (m *Model) hint(k key.Binding) string { return m.keyHint(k.Help().Key, k.Help().Desc, false) }

func (m *Model) footItems() []string {
	targets := m.targets()
	verb := func(k key.Binding, verbs ...Verb) string {
		off := true
		for _, v := range verbs {
			off = off && m.blocked(v, targets) != ""
		}

		return m.keyHint(k.Help().Key, k.Help().Desc, off)
	}

	items := []string{verb(m.keys.Power, powerVerbs()...), verb(m.keys.Boot, bootVerbs()...)}
	if m.open {
		items = append(items, m.hint(m.keys.Back), m.hint(m.keys.NextPane))
	} else if m.rects().Pane.H == 0 {
		items = append(items, m.hint(m.keys.Open), m.hint(m.keys.Filter))
	}

	items = append(items, verb(m.keys.Console, Console), verb(m.keys.Accept, Accept), verb(m.keys.Reject, Reject))
	if m.rects().Pane.H > 0 && !m.open {
		items = append(items, m.hint(m.keys.Filter))
	}

	if !m.open {
		items = append(items, m.hint(m.keys.Sort))
	}

	return append(items, m.hint(m.keys.Select))
}

// boxWidth is how wide the text of a modal may be.
func (m *Model) boxWidth() int {
	const most = 96

	return min(m.w-4, most)
}

// overlay draws the modal's box in the middle of the screen.
func (m *Model) overlay(screen []string) {
	if m.modal == nil {
		return
	}

	content := m.modal.box(m, m.boxWidth(), m.h)
	if content.title == "" {
		return
	}

	framed := m.framed(content, m.boxWidth())
	w := width(framed[0])
	x, y := (m.w-w)/2, max(0, (m.h-len(framed))/2)

	for i := range min(len(framed), m.h-y) {
		below := screen[y+i]
		screen[y+i] = pad(cut(below, x-1, ""), x) + framed[i] + pad("", min(1, m.w-x-w)) + cutLeft(below, x+w+1)
	}
}

// framed draws the frame, as wide as the text needs and at most w cells of text.
func (m *Model) framed(b box, w int) []string {
	const narrowest = 52

	t := m.theme
	lines := append(slices.Clip(b.lines), strings.TrimRight(b.left+"   "+b.right, " "))
	need := max(narrowest, width(b.title))

	for _, line := range lines {
		need = max(need, width(line))
	}

	w = min(w, need)
	lines[len(lines)-1] = between(b.left, b.right, w)
	title := cut(b.title, w-1, t.ellipsis)
	framed := []string{t.corners[0] + " " + t.in(strong, title) + " " + strings.Repeat(t.rule, max(0, w-width(title))) + t.corners[1]}

	for _, line := range lines {
		framed = append(framed, t.side+" "+fit(line, w, t.ellipsis)+" "+t.side)
	}

	return append(framed, t.corners[2]+strings.Repeat(t.rule, w+2)+t.corners[3])
}
