package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/serve/operator"
)

func (a *app) cordonCommand(cordon bool) *cobra.Command {
	var f actFlags

	cmd := &cobra.Command{
		Use:   "cordon MACHINE...",
		Short: "Keep serve from doing anything to machines; it goes on reporting",
		Long: `Cordon machines: serve then neither powers nor wipes nor reboots them, and goes on
reporting what they do. A machine that is installed still boots its disk; any
other waits at its next network boot. Hands off while somebody works on it.
` + needsOperator,
		Args: machineArgs, ValidArgsFunction: a.completeMachines,
	}

	act := machineAct{verb: "cordon", done: "cordoned", kind: "CordonResultList", do: cordonOne}

	if !cordon {
		cmd.Use, cmd.Short = "uncordon MACHINE...", "Take a cordon back: serve does again what is due"
		cmd.Long = "Uncordon machines: serve does again what is due, at once.\n" + needsOperator
		act = machineAct{verb: "uncordon", done: "uncordoned", kind: "UncordonResultList", do: uncordonOne}
	}

	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.actOn(cmd.Context(), args, f, act) }
	f.add(cmd.Flags())

	return cmd
}

func cordonOne(ctx context.Context, omni *operator.Client, id string) error {
	return omni.Cordon(ctx, id)
}

func uncordonOne(ctx context.Context, omni *operator.Client, id string) error {
	return omni.Uncordon(ctx, id)
}
