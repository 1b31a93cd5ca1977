package tui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// modal has all keys while it is there. There is one at a time.
type modal interface {
	key(m Model, msg tea.KeyMsg) (Model, tea.Cmd)
	// box is what stands in the middle of the screen, on at most w cells and h
	// lines; without a title nothing does.
	box(m *Model, w, h int) box
	// foot is what stands in place of the keys; empty: their own.
	foot(m *Model) string
}

// box is a framed text with a last line of its own.
type box struct {
	title string
	lines []string
	// left and right are the two ends of the last line.
	left, right string
}

// menu offers verbs by one key each.
type menu struct {
	title string
	verbs []Verb
}

func (n menu) key(m Model, msg tea.KeyMsg) (Model, tea.Cmd) {
	m.modal = nil

	for _, verb := range n.verbs {
		if msg.String() == verb.deed().key {
			m.confirm(verb, m.targets())
		}
	}

	return m, nil
}

func (n menu) box(*Model, int, int) box { return box{} }

func (n menu) foot(m *Model) string {
	targets := m.targets()
	parts := []string{" " + m.theme.in(strong, n.title+" "+count(targets)+":")}

	for _, verb := range n.verbs {
		d := verb.deed()
		parts = append(parts, m.keyHint(d.key, d.word, m.blocked(verb, targets) != ""))
	}

	return strings.Join(append(parts, m.keyHint("esc", "back", false)), "   ")
}

// confirmation asks before an act. The safe button has the focus.
type confirmation struct {
	verb    Verb
	ids     []string
	targets []*row
	skipped []string // why others are left out
	act     bool     // the focus is on the act
	wanted  string   // what is to be typed; empty: nothing
	input   editor
}

// typeFrom is from how many machines on their number is to be typed for an act
// that stops them.
const typeFrom = 11

func newConfirm(verb Verb, can []*row, skipped []string) confirmation {
	c := confirmation{verb: verb, targets: can, skipped: skipped}
	for _, r := range can {
		c.ids = append(c.ids, r.raw)
	}

	d := verb.deed()

	switch {
	case d.typed:
		c.wanted = firstBlock(can[0].ID)
	case d.cuts && len(can) >= typeFrom:
		c.wanted = itoa(len(can))
	}

	return c
}

func (c confirmation) key(m Model, msg tea.KeyMsg) (Model, tea.Cmd) {
	if c.wanted != "" {
		return c.typing(m, msg)
	}

	switch {
	case key.Matches(msg, m.keys.Yes), key.Matches(msg, m.keys.Confirm) && c.act:
		return c.carryOut(m)
	case key.Matches(msg, m.keys.Confirm), key.Matches(msg, m.keys.Cancel):
		return c.cancel(m), nil
	case key.Matches(msg, m.keys.OtherFocus):
		c.act = !c.act
		m.modal = c
	case key.Matches(msg, m.keys.Gentle) && c.verb.deed().gentle != "":
		m.confirm(c.verb.deed().gentle, c.targets)
	}

	return m, nil
}

// typing lets enter act only behind what is to be typed.
func (c confirmation) typing(m Model, msg tea.KeyMsg) (Model, tea.Cmd) {
	switch {
	case msg.Type == tea.KeyEsc:
		return c.cancel(m), nil
	case key.Matches(msg, m.keys.Confirm) && c.typed():
		return c.carryOut(m)
	case key.Matches(msg, m.keys.Confirm):
		return c.cancel(m), nil
	}

	c.input = c.input.key(msg)
	m.modal = c

	return m, nil
}

func (c confirmation) typed() bool {
	return strings.EqualFold(strings.TrimSpace(c.input.value()), c.wanted)
}

func (c confirmation) cancel(m Model) Model {
	m.modal = nil
	m.say(plain, "not confirmed: nothing was done")

	return m
}

func (c confirmation) carryOut(m Model) (Model, tea.Cmd) {
	m.modal = nil
	m.anchor = ""

	return m.do(c.verb, c.ids, string(c.verb)+" "+count(c.targets))
}

func (c confirmation) foot(*Model) string { return "" }

func (c confirmation) box(m *Model, w, h int) box {
	d := c.verb.deed()
	lines := c.machines(m, max(1, min(12, h-15)))

	for i, why := range c.skipped {
		if i == 3 {
			lines = append(lines, m.theme.in(faint, fmt.Sprintf("and %d more are left out", len(c.skipped)-i)))

			break
		}

		lines = append(lines, m.theme.in(faint, "left out: "+why))
	}

	lines = append(lines, "")

	r := plain
	if d.cuts || d.typed {
		r = warn
	}

	for _, note := range c.notes(m) {
		for _, line := range wrap(note, w) {
			lines = append(lines, m.theme.in(r, line))
		}
	}

	if command := clean(m.src.Equivalent(c.verb, c.ids...)); command != "" {
		for _, line := range atMost(3, wrap("equivalent: "+command, w), m.theme.ellipsis) {
			lines = append(lines, m.theme.in(faint, line))
		}
	}

	left, right := c.buttons(m)

	return box{d.title + " " + count(c.targets), append(lines, ""), left, right}
}

