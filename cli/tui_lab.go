package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/serve/lab"
)

// tuiSpeed lets a person see what happens: at full speed a lab's machine boots
// in less than a second.
const tuiSpeed = "0.25x"

// labTUI runs a lab and shows it until the person leaves.
func (a *app) labTUI(cmd *cobra.Command, f labFlags, command []string) error {
	if len(command) > 0 {
		return usagef("--tui takes no command: the view is what runs in the lab")
	}

	var looks tuiFlags

	looks.add(pflag.NewFlagSet("tui", pflag.ContinueOnError)) // its defaults

	if err := a.needsTerminal(); err != nil {
		return err
	}

	if !cmd.Flags().Changed("speed") {
		f.speed = tuiSpeed
	}

	var said syncBuffer

	quiet := *a
	quiet.stderr = &said

	defer func() { fmt.Fprint(a.stderr, said.String()) }() //nolint:errcheck // nowhere left to say it

	return quiet.lab(cmd.Context(), f, nil, func(ctx context.Context, _ *lab.Lab, variables []lab.Variable) error {
		var env []string
		for _, v := range variables {
			env = append(env, v.Name+"="+v.Value)
		}

		inner, err := quiet.within(env)
		if err != nil {
			return err
		}

		return inner.tui(ctx, cmd.Root(), looks)
	})
}
