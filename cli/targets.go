package cli

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/hosts"
	"github.com/bmctl/bmctl/serve/localapi"
)

// targetsHelp stands in the help of every command that speaks to BMCs itself.
const targetsHelp = `
TARGET is a host of the inventory, an address, host:port, an Omni machine id or the
start of one, a list of them (r1n[01-16], 10.0.3.[1-40]), a group (@rack1), or - for
lines of stdin. ^TARGET takes out again: @rack1 '^r1n[07,09]'.

The password comes from --password-file, $BMCTL_BMC_PASSWORD, --password-command, the
host's credentials in the configuration file, or is asked for, in this order.`

// targetFlags say which BMCs a command speaks to, and as whom.
type targetFlags struct {
	selector string
	protocol string
	port     int // probe's
	login    loginFlags
	parallel int
	networks bool // 10.0.3.0/26 is a target too
}

func (a *app) addTargetFlags(cmd *cobra.Command, f *targetFlags, parallel int) {
	flags := cmd.Flags()
	flags.StringVarP(&f.selector, "selector", "l", "", "only hosts of the inventory with these labels: rack=r1,!gpu")
	choiceVar(flags, &f.protocol, "protocol", "NAME", "how the BMCs are spoken to, where the inventory does not say", "auto", "redfish", "ipmi")
	f.login.add(flags)
	parallelFlag(flags, &f.parallel, parallel)
	must(cmd.RegisterFlagCompletionFunc("selector", a.completeHostLabels))

	cmd.ValidArgsFunction = a.completeTargets
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 && f.selector == "" {
			return usagef("name the targets, or give --selector")
		}

		if f.parallel < 1 {
			return usagef("--parallel %d: want at least 1", f.parallel)
		}

		return nil
	}
}

func parallelFlag(flags *pflag.FlagSet, value *int, parallel int) {
	*value = parallel
	flags.IntVarP(value, "parallel", "n", parallel, "how many BMCs are spoken to at a time")
}

// chosenBMC is a BMC that was named, and what is known of the machine behind it.
type chosenBMC struct {
	power.Target
	host string // its name in the inventory; empty: it is not there
	// hearsay is an address that came from the machine's agent, which anybody may
	// be: no password of the configuration goes there.
	hearsay bool
	// served: only serve has its login, and acts for us.
	served bool
}

// fleetView is what serve tells of the machines. It is asked once, and only
// when somebody wants to know.
type fleetView func() ([]localapi.Machine, error)

func (a *app) fleetView(ctx context.Context) fleetView {
	return sync.OnceValues(func() ([]localapi.Machine, error) {
		client := a.serveClient()
		defer client.Close()

		list, err := client.Machines(ctx)
		if err == nil {
			a.remember(list)
		}

		return list.Items, err
	})
}

// chooseBMCs returns the BMCs that the arguments stand for, each once, in the
// order in which they were named. Nothing has been asked of them.
func (a *app) chooseBMCs(args []string, f targetFlags, fleet fleetView) ([]chosenBMC, error) {
	names, err := a.targetNames(args, f)
	if err != nil {
		return nil, err
	}

	r := resolver{file: a.file, fleet: fleet, protocol: f.protocol, port: f.port}
	known := map[string]bool{}

	var chosen []chosenBMC

	for _, name := range names {
		bmc, err := r.resolve(name)
		if err != nil {
			return nil, err
		}

		key := fmt.Sprint(bmc.Address, bmc.Port, bmc.RedfishPort)
		if bmc.Address == "" {
			key = bmc.UUID
		}

		if !known[key] {
			known[key] = true

			chosen = append(chosen, bmc)
		}
	}

	return chosen, nil
}

// targetNames are the names that the arguments and the selector stand for. With
// a selector and nothing but exclusions the whole inventory is meant.
func (a *app) targetNames(args []string, f targetFlags) ([]string, error) {
	if slices.Contains(args, "-") && f.login.passwordFile == "-" {
		return nil, usagef("stdin cannot hold both the targets and the password")
	}

	selector, err := parseSelector(f.selector)
	if err != nil {
		return nil, err
	}

	if f.selector != "" && !slices.ContainsFunc(args, func(arg string) bool { return !strings.HasPrefix(arg, "^") }) {
		args = append(a.file.HostNames(), args...)
	}

	exprs, err := a.targetExprs(args)
	if err != nil {
		return nil, err
	}

	names, err := a.file.ExpandWith(exprs, hosts.Options{Prefixes: f.networks})
	if err != nil {
		return nil, usagef("%w", err)
	}

	if f.selector != "" {
		names = slices.DeleteFunc(names, func(name string) bool { return !selector.Matches(labelSet(a.file.Hosts[name].Labels)) })
	}

	if len(names) == 0 {
		return nil, failf(codeNoMatch, "", "the targets stand for no machine at all")
	}

	return names, nil
}

// dialer opens the conversations of a command, with a log where one is wanted.
func (a *app) dialer() *power.Dialer {
	opts := power.Options{}
	if a.global.verbose > 0 {
		opts.Log = a.logger(slog.LevelDebug)
	}

	return power.NewDialer(opts)
}

func powerTargets(chosen []chosenBMC) []power.Target {
	targets := make([]power.Target, len(chosen))
	for i, bmc := range chosen {
		targets[i] = bmc.Target
	}

	return targets
}

// foldNames is the machines' names as one host list.
func foldNames(chosen []chosenBMC) string {
	names := make([]string, len(chosen))
	for i, bmc := range chosen {
		names[i] = bmc.Name
	}

	return hosts.Fold(names)
}
