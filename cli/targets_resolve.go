package cli

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
)

// resolver says which BMC a name on the command line means: a host of the
// inventory, else an address, else a machine that serve knows.
type resolver struct {
	file     config.File
	fleet    fleetView
	protocol string // from a flag; empty or auto: the inventory says
	port     int    // from a flag; 0: the inventory says
}

func (r resolver) resolve(name string) (chosenBMC, error) {
	if host, known := r.file.Hosts[name]; known {
		return r.ofHost(name, host, r.port), nil
	}

	address, port, err := splitAddress(name)
	if err != nil {
		return chosenBMC{}, err
	}

	port = cmp.Or(port, r.port)
	_, notIP := netip.ParseAddr(address)

	switch host, known := r.file.Hosts[address]; {
	case known:
		return r.ofHost(address, host, port), nil
	case notIP == nil, address != name, strings.Contains(address, "."):
		return r.ofAddress(name, address, port)
	default:
		return r.ofMachine(name)
	}
}

// splitAddress splits host:port, with brackets where IPv6 needs them.
func splitAddress(name string) (address string, port int, err error) {
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return strings.Trim(name, "[]"), 0, nil
	}

	address, text, err := net.SplitHostPort(name)
	if err != nil {
		return name, 0, nil //nolint:nilerr // there is no port
	}

	port, err = strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 || address == "" {
		return "", 0, usagef("%q: want a host and a port of 1 to 65535", name)
	}

	return address, port, nil
}

// ofHost is the BMC of a host of the inventory; port 0 is the inventory's.
func (r resolver) ofHost(name string, host config.Host, port int) chosenBMC {
	own := cmp.Or(power.Protocol(host.Protocol), power.ProtocolAuto)
	bmc := chosenBMC{host: name, Target: power.Target{
		Name: name, Address: host.Address, Protocol: own, UUID: strings.ToLower(host.ID), Pin: strings.ToLower(host.Pin),
	}}

	if r.protocol != "" && r.protocol != string(power.ProtocolAuto) {
		bmc.Protocol = power.Protocol(r.protocol)
	}

	if port != 0 {
		setPort(&bmc.Target, bmc.Protocol, port)
	} else {
		setPort(&bmc.Target, own, host.Port)
	}

	r.fillRedfishPort(&bmc.Target)

	return bmc
}

// ofAddress is the BMC at an address: the inventory's host there, if it has one.
func (r resolver) ofAddress(name, address string, port int) (chosenBMC, error) {
	var there []string

	for _, known := range r.file.HostNames() {
		host := r.file.Hosts[known]
		if sameAddress(host.Address, address) && (port == 0 || host.Port == 0 || host.Port == port) {
			there = append(there, known)
		}
	}

	switch len(there) {
	case 0:
		bmc := chosenBMC{Target: power.Target{Name: name, Address: address, Protocol: power.Protocol(cmp.Or(r.protocol, string(power.ProtocolAuto)))}}
		setPort(&bmc.Target, bmc.Protocol, port)
		r.fillRedfishPort(&bmc.Target)

		return bmc, nil
	case 1:
		return r.ofHost(there[0], r.file.Hosts[there[0]], port), nil
	default:
		f := failf(codeAmbiguousTarget, "name the host", "%q is ambiguous: several hosts have this address: %s", name, strings.Join(there, ", "))
		f.target = name

		return chosenBMC{}, f
	}
}

func sameAddress(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)

	return errX == nil && errY == nil && x == y || strings.EqualFold(a, b)
}

// ofMachine is the BMC of a machine that is named by its id or by serve's name.
// An id of the inventory needs no serve.
func (r resolver) ofMachine(name string) (chosenBMC, error) {
	if host, known := r.file.NamesByID()[strings.ToLower(name)]; known {
		return r.ofHost(host, r.file.Hosts[host], r.port), nil
	}

	machines, err := r.fleet()
	if err != nil {
		f := failf(codeNoMatch, "bmctl config path", "no host of the inventory is called %q, and serve, which knows machine ids, was not asked: %w", name, err)
		f.target = name

		return chosenBMC{}, f
	}

	found, err := match([]string{name}, machineRefs(machines))
	if err != nil {
		f := *classify(err)
		if f.code == codeNoMatch {
			f.message = fmt.Sprintf("neither the inventory nor serve knows a machine called %q", name)
			f.hint = fmt.Sprintf("a host name outside the inventory needs a dot or a port: %s:623", name)
		}

		return chosenBMC{}, &f
	}

	return r.ofSeen(machines[found[0]])
}

// ofSeen is the BMC of a machine that serve knows: by the inventory where the
// machine is in it.
func (r resolver) ofSeen(m localapi.Machine) (chosenBMC, error) {
	if host, known := r.file.NamesByID()[strings.ToLower(m.ID)]; known {
		return r.ofHost(host, r.file.Hosts[host], r.port), nil
	}

	if m.BMC.Address == "" {
		return chosenBMC{Target: power.Target{Name: m.Name, UUID: strings.ToLower(m.ID)}, hearsay: true}, nil
	}

	bmc, err := r.ofAddress(m.Name, m.BMC.Address, r.port)
	if err == nil && bmc.host == "" {
		bmc.UUID, bmc.hearsay = strings.ToLower(m.ID), true
	}

	return bmc, err
}

// setPort says what a single port means: of IPMI, of Redfish, or of whichever of
// them answers there.
func setPort(target *power.Target, protocol power.Protocol, port int) {
	const ipmiPort, redfishPort = 623, 443

	switch {
	case port == 0:
	case protocol == power.ProtocolRedfish, protocol == power.ProtocolAuto && port == redfishPort:
		target.RedfishPort = port
	case protocol == power.ProtocolIPMI, port == ipmiPort:
		target.Port = port
	default:
		target.Port, target.RedfishPort = port, port
	}
}

// fillRedfishPort takes the port that serve is configured with.
func (r resolver) fillRedfishPort(target *power.Target) {
	if port, err := strconv.Atoi(r.file.Serve["redfish-port"].Text); err == nil {
		target.RedfishPort = cmp.Or(target.RedfishPort, port)
	}
}

// seenBy finds the machine behind a BMC in what serve tells: by its id, else by
// the BMC's address.
func seenBy(machines []localapi.Machine, bmc chosenBMC) (localapi.Machine, bool) {
	at := slices.IndexFunc(machines, func(m localapi.Machine) bool { return bmc.UUID != "" && strings.EqualFold(m.ID, bmc.UUID) })
	if at < 0 {
		at = slices.IndexFunc(machines, func(m localapi.Machine) bool { return m.BMC.Address != "" && sameAddress(m.BMC.Address, bmc.Address) })
	}

	if at < 0 {
		return localapi.Machine{}, false
	}

	return machines[at], true
}
