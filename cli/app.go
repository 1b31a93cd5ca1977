package cli

import (
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/term"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
)

// app is one run of the program: its streams and what the global flags say.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string
	environ        []string

	global  globals
	file    config.File
	origins config.Origins // of the global flags
}

type globals struct {
	config    string
	output    out.Format
	noHeaders bool
	color     string
	noInput   bool
	quiet     bool
	verbose   int
	logFormat string
	socket    string
}

func newApp(stdin io.Reader, stdout, stderr io.Writer, env []string) *app {
	return &app{stdin: stdin, stdout: stdout, stderr: stderr, env: lookup(env), environ: env}
}

// terminal tells whether a stream is one.
func terminal(stream any) bool {
	file, ok := stream.(interface{ Fd() uintptr })

	return ok && term.IsTerminal(int(file.Fd()))
}

func (a *app) printer() out.Printer {
	return out.Printer{
		W: a.stdout, Format: a.global.output, NoHeaders: a.global.noHeaders,
		Color: out.UseColor(a.global.color, terminal(a.stdout), a.env),
	}
}

// note writes a line of progress or summary to stderr, unless -q.
func (a *app) note(format string, args ...any) {
	if !a.global.quiet {
		fmt.Fprintln(a.stderr, out.Clean(fmt.Sprintf(format, args...))) //nolint:errcheck // nowhere left to say it
	}
}

// warn writes a warning to stderr, even with -q.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintln(a.stderr, "bmctl: warning: "+out.Clean(fmt.Sprintf(format, args...))) //nolint:errcheck // nowhere left to say it
}

// logger returns the log on stderr; level is the command's own without -v.
func (a *app) logger(level slog.Level) *slog.Logger {
	if a.global.verbose > 0 {
		level = slog.LevelDebug
	}

	asJSON := a.global.logFormat == "json" || a.global.logFormat == "auto" && !terminal(a.stderr)

	return slog.New(logHandler(a.stderr, asJSON, level))
}

func (a *app) serveClient() *localapi.Client { return localapi.Dial(a.global.socket) }
