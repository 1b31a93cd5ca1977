package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/operator"
)

func (a *app) removeCommand() *cobra.Command {
	var (
		f       actFlags
		timeout time.Duration
	)

	cmd := &cobra.Command{
		Use:   "remove MACHINE...",
		Short: "Remove machines from Omni; neither BMC nor agent need to be alive",
		Long: `Remove machines from Omni. Nothing is wiped. serve forgets the login of the BMC and
lets go; a machine that is off stays off, and one whose BMC and agent are dead is
let go of as well.

A machine whose agent still runs, or that boots from the network again, joins
Omni again as a new pending machine. To be rid of it, switch it off or take the
network out of its boot order.
` + needsOperator,
		Args: machineArgs, ValidArgsFunction: a.completeMachines,
	}

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.actOn(cmd.Context(), args, f, machineAct{
			verb: "remove", done: "removed", kind: "RemoveResultList", permit: a.permitRemoval, slow: true,
			do: func(ctx context.Context, omni *operator.Client, id string) error {
				return removeOne(ctx, omni, id, timeout)
			},
		})
	}

	f.add(cmd.Flags())
	f.addYes(cmd.Flags())
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for serve to let go of each")

	return cmd
}

func removeOne(ctx context.Context, omni *operator.Client, id string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	err := omni.Remove(ctx, id)
	if !errors.Is(err, operator.ErrPending) {
		return err
	}

	f := failf(codeTimeout, "bmctl machines get "+firstBlock(id)+", or bmctl serve if it does not run: the removal goes on by itself", "%w", err)
	f.target = id

	return f
}

// permitRemoval has the first block of the id typed, or the number of machines
// when they are several.
func (a *app) permitRemoval(ctx context.Context, chosen, all []candidate) error {
	wanted, question := firstBlock(chosen[0].ID), "Type the first block of the id (%s) to remove it: "
	if len(chosen) > 1 {
		wanted, question = fmt.Sprint(len(chosen)), "Type the number of machines (%s) to remove them: "
	}

	hint := fmt.Sprintf("bmctl machines remove %s --yes", shortIDs(chosen, all))

	answer, err := a.ask(ctx, removalWarning(chosen), fmt.Sprintf(question, wanted), hint)
	if err != nil {
		return err
	}

	if !strings.EqualFold(answer, wanted) {
		return failf(codeRefused, "", "not confirmed: nothing was removed")
	}

	return nil
}

func removalWarning(chosen []candidate) string {
	var text strings.Builder

	text.WriteString(whatHappens(chosen, "will be removed from Omni. Nothing is wiped"))

	for _, c := range chosen {
		if !c.seen.AgentSince.IsZero() {
			fmt.Fprintf(&text, "The agent of %s runs: it will join again as a new pending machine.\n", out.Clean(c.name))
		}
	}

	text.WriteString("A machine that boots from the network again joins again, as a new pending machine.\n")

	return text.String()
}
