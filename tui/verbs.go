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
	// inrush: machines take their turns, for the current that they draw.
	inrush bool
	// one: only one machine at a time; typed: its id is to be typed.
	one, typed bool
	// omni: it is done in Omni.
	omni bool
}

// deed is what belongs to the verb; of an unknown one nothing.
func (v Verb) deed() deed {
	const (
		cut  = "Power is cut at once; the OS is not asked."
		once = "Holds for the next boot only."
	)

	switch v {
	case PowerOn:
		return deed{key: "o", word: "on", title: "Power on", inrush: true}
	case PowerOff:
		return deed{key: "f", word: "off", title: "Power off", warning: cut, cuts: true, gentle: PowerSoft}
	case PowerSoft:
		return deed{key: "s", word: "soft", title: "Shut down", warning: "The OS is asked to shut down; it may refuse or take its time.", cuts: true}
	case PowerCycle:
		return deed{key: "c", word: "cycle", title: "Power cycle", warning: cut, cuts: true, gentle: PowerSoft, inrush: true}
	case PowerReset:
		return deed{key: "r", word: "reset", title: "Reset", warning: "It starts anew at once; the OS is not asked.", cuts: true, gentle: PowerSoft}
	case BootPXE:
		return deed{key: "p", word: "pxe", title: "Boot next from the network:", warning: once}
	case BootDisk:
		return deed{key: "d", word: "disk", title: "Boot next from disk:", warning: once}
	case BootBIOS:
		return deed{key: "b", word: "bios", title: "Boot next into the firmware setup:", warning: once + " The setup waits for a person."}
	case BootNone:
		return deed{key: "n", word: "none", title: "Clear the boot override of", warning: "The firmware's own order holds."}
	case Console:
		return deed{key: "c", word: "console", title: "Console", one: true}
	default:
		return v.omniDeed()
	}
}

func (v Verb) omniDeed() deed {
	switch v {
	case Accept:
		return deed{
			key: "a", word: "accept", title: "Accept", one: true, typed: true, omni: true,
			warning: "ALL DISKS of this machine will be ERASED. This cannot be undone.",
		}
	case Reject:
		return deed{
			key: "x", word: "reject", title: "Reject", omni: true,
			warning: "It is neither powered nor wiped, and boots its own disk. It can still be accepted later.",
		}
	case Cordon:
		return deed{key: "C", word: "cordon", title: "Cordon", omni: true, warning: "The provider leaves it alone until it is uncordoned."}
	case Uncordon:
		return deed{key: "C", word: "uncordon", title: "Uncordon", omni: true, warning: "The provider acts on it again."}
	default:
		return deed{word: string(v), title: string(v)}
	}
}

func powerVerbs() []Verb { return []Verb{PowerOn, PowerOff, PowerSoft, PowerCycle, PowerReset} }
func bootVerbs() []Verb  { return []Verb{BootPXE, BootDisk, BootBIOS, BootNone} }

// whyNobody says why no machine at all can have the verb at present.
func (m *Model) whyNobody(verb Verb) string {
	switch {
	case m.opts.ReadOnly && verb != Console:
		return "the view is read-only"
	case verb.deed().omni && m.health.OmniDown:
		return "needs Omni, which does not answer"
	default:
		return m.cannot[verb]
	}
}

// whyNot says why the verb cannot be had for the machine; empty: it can.
func (m *Model) whyNot(verb Verb, r *row) string {
	if why := cmp.Or(m.whyNobody(verb), r.Cannot[verb]); why != "" {
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

// blocked says why the verb is out of reach for all of the targets; empty: at
// least one can have it.
func (m *Model) blocked(verb Verb, targets []*row) string {
	if len(targets) == 0 {
		return "no machine is chosen"
	}

	if why := m.whyNobody(verb); why != "" {
		return why
	}

	if verb.deed().one && len(targets) > 1 {
		return onlyOne(verb)
	}

	for _, r := range targets {
		if m.whyNot(verb, r) == "" {
			return ""
		}
	}

	why := targets[0].name() + ": " + m.whyNot(verb, targets[0])
	if more := len(targets) - 1; more > 0 {
		why += fmt.Sprintf(", and %d more", more)
	}

	return why
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
