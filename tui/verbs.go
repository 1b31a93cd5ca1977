package tui

import (
	"cmp"
	"fmt"
	"strings"
)

// deed is what the view knows of a verb.
type deed struct {
	key   string // in its menu, or on its own
	word  string // in menus, on the button and in the title
	title string
	// warning is what the person must know before; empty: nothing breaks.
	warning string
	// cuts: the machine stops working.
	cuts bool
	// gentle is the verb that asks the operating system instead.
	gentle Verb
	// one: only one machine at a time; typed: its id is to be typed.
	one, typed bool
	// omni: it is done in Omni.
	omni bool
}

func deeds() map[Verb]deed {
	const cut = "Power is cut at once; the OS is not asked."

	return map[Verb]deed{
		PowerOn:    {key: "o", word: "on", title: "Power on"},
		PowerOff:   {key: "f", word: "off", title: "Power off", warning: cut, cuts: true, gentle: PowerSoft},
		PowerSoft:  {key: "s", word: "soft", title: "Shut down", warning: "The OS is asked to shut down; it may refuse or take its time.", cuts: true},
		PowerCycle: {key: "c", word: "cycle", title: "Power cycle", warning: cut, cuts: true, gentle: PowerSoft},
		PowerReset: {key: "r", word: "reset", title: "Reset", warning: "The machine starts anew at once; the OS is not asked.", cuts: true, gentle: PowerSoft},
		BootPXE:    {key: "p", word: "pxe", title: "Boot next from the network:", warning: "Holds for the next boot only."},
		BootDisk:   {key: "d", word: "disk", title: "Boot next from disk:", warning: "Holds for the next boot only."},
		BootBIOS:   {key: "b", word: "bios", title: "Boot next into the firmware setup:", warning: "Holds for the next boot only; the setup waits for a person."},
		BootNone:   {key: "n", word: "none", title: "Clear the boot override of", warning: "The firmware's own order holds."},
		Accept:     {key: "a", word: "accept", title: "Accept", one: true, typed: true, omni: true, warning: "ALL DISKS of this machine will be ERASED. This cannot be undone."},
		Reject:     {key: "x", word: "reject", title: "Reject", omni: true, warning: "It is neither powered nor wiped, and boots its own disk. It can still be accepted later."},
		Cordon:     {key: "C", word: "cordon", title: "Cordon", omni: true, warning: "The provider leaves it alone until it is uncordoned."},
		Uncordon:   {key: "C", word: "uncordon", title: "Uncordon", omni: true, warning: "The provider acts on it again."},
		Console:    {key: "c", word: "console", title: "Console", one: true},
	}
}

func powerVerbs() []Verb { return []Verb{PowerOn, PowerOff, PowerSoft, PowerCycle, PowerReset} }
func bootVerbs() []Verb  { return []Verb{BootPXE, BootDisk, BootBIOS, BootNone} }

// whyNot says why the verb cannot be had for the machine; empty: it can.
func (m *Model) whyNot(verb Verb, r *row) string {
	if m.opts.ReadOnly && verb != Console {
		return "the view is read-only"
	}

	if deeds()[verb].omni && m.health.OmniDown {
		return "needs Omni, which does not answer"
	}

	if why := cmp.Or(m.cannot[verb], r.Cannot[verb]); why != "" {
		return why
	}

	switch {
	case verb == Accept && r.Accepted:
		return "it is accepted already"
	case verb == Reject && r.Accepted:
		return "it is accepted, and that cannot be taken back"
	case verb == Reject && r.Status == "rejected":
		return "it is rejected already"
	case verb == Cordon && r.Cordoned:
		return "it is cordoned already"
	case verb == Uncordon && !r.Cordoned:
		return "it is not cordoned"
	case (verb == PowerCycle || verb == PowerReset) && r.Power == "off":
		return "it is off: power it on"
	default:
		return ""
	}
}

// able splits the machines into those that can have the verb and the reasons of
// the others.
func (m *Model) able(verb Verb, targets []*row) (can []*row, why []string) {
	for _, r := range targets {
		if reason := m.whyNot(verb, r); reason != "" {
			why = append(why, r.name()+": "+reason)
		} else {
			can = append(can, r)
		}
	}

	return can, why
}

// blocked says why the verb is out of reach at all for the targets; empty: at
// least one can have it.
func (m *Model) blocked(verb Verb, targets []*row) string {
	if len(targets) == 0 {
		return "no machine is chosen"
	}

	if deeds()[verb].one && len(targets) > 1 {
		return onlyOne(verb)
	}

	can, why := m.able(verb, targets)
	if len(can) > 0 {
		return ""
	}

	if len(why) > 1 {
		return fmt.Sprintf("%s, and %d more", why[0], len(why)-1)
	}

	return why[0]
}

func onlyOne(verb Verb) string {
	if verb == Accept {
		return "one machine at a time; many are accepted with bmctl accept"
	}

	return "one machine at a time"
}

// cordonVerb is what the cordon key means: it takes back what holds of all.
func cordonVerb(targets []*row) Verb {
	for _, r := range targets {
		if !r.Cordoned {
			return Cordon
		}
	}

	return Uncordon
}

// count is "r1n02" or "3 machines".
func count(targets []*row) string {
	if len(targets) == 1 {
		return targets[0].name()
	}

	return fmt.Sprintf("%d machines", len(targets))
}

func firstBlock(id string) string {
	block, _, _ := strings.Cut(id, "-")

	return block
}
