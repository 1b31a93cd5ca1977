package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power"
)

// consoleFlags are the flags of console.
type consoleFlags struct {
	targets  targetFlags
	logFile  string
	readOnly bool
	timeout  time.Duration
}

const consoleHelp = `Show the serial console of a machine, through its BMC (serial over LAN), and type into
it. What you type goes to the machine, ctrl-C too; these do not:

  ~.      at the start of a line: end
  ~?      at the start of a line: say this
  ~~      at the start of a line: type one ~
  ctrl-]  end, wherever you are

There is one console to a machine: somebody else's is not taken away.
`

func (a *app) consoleCommand() *cobra.Command {
	var f consoleFlags

	cmd := &cobra.Command{
		Use: "console TARGET", Short: "Show a machine's serial console and type into it", Long: consoleHelp + targetsHelp,
		Example: "  bmctl console r1n02\n  bmctl console r1n02 --read-only --log r1n02.log",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.console(cmd.Context(), args, f) },
	}

	a.addTargetFlags(cmd, &f.targets, 1)
	must(cmd.Flags().MarkHidden("parallel"))

	flags := cmd.Flags()
	flags.StringVar(&f.logFile, "log", "", "append all that the machine writes to `FILE`")
	flags.BoolVar(&f.readOnly, "read-only", false, "show only: nothing that is typed reaches the machine, and ctrl-C ends")
	flags.DurationVar(&f.timeout, "timeout", abilityTimeout, "how long the BMC may take to open the console")

	return cmd
}

func (a *app) console(ctx context.Context, args []string, f consoleFlags) (err error) {
	if f.timeout <= 0 {
		return usagef("--timeout: want a time that is positive")
	}

	bmc, err := a.consoleTarget(ctx, args, f)
	if err != nil {
		return err
	}

	output, closeLog, err := consoleOutput(a.stdout, f.logFile)
	if err != nil {
		return err
	}

	defer func() { err = errors.Join(err, closeLog()) }()

	port, err := a.openConsole(ctx, bmc, f)
	if err != nil {
		return err
	}

	s := consoleSession{
		port: port, stdin: a.stdin, stdout: output, readOnly: f.readOnly, say: a.sayRaw, sayPlain: a.sayPlain,
		greet: func(say func(string)) {
			if !a.global.quiet {
				say("connected to " + bmc.Name + ": ~. at the start of a line or ctrl-] ends, ~? helps")
			}
		},
	}

	err = s.run(ctx)
	a.note("console of %s closed", bmc.Name)

	return blamed(bmc, err)
}

// sayPlain writes a line where no terminal is raw.
func (a *app) sayPlain(text string) { a.note("%s", text) }

// sayRaw writes a line below what the machine has written: a raw terminal needs
// the carriage return.
func (a *app) sayRaw(text string) {
	fmt.Fprint(a.stderr, "\r\n"+out.Clean(text)+"\r\n") //nolint:errcheck // nowhere left to say it
}

func (a *app) consoleTarget(ctx context.Context, args []string, f consoleFlags) (chosenBMC, error) {
	chosen, err := a.chooseBMCs(args, f.targets, a.fleetView(ctx))
	if err != nil {
		return chosenBMC{}, err
	}

	if len(chosen) != 1 {
		return chosenBMC{}, usagef("a console is one machine's, and the targets stand for %d", len(chosen))
	}

	if err := a.logIn(ctx, chosen, f.targets.login); err != nil {
		return chosenBMC{}, err
	}

	return chosen[0], direct(chosen)
}

// consoleOutput writes to the terminal and, where one is named, to a file. The
// file may hold secrets that somebody types: it is the owner's alone.
func consoleOutput(stdout io.Writer, path string) (io.Writer, func() error, error) {
	if path == "" {
		return stdout, func() error { return nil }, nil
	}

	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, failf(codeUsage, "name a file that can be written with --log", "the log of the console: %w", err)
	}

	return io.MultiWriter(file, stdout), file.Close, nil
}

func (a *app) openConsole(ctx context.Context, bmc chosenBMC, f consoleFlags) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()

	conversation, err := a.dialer().Open(ctx, bmc.Target)
	if err != nil {
		return nil, blamed(bmc, err)
	}

	// The console has a session of its own.
	defer conversation.Close() //nolint:errcheck // the session ends by itself at the latest

	able, ok := conversation.(power.Console)
	if !ok {
		return nil, noConsole(bmc, unable("no console"))
	}

	port, err := able.Console(ctx)

	switch {
	case errors.Is(err, power.ErrUnsupported):
		return nil, noConsole(bmc, err)
	case interrupted(ctx):
		return nil, context.Cause(ctx)
	}

	return port, blamed(bmc, err)
}

// noSerialOverLAN begins the message about a BMC without a console.
const noSerialOverLAN = "no serial-over-LAN on "

func noConsole(bmc chosenBMC, err error) error {
	detail := faultDetail(bmc, err)
	f := failf(codeBMCUnsupported, "bmctl probe "+bmc.Name, noSerialOverLAN+"%s (%s): %s", bmc.Name, bmc.Protocol, detail)
	f.target, f.err = bmc.Name, err

	return f
}