// notes are what the person must know before the act.
func (c confirmation) notes(m *Model) (notes []string) {
	d := c.verb.deed()

	switch {
	case d.gentle != "":
		notes = append(notes, d.warning+" Soft shutdown: s")
	case d.warning != "":
		notes = append(notes, d.warning)
	}

	if d.inrush && len(c.targets) > 1 {
		notes = append(notes, "They take their turns: power supplies draw most when they start.")
	}

	idle := func(r *row) bool { return r.Status == "ready" }
	if c.verb == PowerOn && slices.ContainsFunc(c.targets, idle) {
		notes = append(notes, "serve switches a ready machine off again: no cluster wants it.")
	}

	return notes
}

// atMost leaves out what does not fit; the log has all of it.
func atMost(n int, lines []string, ellipsis string) []string {
	if len(lines) <= n {
		return lines
	}

	return append(lines[:n-1:n-1], lines[n-1]+" "+ellipsis)
}

// buttons is the last line: what to type, or the two buttons.
func (c confirmation) buttons(m *Model) (left, right string) {
	d := c.verb.deed()

	if c.wanted != "" {
		const room = 20 // more than there is to type

		left = "Type " + m.theme.in(strong, c.wanted) + " to " + d.word + ": " + fit(tail(clean(c.input.value()), room)+m.theme.prompt, room+1, "")

		return left, m.keyHint("esc", "cancel", false)
	}

	word := d.word
	if len(c.targets) > 1 {
		word += " " + itoa(len(c.targets))
	}

	cancel, act := m.theme.in(strong, "[ Cancel ]"), m.keyHint("y", word, false)
	if c.act {
		cancel, act = "  Cancel  ", m.theme.in(strong, "[ "+word+" ]")
	}

	return "", cancel + "   " + act
}

// tail is the end of a text, at most w cells.
func tail(text string, w int) string {
	runes := []rune(text)
	for width(string(runes)) > w && len(runes) > 0 {
		runes = runes[1:]
	}

	return string(runes)
}

// machines are the lines that say what the act is about.
func (c confirmation) machines(m *Model, most int) []string {
	if c.verb.deed().typed {
		return c.identity(m)
	}

	names := 0
	for _, r := range c.targets[:min(most, len(c.targets))] {
		names = max(names, width(r.name()))
	}

	var lines []string

	for i, r := range c.targets {
		if i == most-1 && len(c.targets) > most {
			lines = append(lines, m.theme.in(faint, fmt.Sprintf("and %d more", len(c.targets)-i)))

			break
		}

		lines = append(lines, c.machine(m, r, names))
	}

	return lines
}

func (c confirmation) machine(m *Model, r *row, names int) string {
	power := r.Power
	if power != "on" && power != "off" {
		power = "?"
	}

	where, use := "not allocated", ""
	if r.Cluster != "" {
		where = "in cluster " + r.clusterAndRole()
		if c.verb.deed().cuts {
			use = "   " + m.theme.in(warn, "<- in use")
		}
	}

	if m.filter.match != nil && !m.filter.match(r.Row) {
		use += "   " + m.theme.in(warn, "hidden by the filter")
	}

	return pad(r.name(), names) + "  " + fit(power, 3, "") + "  " + where + use
}

// identity is what is known of the machine whose id is to be typed.
func (c confirmation) identity(m *Model) []string {
	r := c.targets[0]
	unknown := func(text string) string {
		if text == "" {
			return "unknown"
		}

		return text
	}

	name := r.name()
	if !r.named() {
		name = "no name in the inventory"
	}

	lines := []string{
		m.theme.in(strong, r.ID), name + "   S/N " + unknown(r.Serial),
		"first seen " + since(r.FirstSeen, m.now) + " ago from " + unknown(r.Address) + " (mac " + unknown(r.MAC) + ")",
		"bmc " + unknown(strings.TrimSpace(r.BMC.Protocol+" "+r.BMC.Address)),
		"disks: unknown (the agent does not report them)",
	}

	if r.FirstSeen.IsZero() {
		lines[2] = "first seen: unknown, from " + unknown(r.Address) + " (mac " + unknown(r.MAC) + ")"
	}

	if r.Status == "rejected" {
		lines = append(lines, "it was rejected before")
	}

	return lines
}
