package cli

import (
	"strings"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/power"
)

// addProbed writes the BMCs that let us in to the inventory, if it does not have
// them. A new host is called as it was named on the command line.
func (a *app) addProbed(results []probed) error {
	known := a.file.NamesByID()
	fresh := map[string]config.Host{}

	var order []string

	for _, p := range results {
		name := p.bmc.Name

		switch there := known[strings.ToLower(p.UUID)]; {
		case p.err != nil || p.noLog:
			continue
		case p.bmc.host != "":
			a.note("%s is in the inventory already", p.bmc.host)

			continue
		case p.UUID != "" && there != "":
			a.note("%s is the BMC of %s, which is in the inventory already", name, there)

			continue
		}

		known[strings.ToLower(p.UUID)] = name
		fresh[name] = probedHost(p)
		order = append(order, name)
	}

	if len(fresh) == 0 {
		a.note("nothing to add to the inventory")

		return nil
	}

	if err := config.AddHosts(a.global.config, fresh); err != nil {
		return failf(codeConfigInvalid, "", "add to the inventory: %w", err)
	}

	a.note("%s: added %s", a.global.config, strings.Join(order, ", "))

	return nil
}

func probedHost(p probed) config.Host {
	host := config.Host{Address: p.bmc.Address, Protocol: string(p.Protocol), ID: strings.ToLower(p.UUID)}

	switch p.Protocol {
	case power.ProtocolRedfish:
		host.Port, host.Pin = p.bmc.RedfishPort, p.Certificate
	case power.ProtocolIPMI:
		host.Port = p.bmc.Port
	case power.ProtocolAuto, power.ProtocolQEMU: // a probe finds neither
	}

	return host
}
