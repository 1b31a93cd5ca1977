package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
)

func (a *app) releaseCommand() *cobra.Command {
	var reason string

	cmd := &cobra.Command{
		Use:   "release MACHINE --reason TEXT",
		Short: "Lift the hold of a machine, on your word that its cause is understood",
		Long: `Lift the hold of a machine, on your word that its cause is understood.

A machine is held when there is reason to distrust what is known of it: serve
then does nothing to it. The reason that you give is recorded with your user id.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error { return a.release(cmd.Context(), args[0], reason) },
	}

	cmd.Flags().StringVar(&reason, "reason", "", "why it is safe to go on; needed")

	return cmd
}

func (a *app) release(ctx context.Context, target, reason string) error {
	if reason == "" {
		return usagef("a release needs a reason: --reason TEXT")
	}

	client := a.serveClient()
	defer client.Close()

	all, err := client.Machines(ctx)
	if err != nil {
		return err
	}

	indexes, err := match([]string{target}, machineRefs(all.Items))
	if err != nil {
		return err
	}

	m := all.Items[indexes[0]]
	err = client.Release(ctx, m.ID, reason)
	if errors.Is(err, localapi.ErrRefused) {
		f := failf(codeRefused, "bmctl machines get "+handle(m, machineRefs(all.Items)), "%w", err)
		f.target = m.ID

		return f
	}

	if err != nil {
		return err
	}

	_, err = fmt.Fprintf(a.stdout, "released  %s\n", out.Clean(m.Name))

	return err
}
