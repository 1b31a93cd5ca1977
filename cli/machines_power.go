package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/operator"
)

// powerRequest is a command that asks Omni for something about machines' power.
type powerRequest struct {
	act         machineAct
	short, long string
	// disrupts says what happens to machines in a cluster, which is asked about
	// first; empty: nothing is asked.
	disrupts string
}

func powerRequests() []powerRequest {
	return []powerRequest{{
		act: machineAct{
			verb: "reboot", done: "reboot-requested", kind: "RebootResultList", guard: notAccepted,
			do: func(ctx context.Context, omni *operator.Client, id string) error { return omni.Reboot(ctx, id) },
		},
		short: "Have serve reset machines, once",
		long: `Ask for one reboot of each machine. serve resets it through its BMC, without telling
the operating system, once --min-reboot-interval since its last start has passed.
Of a machine that is off nothing is rebooted. Machines in a cluster are asked
about first.`,
		disrupts: "will be reset, without telling the operating system",
	}, {
		act: machineAct{
			verb: "power-off", done: "power-off-requested", kind: "PowerOffResultList", guard: notInCluster,
			do: func(ctx context.Context, omni *operator.Client, id string) error { return omni.PowerOff(ctx, id) },
		},
		short: "Have Omni shut machines of a cluster down, and leave them off",
		long: `Ask Omni to shut the operating system of machines in a cluster down, and serve to
leave them off until bmctl machines power-on. serve never cuts their power.
A machine in no cluster is off unless its power is preferred on.`,
		disrupts: "will be shut down",
	}, {
		act: machineAct{
			verb: "power-on", done: "power-on-requested", kind: "PowerOnResultList",
			do: func(ctx context.Context, omni *operator.Client, id string) error { return omni.PowerOn(ctx, id) },
		},
		short: "Take power-off back: serve powers machines on if something wants them on",
		long: `Take bmctl machines power-off back. serve then powers the machine on if its cluster
or its preferred power wants that.`,
	}}
}

func (a *app) powerRequestCommand(r powerRequest) *cobra.Command {
	var f actFlags

	cmd := &cobra.Command{
		Use: r.act.verb + " MACHINE...", Short: r.short, Long: r.long + "\n" + needsOperator,
		Args: machineArgs, ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error { return a.actOn(cmd.Context(), args, f, r.act) },
	}

	f.add(cmd.Flags())

	if r.disrupts != "" {
		f.addYes(cmd.Flags())
		r.act.permit = a.permitDisruption(r.act.verb, r.disrupts)
	}

	return cmd
}

func (a *app) preferCommand() *cobra.Command {
	var f actFlags

	cmd := &cobra.Command{
		Use:   "prefer on|off MACHINE...",
		Short: "Say whether machines are on while no cluster wants them",
		Long: `Say whether accepted machines are on while no cluster wants them. Omni's default is
off. A machine in a cluster, or one that is to be wiped, is on whatever is preferred.
` + needsOperator,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 || args[0] != "on" && args[0] != "off" {
				return usagef("say on or off, then the machines")
			}

			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return []string{"on", "off"}, cobra.ShellCompDirectiveNoFileComp
			}

			return a.completeMachines(cmd, args, typed)
		},
	}

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.actOn(cmd.Context(), args[1:], f, machineAct{
			verb: "prefer-" + args[0], done: "prefers-" + args[0], kind: "PreferResultList",
			do: func(ctx context.Context, omni *operator.Client, id string) error {
				return omni.PreferPower(ctx, id, args[0] == "on")
			},
		})
	}

	f.add(cmd.Flags())

	return cmd
}

func notAccepted(c candidate) error {
	if c.Acceptance != operator.Accepted {
		return failf(codeRefused, "bmctl accept "+c.name, "%s is not accepted: serve does not touch it", c.name)
	}

	return nil
}

func notInCluster(c candidate) error {
	if !c.inCluster() {
		return failf(codeRefused, "bmctl machines prefer off "+c.name, "%s is in no cluster: nothing keeps it on but its preferred power", c.name)
	}

	return nil
}

// permitDisruption asks before machines of a cluster are taken down; the others
// are nobody's.
func (a *app) permitDisruption(verb, what string) func(context.Context, []candidate, []candidate) error {
	return func(ctx context.Context, chosen, all []candidate) error {
		used := 0

		for _, c := range chosen {
			if c.inCluster() {
				used++
			}
		}

		if used == 0 {
			return nil
		}

		question := fmt.Sprintf("%d of them are in use. Continue?", used)
		if used == 1 {
			question = "One of them is in use. Continue?"
		}

		if len(chosen) == 1 {
			question = "Continue?"
		}

		hint := fmt.Sprintf("bmctl machines %s %s --yes", verb, shortIDs(chosen, all))

		return a.confirm(ctx, whatHappens(chosen, what), len(chosen), question, hint)
	}
}

// whatHappens lists the machines, with what each is used for.
func whatHappens(chosen []candidate, what string) string {
	var text strings.Builder

	subject := "This machine"
	if len(chosen) > 1 {
		subject = fmt.Sprintf("These %d machines", len(chosen))
	}

	text.WriteString(subject + " " + what + ":\n")

	for _, c := range chosen {
		text.WriteString(out.Clean(fmt.Sprintf("  %-12s %s  %s", c.name, c.ID, c.whereabouts())) + "\n")
	}

	return text.String()
}
