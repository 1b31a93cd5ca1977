package cli

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// docsCommand generates the reference from the commands themselves, for
// docs/reference and for packages.
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

				return write(cmd.Root(), args[0])
			},
		}
	}

	cmd.AddCommand(
		generate("markdown", "Write the pages of docs/reference", writeMarkdown),
		generate("man", "Write man pages", writeMan),
		generate("share", "Write what packages put into /usr/share: man pages and completions", writeShare),
	)

	return cmd
}

// writeMarkdown writes a page for each command of the first level, with those
// below it as sections, and README.md for bmctl itself. The words are those of
// --help; what all commands have stands in README.md alone.
func writeMarkdown(root *cobra.Command, dir string) error {
	index := markdownSection(root, "#") + "\n## Exit codes\n\n```\n" + strings.TrimPrefix(exitHelp, exitHead) + "```\n\nErrors by name: [errors.md](../errors.md).\n\n## Commands\n\n"

	root.PersistentFlags().VisitAll(func(flag *pflag.Flag) { flag.Hidden = true })

	for _, cmd := range documented(root) {
		index += fmt.Sprintf("- [%s](%s.md): %s\n", cmd.CommandPath(), cmd.Name(), escaped(cmd.Short))
		page := markdownSection(cmd, "#") + "\nFlags that every command has, and the exit codes: [bmctl](README.md).\n"

		if err := os.WriteFile(filepath.Join(dir, cmd.Name()+".md"), []byte(page+markdownBelow(cmd)), 0o644); err != nil {
			return err
		}
	}

	return os.WriteFile(filepath.Join(dir, "README.md"), []byte(index), 0o644)
}

func markdownBelow(parent *cobra.Command) string {
	var text strings.Builder

	for _, cmd := range documented(parent) {
		text.WriteString("\n" + markdownSection(cmd, "##") + markdownBelow(cmd))
	}

	return text.String()
}

func markdownSection(cmd *cobra.Command, heading string) string {
	cmd.InitDefaultHelpFlag()

	about := cmd.Short + "."
	if cmd.Long != "" {
		about = strings.TrimSpace(cmd.Long)
	}

	return fmt.Sprintf("%s %s\n\n%s\n\n```\n%s\n```\n", heading, cmd.CommandPath(), escaped(about), strings.TrimSpace(cmd.UsageString()))
}

// documented are the commands below one that a reference tells of.
func documented(parent *cobra.Command) []*cobra.Command {
	var shown []*cobra.Command

	for _, cmd := range parent.Commands() {
		if cmd.IsAvailableCommand() && cmd.Name() != "help" {
			shown = append(shown, cmd)
		}
	}

	return shown
}

// escaped keeps a <PLACEHOLDER> from being taken for HTML; indented lines are
// code and stay.
func escaped(text string) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, "\t") {
			lines[i] = strings.ReplaceAll(line, "<", `\<`)
		}
	}

	return strings.Join(lines, "")
}

// writeMan writes a man page for each command. They are dated by the commit,
// where the build knows it.
func writeMan(root *cobra.Command, dir string) error {
	root.DisableAutoGenTag = true // the date would change every page every day

	header := doc.GenManHeader{Section: "1", Source: "bmctl", Manual: "bmctl"}
	if at, err := time.Parse(time.RFC3339, version().CommitTime); err == nil {
		header.Date = &at
	}

	prepareMan(root)

	return doc.GenManTree(root, &header, dir)
}

// prepareMan makes the texts Markdown, which the generator takes them for, and
// gives every page the exit codes.
func prepareMan(cmd *cobra.Command) {
	if cmd.Long == "" {
		cmd.Long = cmd.Short + "."
	}

	cmd.Long = escaped(cmd.Long) + "\n\n# EXIT STATUS\n" + indented(strings.TrimPrefix(exitHelp, exitHead))

	cmd.LocalNonPersistentFlags().VisitAll(func(flag *pflag.Flag) { flag.Usage = escaped(flag.Usage) })

	for _, child := range cmd.Commands() {
		prepareMan(child)
	}
}

func indented(text string) string { return "\t" + strings.ReplaceAll(text, "\n", "\n\t") }

// writeShare lays everything out as under /usr/share. Debian's zsh and the others'
// look into folders of different names.
func writeShare(root *cobra.Command, dir string) error {
	for name, generate := range map[string]func(*bytes.Buffer) error{
		"bash-completion/completions/bmctl":    func(b *bytes.Buffer) error { return root.GenBashCompletionV2(b, true) },
		"fish/vendor_completions.d/bmctl.fish": func(b *bytes.Buffer) error { return root.GenFishCompletion(b, true) },
		"zsh/vendor-completions/_bmctl":        func(b *bytes.Buffer) error { return root.GenZshCompletion(b) },
		"zsh/site-functions/_bmctl":            func(b *bytes.Buffer) error { return root.GenZshCompletion(b) },
	} {
		var script bytes.Buffer
		if err := generate(&script); err != nil {
			return err
		}

		if err := writeBelow(dir, name, script.Bytes()); err != nil {
			return err
		}
	}

	return writeManCompressed(root, filepath.Join(dir, "man", "man1"))
}

func writeManCompressed(root *cobra.Command, dir string) error {
	plain, err := os.MkdirTemp("", "bmctl-man-")
	if err != nil {
		return err
	}

	defer os.RemoveAll(plain) //nolint:errcheck // a temporary directory

	if err := writeMan(root, plain); err != nil {
		return err
	}

	pages, err := os.ReadDir(plain)
	if err != nil {
		return err
	}

	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(plain, page.Name()))
		if err != nil {
			return err
		}

		var packed bytes.Buffer

		zip := gzip.NewWriter(&packed)
		if _, err := zip.Write(text); err != nil {
			return err
		}

		if err := zip.Close(); err != nil {
			return err
		}

		if err := writeBelow(dir, page.Name()+".gz", packed.Bytes()); err != nil {
			return err
		}
	}

	return nil
}

func writeBelow(dir, name string, data []byte) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}

	return os.WriteFile(path, data, 0o644)
}
