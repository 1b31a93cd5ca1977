package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/serve/operator"
)

func (a *app) rejectCommand() *cobra.Command {
	var f actFlags

	cmd := &cobra.Command{
		Use:   "reject MACHINE...",
		Short: "Keep a pending machine out: it is never powered nor wiped, and boots its own disk",
		Long: `Reject pending machines. They are never powered nor wiped, and boot their own disks.
A rejected machine can still be accepted later; an accepted one cannot be rejected.

This needs Omni's role Operator, as bmctl accept does.`,
		Args: machineArgs, ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error { return a.reject(cmd.Context(), args, f) },
	}

	f.add(cmd.Flags())

	return cmd
}

func (a *app) reject(ctx context.Context, args []string, f actFlags) error {
	targets, err := a.targets(args)
	if err != nil {
		return err
	}

	omni, err := a.connectOmni(ctx, f.omni)
	if err != nil {
		return err
	}

	defer omni.Close() //nolint:errcheck // nothing is lost with it

	all, err := a.candidates(ctx, omni)
	if err != nil {
		return err
	}

	chosen, done, err := choose(targets, all)
	if err != nil {
		return err
	}

	if len(done) > 0 {
		no := failf(codeRefused, "", "%s is accepted, and that cannot be taken back: nothing was rejected", done[0].name)
		no.target = done[0].ID

		return no
	}

	chosen = slices.DeleteFunc(chosen, func(c candidate) bool { return c.Acceptance == operator.Rejected })

	const kind = "RejectResultList"

	if f.dryRun {
		return a.actDocument(kind, a.wouldAct(chosen, "would-reject"))
	}

	results := a.actEach(ctx, chosen, resultRejected, omni.Reject)
	if err := a.actDocument(kind, results); err != nil {
		return err
	}

	return setFailure(results)
}
