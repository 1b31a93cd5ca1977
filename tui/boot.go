package tui

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"
)

// attempt is one boot of a machine, from its power-on or its first packet.
type attempt struct {
	number int
	steps  []step
}

// step is an event of a boot; the same one over and over is one step.
type step struct {
	Event
	times int
}

// lull is the silence after which what comes is another boot.
const lull = 5 * time.Minute

// attempts takes the events of one machine, in order, apart into its boots.
func attempts(events []Event) []attempt {
	var all []attempt

	for _, e := range events {
		if !bootType(e.Type) {
			continue
		}

		switch {
		case leaves(e):
			all = left(all, e)
		case len(all) == 0 && e.Type == "power" && !begins(e): // of a boot that is forgotten
		case len(all) == 0 || all[len(all)-1].over(e):
			all = append(all, attempt{number: len(all) + 1})

			fallthrough
		default:
			all[len(all)-1].add(e)
		}
	}

	return all
}

// leaves tells whether the event is the end of what an agent's boot led to.
func leaves(e Event) bool { return e.Type == "agent" && strings.HasSuffix(e.Text, "gone") }

// left adds the event to the boot that brought the agent: the act that ends that
// one stands before it, and begins the next.
func left(all []attempt, e Event) []attempt {
	for i := range slices.Backward(all) {
		if all[i].has("agent") {
			all[i].add(e)

			break
		}
	}

	return all
}

func bootType(kind string) bool {
	return slices.Contains(Stages(), kind) || kind == "power" || kind == "asset" || kind == "ignored" || kind == "wipe"
}

// over tells whether the event belongs to another boot. The loader asks for an
// address again, so a discover ends a boot only once its script was told; a
// power act ends it once the machine was heard.
func (a *attempt) over(e Event) bool {
	if len(a.steps) == 0 {
		return false
	}

	last := a.steps[len(a.steps)-1]

	switch {
	case begins(e):
		return a.has("discover", "request", "loader", "script", "kernel", "initrd", "agent") || e.At.Sub(last.At) > lull
	case e.Type == "discover" || e.Type == "request":
		return a.has("script", "kernel", "initrd", "agent") || e.At.Sub(last.At) > lull
	default:
		return e.Type != "agent" && e.Type != "wipe" && e.At.Sub(last.At) > lull
	}
}

// begins tells whether the event is an act after which a machine starts.
func begins(e Event) bool {
	return e.Type == "power" && slices.ContainsFunc([]string{"boot override", "power on", "power cycle", "power reset", "power reboot"},
		func(act string) bool { return strings.HasPrefix(e.Text, act) })
}

func (a *attempt) has(kinds ...string) bool {
	return slices.ContainsFunc(a.steps, func(s step) bool { return slices.Contains(kinds, s.Type) })
}

func (a *attempt) add(e Event) {
	if n := len(a.steps); n > 0 {
		last := &a.steps[n-1]
		if last.Type == e.Type && last.Text == e.Text && last.Reason == e.Reason {
			last.times++
			last.At = e.At

			return
		}
	}

	a.steps = append(a.steps, step{e, 1})
}

// bootLines are the machine's newest boot; in place of the table, all of them.
func (m *Model) bootLines(r *row) []string {
	all := attempts(m.eventsOf(r))
	if len(all) == 0 {
		return []string{" " + m.theme.in(faint, m.noBoot())}
	}

	if !m.open {
		all = all[len(all)-1:]
	}

	var lines []string

	for i := range slices.Backward(all) {
		if len(lines) > 0 {
			lines = append(lines, "")
		}

		lines = append(lines, m.attemptLines(&all[i], r, i == len(all)-1)...)
	}

	return lines
}

func (m *Model) noBoot() string {
	if m.health.Source == "inventory" {
		return "nothing: boots are seen by bmctl serve, which does not run"
	}

	if m.events.dropped > 0 {
		return "no boot among the newest events; " + itoa(m.events.dropped) + " older ones are dropped"
	}

	return "no boot seen yet"
}

