package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) pxeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "pxe", Short: "Look at network booting: test it, and see what serve saw of it"}

	group(cmd)
	cmd.AddCommand(a.pxeTestCommand(), a.pxeEventsCommand())

	return cmd
}
