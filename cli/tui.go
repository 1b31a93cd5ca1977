package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/tui"
)

// tuiFlags are the flags of tui.
type tuiFlags struct {
	tui.Options
	source string
}

// The values of --source.
const (
	sourceAuto      = "auto"
	sourceServe     = "serve"
	sourceInventory = "inventory"
	sourceLab       = "lab"
)

func (a *app) tuiCommand() *cobra.Command {
	var f tuiFlags

	cmd := &cobra.Command{
		Use:   "tui",
		Short: "Watch the machines live, and act on them",
		Long: `Watch the machines live, and act on them.

The machines come from the running serve. Where none runs, the inventory is
shown, with the power of each machine and nothing else. Power and boot go to the
BMCs of the inventory directly; accept, reject and cordon go to Omni, as the
operator in OMNI_ENDPOINT and OMNI_SERVICE_ACCOUNT_KEY. What cannot be done is
shown faint, and its key says why. ? lists the keys.`,
		Example: "  bmctl tui\n  bmctl tui --read-only --theme light\n  bmctl tui --source lab",
		Args:    cobra.NoArgs,

		Annotations: map[string]string{resident: "true"},
		RunE:        func(cmd *cobra.Command, _ []string) error { return a.tui(cmd.Context(), cmd.Root(), f) },
	}

	f.add(cmd.Flags())

	return cmd
}

func (f *tuiFlags) add(flags *pflag.FlagSet) {
	f.looks(flags)
	flags.BoolVar(&f.ReadOnly, "read-only", false, "look, and do nothing")
	flags.DurationVar(&f.Refresh, "refresh", 5*time.Second, "how often to look even when nothing happens")
	choiceVar(flags, &f.source, "source", "SOURCE", "where the machines come from", sourceAuto, sourceServe, sourceInventory, sourceLab)
}

func (f *tuiFlags) looks(flags *pflag.FlagSet) {
	choiceVar(flags, &f.Theme, "theme", "THEME", "colours", tui.Themes()...)
	flags.BoolVar(&f.ASCII, "ascii", false, "draw with ASCII alone")
	flags.BoolVar(&f.ReducedMotion, "reduced-motion", false, "nothing moves by itself")
	flags.BoolVar(&f.NoMouse, "no-mouse", false, "leave the mouse to the terminal, for its own selection")
}

// tui shows the machines until the person leaves.
func (a *app) tui(ctx context.Context, root *cobra.Command, f tuiFlags) error {
	if f.Refresh < 100*time.Millisecond {
		return usagef("--refresh %s: want 100ms or more", f.Refresh)
	}

	if f.source == sourceLab {
		inLab, err := a.inLab()
		if err != nil {
			return err
		}

		f.source = sourceServe

		return inLab.tui(ctx, root, f)
	}

	if err := a.needsTerminal(); err != nil {
		return err
	}

	if a.global.color == "never" || a.global.color == "auto" && a.env("NO_COLOR") != "" && f.Theme == "auto" {
		f.Theme = "mono"
	}

	// A terminal that is closed is how some people leave.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP)
	defer stop()

	// What is said meanwhile would stand in the middle of the screen.
	var said syncBuffer

	quiet := *a
	quiet.stderr = &said

	defer func() { fmt.Fprint(a.stderr, said.String()) }() //nolint:errcheck // nowhere left to say it

	source, err := quiet.newSource(ctx, root, f.source)
	if err != nil {
		return err
	}

	defer source.close()

	source.stderr = a.stderr

	err = tui.Run(ctx, source, f.Options, a.stdin, a.stdout)

	var crashed *tui.Panic
	if errors.As(err, &crashed) {
		fmt.Fprintf(a.stderr, "%s\n", crashed.Stack) //nolint:errcheck // nowhere left to say it
	}

	return err
}

func (a *app) needsTerminal() error {
	if terminal(a.stdin) && terminal(a.stdout) {
		return nil
	}

	return failf(codePromptNeeded, "bmctl machines --watch", "the view needs a terminal")
}

// syncBuffer is a buffer that several goroutines write to.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.text.Write(p)
}

// String returns what was written.
func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.text.String()
}

// inLab is this run within the environment of the lab that runs here.
func (a *app) inLab() (*app, error) {
	data, err := os.ReadFile(filepath.Join(a.labDir(), labEnvFile))
	if err != nil {
		return nil, failf(codeNoMatch, "bmctl lab, in another terminal", "no lab runs in %s", a.labDir())
	}

	return a.within(strings.Split(strings.TrimSpace(string(data)), "\n"))
}

// within is this run with more environment, and the socket and the configuration
// that it names.
func (a *app) within(more []string) (*app, error) {
	inner := newApp(a.stdin, a.stdout, a.stderr, append(slices.Clone(a.environ), more...))
	inner.global = a.global
	inner.global.socket = inner.env(config.EnvName("socket"))
	inner.global.config = inner.env(config.EnvName("config"))
	inner.origins = maps.Clone(a.origins)

	var err error

	inner.file, err = config.Load(inner.global.config, true)

	return inner, err
}

// selfArgs is this program with the arguments, and the same socket and
// configuration.
func (a *app) selfArgs(args ...string) (exe string, all []string, err error) {
	exe, err = os.Executable()
	all = []string{"--socket", a.global.socket}

	if a.file.Path != "" {
		all = append(all, "--config", a.file.Path)
	}

	return exe, append(all, args...), err
}
