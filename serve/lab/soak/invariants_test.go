package soak_test

import (
	"fmt"
	"strings"

	"github.com/bmctl/bmctl/power/bmcsim"
)

// touchable is what every act of serve's own accord needs.
func (m moment) touchable() string {
	switch {
	case !m.known():
		return "Omni does not know it"
	case !m.accepted():
		return "not accepted"
	case m.cordoned():
		return "cordoned"
	default:
		return ""
	}
}

// wipeAllowed says why the machine may not be wiped now.
func (m moment) wipeAllowed() string {
	switch why := m.touchable(); {
	case why != "":
		return why
	case m.leaving():
		return "being removed"
	case m.wiped():
		return fmt.Sprintf("wipe %q is recorded", m.machine.TypedSpec().Value.WipeId)
	case m.bmc == nil:
		return "no BMC access is stored"
	default:
		return ""
	}
}

// setUpAllowed says why its BMC may not be set up now.
func (m moment) setUpAllowed() string {
	if why := m.touchable(); why != "" || !m.leaving() {
		return why
	}

	return "being removed"
}

// powerAllowed says why its power may not be switched so now.
func (m moment) powerAllowed(kind bmcsim.ActKind) string {
	why := m.touchable()
	override := kind == bmcsim.ActBootSet || kind == bmcsim.ActBootClear

	switch {
	case why != "" || override:
		return why
	case m.leaving() && kind != bmcsim.ActCycle:
		return "being removed"
	case m.leaving():
		return ""
	case kind == bmcsim.ActOn && m.offRequested():
		return "Omni asked for it to be off"
	case m.inUse() && kind == bmcsim.ActOff:
		return "it is in use"
	case m.inUse() && kind == bmcsim.ActCycle && !m.rebootWanted():
		return "it is in use, and nobody asked for a reboot"
	case kind != bmcsim.ActOn && kind != bmcsim.ActOff && kind != bmcsim.ActCycle:
		return "serve never does that"
	default:
		return ""
	}
}

// bootAllowed says why the machine may not be answered so now: "script: talos".
func (m moment) bootAllowed(text string) string {
	_, answer, _ := strings.Cut(text, ": ")
	rejected := m.known() && !m.pending() && !m.accepted()

	switch answer {
	case "talos":
		if m.touchable() != "" || !m.allocated() || !m.wiped() || m.installed() || m.leaving() {
			return "not one that waits for its cluster's Talos"
		}
	case "agent":
		if rejected || m.inUse() || m.cordoned() && !m.leaving() {
			return "agent mode is not for it"
		}
	case "disk":
		if !rejected && !m.installed() {
			return "there is nothing on its disk"
		}
	case "wait":
	default:
		return "no such answer"
	}

	return ""
}
