package config

import (
	"encoding/hex"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/bmctl/bmctl/power/hosts"
)

// DefaultCredentials is the entry that hosts use unless they name another.
const DefaultCredentials = "default"

func (p *parsing) validate() {
	for name, host := range p.file.Hosts {
		p.host(name, host)
	}

	for name, expr := range p.file.Groups {
		if _, err := p.file.Expand([]string{expr}); err != nil {
			p.add(p.at("groups", name), "group %s: %v", name, err)
		}
	}

	for name, credential := range p.file.Credentials {
		p.credential(name, credential)
	}

	for i, machine := range p.file.Machines {
		p.machine(i, machine)
	}

	p.duplicateIDs()
}

// isUUID accepts the text form of RFC 9562; Omni's machine ids are in it.
func isUUID(text string) bool {
	return regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`).MatchString(text)
}

func (p *parsing) host(name string, host Host) {
	check := func(ok bool, field, format string, args ...any) {
		if !ok {
			p.add(p.at("hosts", name, field), "host "+name+": "+format, args...)
		}
	}

	check(hosts.Valid(name), "", "the name has characters that a host list cannot hold")
	check(hosts.Valid(host.Address), "address", "%q is not an address", host.Address)
	check(slices.Contains([]string{"", "auto", "redfish", "ipmi"}, host.Protocol), "protocol",
		"protocol %q: want auto, redfish or ipmi", host.Protocol)
	check(host.Port >= 0 && host.Port <= 65535, "port", "%d is not a port", host.Port)
	check(host.ID == "" || isUUID(host.ID), "id", "%q is not a UUID", host.ID)
	check(host.Pin == "" || isPin(host.Pin), "pin", "%q: want sha256: and 64 hexadecimal digits", host.Pin)

	_, known := p.file.Credentials[host.Credentials]
	check(known || host.Credentials == "" || host.Credentials == DefaultCredentials, "credentials", "there are no credentials %q", host.Credentials)
}

func isPin(pin string) bool {
	digits, ok := strings.CutPrefix(pin, "sha256:")
	sum, err := hex.DecodeString(digits)

	return ok && err == nil && len(sum) == 32
}

func (p *parsing) credential(name string, credential Credential) {
	places := 0

	for _, given := range []bool{credential.PasswordFile != "", len(credential.PasswordCommand) > 0, credential.Credential != ""} {
		if given {
			places++
		}
	}

	if places != 1 {
		p.add(p.at("credentials", name), "credentials %s: give exactly one of password-file, password-command and credential", name)
	}
}

func (p *parsing) machine(index int, machine Machine) {
	check := func(ok bool, format string, args ...any) {
		if !ok {
			p.add(p.machineNode(index), fmt.Sprintf("machines[%d]: ", index)+format, args...)
		}
	}

	match, given := machine.Match, 0

	for _, text := range []string{match.ID, match.Serial, match.MAC} {
		if text != "" {
			given++
		}
	}

	_, macErr := net.ParseMAC(match.MAC)
	methods := []string{"ipxe-exit", "http-404", "ipxe-sanboot"}

	check(given == 1, "match: give exactly one of id, serial and mac")
	check(match.ID == "" || isUUID(match.ID), "match: %q is not a UUID", match.ID)
	check(match.MAC == "" || macErr == nil, "match: %q is not a MAC address", match.MAC)
	check(slices.Contains(methods, machine.BootFromDiskMethod), "boot-from-disk-method %q: want %s",
		machine.BootFromDiskMethod, strings.Join(methods, ", "))
}

func (p *parsing) machineNode(index int) ast.Node {
	list, ok := p.sections["machines"].(*ast.SequenceNode)
	if !ok || index >= len(list.Values) {
		return p.sections["machines"]
	}

	return list.Values[index]
}

// duplicateIDs refuses two hosts for one machine: the machine's name would be
// either's.
func (p *parsing) duplicateIDs() {
	first := map[string]string{}

	for _, name := range p.file.HostNames() {
		id := strings.ToLower(p.file.Hosts[name].ID)
		if id == "" {
			continue
		}

		if other, taken := first[id]; taken {
			p.add(p.at("hosts", name, "id"), "host %s: %s has the same id", name, other)

			continue
		}

		first[id] = name
	}
}
