package cli

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// docsCommand generates the reference from the commands themselves, for
// packages and for docs/reference.
func (a *app) docsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "docs", Short: "Write the reference of the commands", Hidden: true, Annotations: map[string]string{withoutConfig: "true"}}
	group(cmd)

	generate := func(use, short string, write func(root *cobra.Command, dir string) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " DIR", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				if err := os.MkdirAll(args[0], 0o755); err != nil {
					return err
				}

				root := cmd.Root()
				root.DisableAutoGenTag = true // the date would change every page every day

				return write(root, args[0])
			},
		}
	}

	cmd.AddCommand(
		generate("markdown", "Write Markdown pages", doc.GenMarkdownTree),
		generate("man", "Write man pages", func(root *cobra.Command, dir string) error {
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "bmctl"}, dir)
		}),
	)

	return cmd
}
