package cli

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/operator"
)

// bmcSources is all that may say where a machine's BMC is, and how to log in.
type bmcSources struct {
	verb       bmcVerb
	c          candidate
	flags      bmcFlags
	stored     operator.BMC // set in Omni before
	host       config.Host  // of the inventory; zero: none
	credential config.Credential
}

func (a *app) bmcSources(verb bmcVerb, c candidate, stored operator.BMC, f bmcFlags) bmcSources {
	if verb == bmcSet {
		stored = operator.BMC{} // it is to be replaced as a whole
	}

	host := a.hostOf(c, f.address)

	return bmcSources{verb, c, f, stored, host, a.file.Credentials[cmp.Or(host.Credentials, config.DefaultCredentials)]}
}

// hostOf is the machine's host in the inventory: by its id, else by the address
// of its BMC. The zero Host: there is none.
func (a *app) hostOf(c candidate, address string) config.Host {
	for _, name := range a.file.HostNames() {
		if host := a.file.Hosts[name]; strings.EqualFold(host.ID, c.ID) {
			return host
		}
	}

	return a.file.Hosts[a.file.NamesByAddress()[cmp.Or(address, c.seen.BMC.Address)]]
}

// bmcLogin puts together where the BMC is and whom to log in as: from the flags,
// else what was set in Omni (rotate and test), else the inventory, else what
// serve sees.
func (a *app) bmcLogin(ctx context.Context, s bmcSources) (power.Target, error) {
	target := power.Target{
		Name: s.c.name, UUID: s.c.ID, Protocol: power.Protocol(s.flags.protocol),
		Address:  cmp.Or(s.flags.address, s.stored.Address, s.host.Address, s.c.seen.BMC.Address),
		Username: cmp.Or(s.flags.login.username, s.stored.Username, s.credential.Username),
	}

	s.fillPorts(&target, a.file)

	switch {
	case target.Address == "":
		return target, usagef("the address of the BMC of %s is not known: give --address", s.c.name)
	case target.Username == "":
		return target, usagef("whom to log in as on the BMC of %s is not known: give --username", s.c.name)
	}

	var err error
	target.Password, err = a.bmcPassword(ctx, s, target)

	return target, err
}

// fillPorts takes protocol and ports from the inventory where no flag said them.
// Its one port is that of its protocol.
func (s bmcSources) fillPorts(target *power.Target, file config.File) {
	target.Port = cmp.Or(s.flags.port, int(s.stored.Port))
	target.RedfishPort = s.flags.redfishPort

	if s.host.Address == target.Address {
		if target.Protocol == power.ProtocolAuto {
			target.Protocol = cmp.Or(power.Protocol(s.host.Protocol), power.ProtocolAuto)
		}

		if s.host.Protocol == string(power.ProtocolRedfish) {
			target.RedfishPort = cmp.Or(target.RedfishPort, s.host.Port)
		} else {
			target.Port = cmp.Or(target.Port, s.host.Port)
		}
	}

	if port, err := strconv.Atoi(file.Serve["redfish-port"].Text); err == nil {
		target.RedfishPort = cmp.Or(target.RedfishPort, port)
	}
}

func (a *app) bmcPassword(ctx context.Context, s bmcSources, target power.Target) (power.Secret, error) {
	password, err := a.givenPassword(ctx, s.flags.login, target.Address)
	if err != nil || !password.IsZero() {
		return password, err
	}

	if s.verb == bmcTest && target.Username == s.stored.Username && !s.stored.Password.IsZero() {
		return s.stored.Password, nil
	}

	// An address that only serve knows comes from the machine's agent, which
	// anybody may be: the inventory's password is not sent there by itself.
	vouched := cmp.Or(s.flags.address, s.stored.Address, s.host.Address) != ""
	if vouched && target.Username == s.credential.Username {
		password, err = a.credentialPassword(ctx, s.credential, target.Address)
		if err != nil || !password.IsZero() {
			return password, err
		}
	}

	hint := fmt.Sprintf("bmctl machines bmc %s %s --password-file FILE", s.verb, target.Name)

	return a.askSecret(ctx, fmt.Sprintf("Password of %s on the BMC %s: ", out.Clean(target.Username), out.Clean(target.Address)), hint)
}
