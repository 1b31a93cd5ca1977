package tui

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// title is the line above the pane: the machine, and the panes.
func (m *Model) title() string {
	t, name := m.theme, "no machine"
	if r := m.at(); r != nil {
		name = r.name()
	}

	var tabs []string

	for p := range panes {
		label := itoa(int(p)+1) + " " + p.String()
		if p == m.pane {
			tabs = append(tabs, t.in(strong, label))
		} else {
			tabs = append(tabs, t.in(faint, label))
		}
	}

	right := " " + strings.Join(tabs, "  ") + " " + t.in(faint, strings.Repeat(t.rule, 4))
	left := t.in(faint, strings.Repeat(t.rule, 2)) + " " + t.in(strong, cut(name, m.w/3, t.ellipsis)) + " "
	room := m.w - width(left) - width(right)

	if room < 0 {
		return between(left, right, m.w)
	}

	return left + t.in(faint, strings.Repeat(t.rule, room)) + right
}

// paneLines are all lines of the pane, and where its end is what matters.
func (m *Model) paneLines() (lines []string, fromEnd bool) {
	r := m.at()
	if m.pane == paneLog {
		return m.logLines(), true
	}

	if r == nil {
		return nil, false
	}

	switch m.pane {
	case paneBoot:
		return m.bootLines(r), true
	case paneEvents:
		return m.eventLines(r), true
	case paneConsole:
		return m.consoleLines(r), false
	default:
		return m.detailLines(r), false
	}
}

// paneOverflow is how many lines of the pane do not fit.
func (m *Model) paneOverflow() int {
	if m.scroll == 0 && !m.open {
		return 0
	}

	lines, _ := m.paneLines()

	return max(0, len(lines)-m.rects().Pane.H)
}

// paneView is the visible part of the pane. A pane that grows at its end shows
// the end until it is scrolled: scroll counts from there.
func (m *Model) paneView(h int) []string {
	if h <= 0 {
		return nil
	}

	lines, fromEnd := m.paneLines()
	top := m.scroll

	if fromEnd && !m.open {
		top = max(0, len(lines)-h)
	}

	visible := slices.Clone(lines[min(top, len(lines)):min(top+h, len(lines))])
	for i, line := range visible {
		visible[i] = cut(line, m.w-1, m.theme.ellipsis)
	}

	return visible
}

// detailLines are the facts of a machine, in two columns where there is room.
func (m *Model) detailLines(r *row) []string {
	facts := m.facts(r)
	lines := make([]string, 0, len(facts))

	for _, fact := range facts {
		lines = append(lines, " "+m.theme.in(faint, pad(fact[0], 11))+" "+cmp.Or(fact[1], m.theme.in(faint, "unknown")))
	}

	if m.w < splitWidth {
		return lines
	}

	half := (len(lines) + 1) / 2
	left := m.w/2 - 1

	for i := range half {
		line := fit(lines[i], left, m.theme.ellipsis) + " "
		if half+i < len(lines) {
			line += lines[half+i]
		}

		lines[i] = line
	}

	return lines[:half]
}

func (m *Model) facts(r *row) [][2]string {
	told := func(text string) string { // serve tells it, together with a status
		if r.Status == "" {
			return ""
		}

		return text
	}
	yes := func(b bool) string { return told([...]string{"no", "yes"}[one(b)]) }

	agent := told("not connected")
	if !r.AgentSince.IsZero() {
		agent = "connected for " + since(r.AgentSince, m.now)
	}

	bmc := strings.TrimSpace(r.BMC.Protocol + " " + r.BMC.Address)
	if r.BMC.Latency > 0 {
		bmc += " " + latency(r.BMC.Latency)
	}

	status := r.Status
	if r.Reason != "" {
		status = strings.TrimPrefix(status+": "+r.Reason, ": ")
	}

	return [][2]string{
		{"status", status}, {"held", cmp.Or(r.Held, told("no"))}, {"power", m.powerFact(r)}, {"stage", cmp.Or(r.Stage, told("none"))},
		{"cluster", cmp.Or(r.clusterAndRole(), told("none"))}, {"talos", cmp.Or(r.Talos, told("none wanted"))},
		{"next boot", r.BootDecision}, {"because", r.BootReason}, {"bmc", bmc}, {"bmc error", cmp.Or(r.BMC.Error, "none")},
		{"id", r.ID}, {"serial", r.Serial}, {"mac", r.MAC}, {"address", r.Address}, {"first seen", m.ago("", r.FirstSeen)}, {"agent", agent},
		{"accepted", yes(r.Accepted)}, {"ready", yes(r.ReadyToUse)}, {"installed", yes(r.Installed)}, {"cordoned", yes(r.Cordoned)},
		{"last event", m.ago(r.LastEvent, r.LastEventAt)}, {"labels", cmp.Or(labelText(r.Labels), "none")},
	}
}

