package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/cli/collector"
	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/cli/out"
)

// withoutConfig marks commands that must work beside a broken configuration.
const withoutConfig = "bmctl-without-config"

// resident marks commands that stay, where memory is worth more than time.
const resident = "bmctl-resident"

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:               "bmctl",
		Short:             "Run bare metal under Sidero Omni and Talos Linux",
		Version:           buildVersion(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.setup(cmd) },
	}

	group(root)
	a.globalFlags(root.PersistentFlags())
	root.SetVersionTemplate("bmctl {{.Version}}\n")
	root.SetHelpTemplate("{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}\n\n{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}\n" + exitHelp)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return a.usageError(cmd, err) })
	root.AddCommand(a.serveCommand(), a.machinesCommand(), a.acceptCommand(), a.rejectCommand(),
		a.probeCommand(), a.powerCommand(), a.consoleCommand(), a.cacheCommand(), a.configCommand(), a.labCommand(), a.pxeCommand(), a.versionCommand(), a.tuiCommand(), a.docsCommand())
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(out.Formats(), cobra.ShellCompDirectiveNoFileComp)))
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	decorate(a, root)

	return root
}

// must marks mistakes of the program itself, which every test run would meet.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (a *app) globalFlags(flags *pflag.FlagSet) {
	g := &a.global
	g.output = out.Table

	flags.StringVarP(&g.config, "config", "c", "", "configuration `FILE` (default $XDG_CONFIG_HOME/bmctl/config.yaml, else /etc/bmctl/config.yaml)")
	flags.VarP(&g.output, "output", "o", strings.Join(out.Formats(), " | "))
	flags.BoolVar(&g.noHeaders, "no-headers", false, "no column heads")
	choiceVar(flags, &g.color, "color", "WHEN", "colours; auto honours NO_COLOR, TERM=dumb and pipes", "auto", "always", "never")
	flags.BoolVar(&g.noInput, "no-input", false, "never prompt: fail with exit code 2 where a prompt would be needed")
	flags.BoolVarP(&g.quiet, "quiet", "q", false, "no progress, no hints")
	flags.CountVarP(&g.verbose, "verbose", "v", "debug log on stderr")
	choiceVar(flags, &g.logFormat, "log-format", "FORMAT", "log on stderr; auto is text on a terminal, else json", "auto", "text", "json")
	flags.StringVar(&g.socket, "socket", "/run/bmctl/bmctl.sock", "running serve's local API at `PATH`")
}

// setup reads the environment and the configuration file, for the flags that
// the command line left out.
func (a *app) setup(cmd *cobra.Command) error {
	if cmd.Annotations[resident] != "" {
		collector.Resident()
	}

	flags := cmd.Root().PersistentFlags()

	path, given := config.Path(a.env)
	if a.global.config != "" {
		path, given = a.global.config, true
	}

	var (
		loadErr  error
		tolerant = isTolerant(cmd)
	)

	a.file, loadErr = config.Load(path, given)
	if loadErr != nil && !tolerant {
		return loadErr
	}

	origins, problems := config.Resolve(flags, config.Source{Env: a.env, Path: a.file.Path, Values: a.file.Settings})
	if len(problems) > 0 && !tolerant {
		return problems
	}

	a.origins = origins
	a.global.config = path

	return nil
}

func isTolerant(cmd *cobra.Command) bool {
	for c := cmd; c != nil; c = c.Parent() {
		if c.Annotations[withoutConfig] != "" || slices.Contains([]string{"completion", "help", "__complete", "__completeNoDesc"}, c.Name()) {
			return true
		}
	}

	return false
}

// group makes a command that only has subcommands say what is wrong with a word
// that is none of them.
func group(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}

		text := fmt.Sprintf("unknown command %q for %s", args[0], cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}

		return usagef("%s", text)
	}
}

// decorate makes usage failures of every command tell its use line, and treats
// what cobra itself refuses as one.
func decorate(a *app, cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return a.usageError(cmd, err)
			}

			return nil
		}
	}

	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			err := run(cmd, args)
			if err != nil && isUsage(err) {
				return a.usageError(cmd, err)
			}

			return err
		}
	}

	for _, child := range cmd.Commands() {
		decorate(a, child)
	}
}

func isUsage(err error) bool {
	f := classify(err)

	return f.code == codeUsage && f.hint == ""
}

func (a *app) usageError(cmd *cobra.Command, err error) error {
	return &failure{code: codeUsage, message: err.Error(), usage: cmd.UseLine(), hint: cmd.CommandPath() + " --help", err: err}
}
