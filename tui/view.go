package tui

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	"github.com/charmbracelet/x/ansi"
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

// header is the top line, as long as it fits: who tells, how many machines, what
// waits for a person, the time.
func (m *Model) header() string {
	clock := m.now.Format("15:04:05") + " "

	waits := ""
	if n := m.tally.pending; n == 1 {
		waits = "1 waits for accept"
	} else if n > 1 {
		waits = itoa(n) + " wait for accept"
	}

	total := fmt.Sprintf("%d machines", len(m.rows))
	if len(m.rows) == 1 {
		total = "1 machine"
	}

	if trouble := m.trouble(); trouble != "" {
		asOf := ""
		if m.loaded {
			asOf = total + " as of " + m.asOf.In(m.now.Location()).Format("15:04:05")
		}

		return m.headerLine(m.theme.in(bad, trouble), asOf, waits, clock)
	}

	var who []string

	for _, part := range [][2]string{{"omni", m.health.Omni}, {"serve", m.health.Serve}} {
		if part[1] != "" {
			who = append(who, part[0]+" "+part[1])
		}
	}

	if len(who) == 0 && m.loaded {
		who = []string{cmp.Or(m.health.Source, "machines")}
	}

	for _, variant := range [][2]string{
		{strings.Join(who, "  "), total + ": " + m.counts("  ", "booting")},
		{strings.Join(who[:min(1, len(who))], ""), total + ": " + m.counts("  ", "booting")},
		{"", total + ": " + m.counts("  ", "booting")},
	} {
		if line := m.headerLine(variant[0], variant[1], waits, clock); width(line) <= m.w {
			return line
		}
	}

	return m.headerLine("", itoa(len(m.rows))+": "+m.counts(" ", "boot"), waits, clock)
}

// headerLine puts the parts together; the line may come out too wide.
func (m *Model) headerLine(who, counts, waits, clock string) string {
	left := " " + m.theme.in(strong, "bmctl")
	if !m.loaded && m.failure == nil {
		left += "  " + m.spinner() + " asking for the machines"
	}

	for _, part := range []string{who, strings.TrimSuffix(counts, ": "), m.theme.in(warn, waits)} {
		if part != "" && (m.loaded || part == who) {
			left += "  " + part
		}
	}

	right := m.theme.in(faint, clock)
	if room := m.w - width(left) - width(right); room > 0 {
		return left + strings.Repeat(" ", room) + right
	}

	return left
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
	case m.streamErr != nil:
		text := "events broke off: " + clean(oneLine(m.streamErr.Error()))
		if left := m.retryAt.Sub(m.now); left > 0 {
			text += " (retry in " + age(left) + ")"
		}

		return text
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

	return append(items, m.hint(m.keys.Sort), m.hint(m.keys.Select))
}

// overlay draws the modal's box in the middle of the screen.
func (m *Model) overlay(screen []string) {
	if m.modal == nil {
		return
	}

	w := min(m.w-8, 96)

	title, lines := m.modal.box(m, w, m.h)
	if len(lines) == 0 {
		return
	}

	need := width(title) + 2
	for i := range lines {
		lines[i] = cut(lines[i], w, m.theme.ellipsis)
		need = max(need, width(lines[i]))
	}

	w = min(w, max(need, 52))
	_, lines = m.modal.box(m, w, m.h) // laid out for the width that it gets
	box := m.framed(title, lines, w)
	x, y := (m.w-w-4)/2, max(0, (m.h-len(box))/2)

	for i := range min(len(box), m.h-y) {
		below := screen[y+i]
		screen[y+i] = pad(ansi.TruncateWc(below, x, ""), x) + box[i] + cutLeft(below, x+w+4)
	}
}

// cutLeft is the text from cell x on.
func cutLeft(text string, x int) string {
	if width(text) <= x {
		return ""
	}

	return ansi.TruncateLeftWc(text, x, "")
}

// framed puts a frame with a title around the lines.
func (m *Model) framed(title string, lines []string, w int) []string {
	t := m.theme
	title = cut(title, w-2, t.ellipsis)
	top := t.corners[0] + " " + t.in(strong, title) + " " + strings.Repeat(t.rule, max(0, w-width(title))) + t.corners[1]
	box := []string{top}

	for _, line := range lines {
		box = append(box, t.side+" "+fit(line, w, t.ellipsis)+" "+t.side)
	}

	return append(box, t.corners[2]+strings.Repeat(t.rule, w+2)+t.corners[3])
}
