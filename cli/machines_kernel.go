package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/serve/operator"
)

func (a *app) kernelArgsCommand() *cobra.Command {
	var (
		f    actFlags
		none bool
	)

	cmd := &cobra.Command{
		Use:   "kernel-args MACHINE ARG...",
		Short: "Replace the extra kernel arguments of a machine",
		Long: `Replace the extra kernel arguments of a machine. They count from its next boot over
the network, in agent mode and in Talos. Put arguments that begin with a dash
behind --.
` + needsOperator,
		Example: "  bmctl machines kernel-args r1n03 console=ttyS1,115200n8 nomodeset\n  bmctl machines kernel-args r1n03 --clear",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("name the machine")
			case none == (len(args) > 1):
				return usagef("give the kernel arguments, or --clear")
			}

			return nil
		},
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.kernelArgs(cmd.Context(), args[0], strings.Join(args[1:], " "), f)
		},
	}

	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&none, "clear", false, "no extra kernel arguments any more")

	return cmd
}

func (a *app) kernelArgs(ctx context.Context, target, kernelArgs string, f actFlags) error {
	return a.actOn(ctx, []string{target}, f, machineAct{
		verb: "set-kernel-args", done: "kernel-args-set", kind: "KernelArgsResultList",
		do: func(ctx context.Context, omni *operator.Client, id string) error {
			return omni.KernelArgs(ctx, id, kernelArgs)
		},
	})
}
