package cli

import (
	"strings"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/tui"
)

// omniVerbs are the verbs that are carried out in Omni.
func omniVerbs() []tui.Verb { return []tui.Verb{tui.Accept, tui.Reject, tui.Cordon, tui.Uncordon} }

// cannot says which verbs are out of reach for all machines.
func (s *tuiSource) cannot() map[tui.Verb]string {
	reasons := map[tui.Verb]string{}

	if s.a.env("OMNI_ENDPOINT") == "" || s.a.env("OMNI_SERVICE_ACCOUNT_KEY") == "" {
		for _, verb := range omniVerbs() {
			reasons[verb] = "needs Omni: OMNI_ENDPOINT and OMNI_SERVICE_ACCOUNT_KEY of an operator"
		}
	}

	if !s.console {
		reasons[tui.Console] = "this bmctl has no console command"
	}

	return reasons
}

// refusals says which verbs a machine cannot have: by its host in the inventory,
// and why serve would not switch it. Machines with the same reasons share them.
func (s *tuiSource) refusals() func(host, unserved string) map[tui.Verb]string {
	known := map[[2]string]map[tui.Verb]string{}

	return func(host, unserved string) map[tui.Verb]string {
		noConsole := "its BMC is not in the inventory"
		if host != "" {
			noConsole, unserved = s.noConsole(host), ""
		}

		key := [2]string{noConsole, unserved}
		if reasons, ok := known[key]; ok {
			return reasons
		}

		reasons := map[tui.Verb]string{}
		if noConsole != "" {
			reasons[tui.Console] = noConsole
		}

		if unserved != "" {
			for _, verb := range powerVerbs() {
				reasons[verb] = unserved
			}
		}

		known[key] = reasons

		return reasons
	}
}

// unserved says why serve would not switch the machine, should the inventory not
// have its BMC; empty: it would.
func unserved(m localapi.Machine) string {
	const only = "its BMC is not in the inventory, and serve "

	switch {
	case !m.Accepted:
		return only + "has its login once it is accepted"
	case m.Cordoned:
		return only + "leaves it alone: it is cordoned"
	case m.Held != "":
		return only + "holds it: " + m.Held
	case m.BMC.Address == "":
		return only + "has no access to it yet"
	default:
		return ""
	}
}

// noConsole says why the host has no console; empty: it may have one. What a BMC
// can do shows when it is asked for its console: one that refused it once is not
// asked again.
func (s *tuiSource) noConsole(host string) string {
	if s.a.file.Hosts[host].Protocol == string(power.ProtocolRedfish) {
		return "its BMC is spoken to in redfish, and a serial console is ipmi's"
	}

	s.consoles.Lock()
	last := s.consoles.last[host]
	s.consoles.Unlock()

	if last != nil && strings.Contains(last.String(), noSerialOverLAN) {
		return "its BMC has none: no serial over LAN"
	}

	return ""
}