func (m *Model) attemptLines(a *attempt, r *row, newest bool) []string {
	head := "Boot attempt #" + itoa(a.number)

	var begun []string

	for _, s := range a.steps {
		if begins(s.Event) {
			begun = append(begun, s.Text+" "+s.At.In(m.now.Location()).Format("15:04:05"))
		}
	}

	if len(begun) > 0 {
		head += " (" + strings.Join(begun, ", ") + ")"
	}

	lines := []string{" " + m.theme.in(strong, head)}

	for _, s := range a.steps {
		if !begins(s.Event) {
			lines = append(lines, m.stepLines(s)...)
		}
	}

	if newest {
		lines = append(lines, m.waiting(a, r)...)
	}

	return lines
}

// stepLines are one step: who asked or what was fetched, and what it got.
func (m *Model) stepLines(s step) []string {
	w := 30
	if m.w < splitWidth {
		w = 24
		s.Interface = "" // no room for it
	}

	subject, outcome := m.stepParts(s.Event)
	if s.times > 1 {
		subject += " " + m.theme.in(faint, "x"+itoa(s.times))
	}

	text := fit(subject, w, m.theme.ellipsis)
	if outcome != "" {
		text += "  " + outcome
	}

	return m.eventLine(s.Event, stepName(s.Type), text)
}

func (m *Model) stepParts(e Event) (subject, outcome string) {
	switch {
	case e.Type == "discover":
		return cmp.Or(nic(e), e.Address), offered(e)
	case e.Type == "request":
		return cmp.Or(e.Address, nic(e)), offered(e)
	case e.Type == "script":
		return m.theme.in(accent, cmp.Or(e.Decision, untyped(e))), ""
	case e.File != "":
		return path.Base(e.File), transfer(e)
	default:
		return untyped(e), ""
	}
}

// untyped is the event's text without its type, which stands beside it.
func untyped(e Event) string {
	rest, ok := strings.CutPrefix(e.Text, e.Type)
	if !ok || rest != "" && rest[0] != ' ' && rest[0] != ':' {
		return e.Text
	}

	return strings.TrimLeft(rest, ": ")
}

// nic is who asks for an address, behind where it was heard.
func nic(e Event) string { return oneLine(e.Interface + " " + e.MAC + " " + e.Arch) }

// offered is what the machine was told to load; of a URL its end says enough.
func offered(e Event) string {
	if file := cmp.Or(e.File, untyped(e)); file != "" {
		return "offered " + path.Base(file)
	}

	return ""
}

// transfer is how much was sent in what time: right-aligned, one below the other.
func transfer(e Event) string {
	if e.Bytes == 0 && e.Duration == 0 {
		return ""
	}

	return padLeft(size(e.Bytes), 9) + padLeft(took(e.Duration), 9)
}

func stepName(kind string) string {
	switch kind {
	case "discover":
		return "dhcp discover"
	case "request":
		return "pxe request"
	case "loader":
		return "tftp"
	case "script":
		return "ipxe script"
	default:
		return kind
	}
}

// waiting says what comes next, while the boot is under way.
func (m *Model) waiting(a *attempt, r *row) []string {
	if len(a.steps) == 0 || r.Power == "off" || a.has("agent") || r.Stage == "agent" || r.Stage == "" {
		return nil
	}

	last := a.steps[len(a.steps)-1]

	next, why := "", ""

	switch last.Type {
	case "power":
		if !begins(last.Event) {
			return nil
		}

		next, why = "dhcp discover", "the firmware is starting"
	case "discover", "request":
		next, why = "tftp", "the firmware fetches the loader"
	case "loader":
		next, why = "ipxe script", "the loader asks what to boot"
	case "script", "kernel", "initrd", "asset":
		next, why = afterScript(a)
	}

	if next == "" {
		return nil
	}

	return []string{"   " + m.theme.in(faint, pad("+"+age(m.now.Sub(last.At)), 12)) + "  " + m.theme.in(accent, pad(next, 13)) + " " +
		m.theme.in(faint, "waiting: "+why)}
}

// afterScript is what a machine does that was told its script.
func afterScript(a *attempt) (next, why string) {
	decision := ""

	for _, s := range a.steps {
		if s.Type == "script" {
			decision = cmp.Or(s.Decision, s.Text)
		}
	}

	switch {
	case strings.HasSuffix(decision, "disk"):
		return "", ""
	case strings.HasSuffix(decision, "wait"):
		return "ipxe script", "it was told to ask again"
	case strings.HasSuffix(decision, "agent"):
		return "agent", "kernel and agent are loading"
	default:
		return "kernel", "from the image factory, not seen here"
	}
}