// powerFact is the power, and of a BMC that fell silent what it said last.
func (m *Model) powerFact(r *row) string {
	power := cmp.Or(r.Power, "unknown")

	switch {
	case r.PowerAt.IsZero():
		return power
	case r.LastPower != "" && r.LastPower != r.Power:
		return m.ago(power+"; was "+r.LastPower, r.PowerAt)
	default:
		return m.ago(power+", read", r.PowerAt)
	}
}

// ago is the text with the age of the moment behind it, if that is known.
func (m *Model) ago(text string, at time.Time) string {
	if at.IsZero() {
		return text
	}

	return strings.TrimSpace(text + " " + since(at, m.now) + " ago")
}

func labelText(labels map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, clean(name+"="+labels[name]))
	}

	return strings.Join(pairs, " ")
}

// eventsOf are the kept events of the machine, oldest first. Firmware tells its
// NIC before it tells which machine it is.
func (m *Model) eventsOf(r *row) []Event {
	var found []Event

	nics := map[string]bool{r.MAC: true}

	for _, e := range m.events.items {
		if e.MachineID == r.raw {
			nics[e.MAC] = true
		}
	}

	delete(nics, "")

	for _, e := range m.events.items {
		if e.MachineID == r.raw || e.MachineID == "" && nics[e.MAC] {
			found = append(found, e)
		}
	}

	slices.SortStableFunc(found, func(a, b Event) int { return a.At.Compare(b.At) })

	return found
}

func (m *Model) eventLines(r *row) []string {
	lines := []string{}
	if m.events.dropped > 0 {
		lines = append(lines, m.theme.in(faint, " "+itoa(m.events.dropped)+" older events are dropped"))
	}

	for _, e := range m.eventsOf(r) {
		lines = append(lines, m.eventLine(e, e.Type, untyped(e))...)
	}

	if len(lines) == 0 {
		return []string{" " + m.theme.in(faint, m.noEvents())}
	}

	return lines
}

func (m *Model) noEvents() string {
	if m.health.Source == "inventory" {
		return "nothing: events come from bmctl serve, which does not run"
	}

	return "nothing yet"
}

// eventLine is a time, a step, what it was, and why: on a line of its own where
// the pane stands in place of the table and is too narrow for both.
func (m *Model) eventLine(e Event, step, text string) []string {
	const indent = 17

	r := plain
	if e.Type == "ignored" || e.Type == "error" || e.Type == "held" {
		r = warn
	}

	at := e.At.In(m.now.Location()).Format("15:04:05.000")
	line := "   " + m.theme.in(faint, at) + "  " + m.theme.in(r, fit(step, 13, m.theme.ellipsis)) + " " + text

	if e.Reason == "" {
		return []string{line}
	}

	why := m.theme.in(faint, "because: ") + e.Reason
	wide := pad(line, min(62, m.w/2)) + "  " + why

	if m.open && width(wide) >= m.w {
		return []string{line, strings.Repeat(" ", indent) + why}
	}

	return []string{wide}
}

func (m *Model) consoleLines(r *row) []string {
	if why := m.whyNot(Console, r); why != "" {
		return []string{" " + m.theme.in(warn, why)}
	}

	return []string{
		" " + m.keyHint("c", "hands this terminal to", false) + " " + m.theme.in(strong, clean(m.src.Equivalent(Console, r.raw))),
		" " + m.theme.in(faint, "~. or ctrl-] leaves it and comes back here"),
	}
}

func (m *Model) logLines() []string {
	if len(m.log.items) == 0 {
		return []string{" " + m.theme.in(faint, "what is done from here, and what came of it")}
	}

	var lines []string
	if m.log.dropped > 0 {
		lines = append(lines, m.theme.in(faint, " "+itoa(m.log.dropped)+" older lines are dropped"))
	}

	for _, line := range m.log.items {
		lines = append(lines, "   "+m.theme.in(faint, line.at.Format("15:04:05"))+"  "+m.theme.in(line.role, line.text))
	}

	return lines
}
