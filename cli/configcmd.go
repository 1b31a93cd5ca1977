package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Show, check or begin the configuration file",
		Annotations: map[string]string{withoutConfig: "true"}, // its subcommands report what is wrong themselves
	}
	group(cmd)

	cmd.AddCommand(
		a.configViewCommand(),
		&cobra.Command{
			Use: "path", Short: "Print the path of the file that is used", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := fmt.Fprintln(a.stdout, a.global.config)

				return err
			},
		},
		&cobra.Command{
			Use: "check [FILE]", Short: "Check the file and the environment: every problem on a line of its own", Args: cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return a.configCheck(cmd, args) },
		},
		&cobra.Command{
			Use: "init [FILE]", Short: "Write a file with every section explained; an existing one is left alone", Args: cobra.MaximumNArgs(1),
			RunE: func(_ *cobra.Command, args []string) error { return a.configInit(args) },
		},
	)

	return cmd
}

func (a *app) configViewCommand() *cobra.Command {
	var origin bool

	cmd := &cobra.Command{
		Use: "view", Short: "Print the value of every global flag and of every flag of serve", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.configView(cmd, origin) },
	}
	cmd.Flags().BoolVar(&origin, "origin", false, "and the place that each value came from")

	return cmd
}

type settingList struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Items      []setting `json:"items"`
}

type setting struct {
	Section string `json:"section"` // global or serve
	Name    string `json:"name"`
	Value   string `json:"value"`
	Origin  string `json:"origin"`
}

func (a *app) configView(cmd *cobra.Command, withOrigin bool) error {
	list := settingList{APIVersion: "bmctl/v1", Kind: "SettingList"}

	global := cmd.Root().PersistentFlags()
	if problems := a.recheck(global); len(problems) > 0 {
		return problems
	}

	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg := serve.DefaultConfig()
	serveFlags(flags, &cfg)

	origins, problems := a.resolveServe(flags)
	if len(problems) > 0 {
		return problems
	}

	list.add("global", global, a.origins)
	list.add("serve", flags, origins)

	view := out.View{
		Columns:  []out.Column{{Head: "SECTION"}, {Head: "NAME"}, {Head: "VALUE"}, {Head: "ORIGIN", Wide: !withOrigin}},
		Document: list,
	}

	for _, s := range list.Items {
		view.Rows = append(view.Rows, out.Text(s.Section, s.Name, s.Value, s.Origin))
		view.Names = append(view.Names, s.Name)
	}

	return a.printer().Print(view)
}

func (l *settingList) add(section string, flags *pflag.FlagSet, origins config.Origins) {
	flags.VisitAll(func(flag *pflag.Flag) {
		l.Items = append(l.Items, setting{section, flag.Name, flag.Value.String(), origins[flag.Name]})
	})
}

// recheck reads the file and the environment once more, for the problems that
// setup passed over.
func (a *app) recheck(global *pflag.FlagSet) config.Problems {
	_, given := config.Path(a.env)
	if global.Changed("config") {
		given = true
	}

	file, err := config.Load(a.global.config, given)
	if err != nil {
		problems, ok := err.(config.Problems) //nolint:errorlint // Load promises exactly this
		if !ok {
			problems = config.Problems{{Text: err.Error()}}
		}

		return problems
	}

	a.file = file
	_, problems := config.Resolve(global, config.Source{Env: a.env, Path: file.Path, Values: file.Settings})

	return problems
}

func (a *app) configCheck(cmd *cobra.Command, args []string) error {
	global := cmd.Root().PersistentFlags()
	if len(args) > 0 {
		must(global.Set("config", args[0]))
	}

	problems := a.recheck(global)

	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg := serve.DefaultConfig()
	serveFlags(flags, &cfg)

	_, more := a.resolveServe(flags)
	if problems = append(problems, more...); len(problems) > 0 {
		return problems
	}

	state := a.global.config
	if a.file.Path == "" {
		state += " (there is none: defaults)"
	}

	_, err := fmt.Fprintf(a.stdout, "ok  %s\n", out.Clean(state))

	return err
}

func (a *app) configInit(args []string) error {
	path := a.global.config
	if len(args) > 0 {
		path = args[0]
	}

	if _, err := os.Lstat(path); err == nil {
		return failf(codeRefused, "bmctl config check "+path, "%s exists and is left as it is", path)
	}

	if err := config.Init(path); err != nil {
		return err
	}

	_, err := fmt.Fprintln(a.stdout, out.Clean(path))

	return err
}
