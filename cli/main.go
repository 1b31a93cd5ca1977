// Package cli is the command line: one file for each command, which reads flags,
// asks the packages below and writes what they say.
//
// The contract with the terminal: data goes to stdout and nothing else does;
// prompts go to the controlling terminal; progress, warnings and errors go to
// stderr. Errors are lines "bmctl: error: cause" and "bmctl: hint: next step",
// or with -o json one object. The exit code says the kind of the failure.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	_ "github.com/bmctl/bmctl/cli/background" // before Bubble Tea asks the terminal
)

// Main runs one command line and returns the exit code. The arguments are
// without the program's name, env is as os.Environ gives it.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, env []string) int {
	ctx, stop := withSignals(context.Background())
	defer stop()

	a := newApp(stdin, stdout, stderr, env)
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)

	err := root.ExecuteContext(ctx)

	return a.finish(ctx, args, err)
}

// entryPoint is the name of the existing provider's binary. Where unit files, Helm
// values or scripts start that by its path, a link of this name starts ours.
const entryPoint = "provider"

// Arguments are what Main is to be called with for the words of a command line, the
// program's name among them: under the name provider it is serve.
func Arguments(argv []string) []string {
	switch {
	case len(argv) == 0:
		return nil
	case filepath.Base(argv[0]) == entryPoint:
		return append([]string{"serve"}, argv[1:]...)
	default:
		return argv[1:]
	}
}

// errInterrupted is why a context ended that a signal ended.
var errInterrupted = errors.New("interrupted")

// withSignals ends the context at the first SIGINT, SIGTERM or, unless nohup has it
// ignored, SIGHUP; the second kills.
// A pipe whose reader went away is an error of the write, not a signal: a
// command in the middle of an act must be able to say what it did.
func withSignals(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)

	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)

	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}

	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	go func() {
		select {
		case <-signals:
			signal.Stop(signals)
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()

	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

func interrupted(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errInterrupted) }

// lookup returns the environment as a function; of a name that stands twice the
// last counts.
func lookup(env []string) func(string) string {
	values := make(map[string]string, len(env))

	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		values[name] = value
	}

	return func(name string) string { return values[name] }
}
