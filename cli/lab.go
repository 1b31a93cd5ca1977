package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/serve/lab"
	"github.com/bmctl/bmctl/serve/localapi"
)

// labFlags are the flags of lab.
type labFlags struct {
	machines   int
	seed       uint64
	faults     map[string]string
	speed      string
	keep       string
	autoAccept bool
	tui        bool
}

func (a *app) labCommand() *cobra.Command {
	var f labFlags

	cmd := &cobra.Command{
		Use:   "lab [-- COMMAND ARGS...]",
		Short: "Run a whole datacentre on loopback: Omni, machines with BMCs, and one serve",
		Long: `Run a whole datacentre on loopback: a stand-in for Omni, machines with simulated
BMCs and firmware, and one real serve. No root, no network, no hardware.

With a COMMAND the lab is there for it: the command runs with the lab's
environment, then the lab is stopped, and the exit code is the command's.`,
		Example:     "  bmctl lab --tui\n  bmctl lab --auto-accept\n  bmctl lab --machines 5 --fault r1n03=silent\n  bmctl lab -- bmctl machines",
		Annotations: map[string]string{withoutConfig: "true", resident: "true"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > max(0, cmd.ArgsLenAtDash()) && cmd.ArgsLenAtDash() != 0 {
				return usagef("put the command behind --: bmctl lab -- %s", strings.Join(args, " "))
			}

			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.tui {
				return a.labTUI(cmd, f, args)
			}

			return a.lab(cmd.Context(), f, args, a.labShow)
		},
	}

	flags := cmd.Flags()
	flags.IntVar(&f.machines, "machines", 3, "how many machines; the first has a Redfish BMC, the others IPMI")
	flags.Uint64Var(&f.seed, "seed", 1, "the same seed gives the same machine ids")
	flags.StringToStringVar(&f.faults, "fault", nil, "a fault of a machine's BMC: r1n03=silent")
	flags.StringVar(&f.speed, "speed", "1x", "how much faster than usual the machines are: 10x")
	flags.StringVar(&f.keep, "keep", "", "build the lab in `DIR` and leave it there; it must be empty or not there")
	flags.BoolVar(&f.autoAccept, "auto-accept", false, "accept every machine as soon as it waits for it")
	flags.BoolVar(&f.tui, "tui", false, "show it in bmctl tui; leaving that ends the lab (--speed is then 0.25x, unless given)")
	cmd.AddCommand(a.labEnvCommand())

	return cmd
}

func (a *app) labEnvCommand() *cobra.Command {
	var keep string

	cmd := &cobra.Command{
		Use: "env", Short: `Print the environment of the running lab: eval "$(bmctl lab env)"`, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.labEnv(cmp.Or(keep, a.labDir())) },
	}
	cmd.Flags().StringVar(&keep, "keep", "", "the lab that was built in `DIR`")

	return cmd
}

func (f labFlags) config() (lab.Config, error) {
	speed, err := strconv.ParseFloat(strings.TrimSuffix(f.speed, "x"), 64)
	if err != nil || speed < 0.01 || speed > 1000 {
		return lab.Config{}, usagef("--speed %q: want 0.01x to 1000x", f.speed)
	}

	if f.machines < 1 || f.machines > 1000 {
		return lab.Config{}, usagef("--machines %d: want 1 to 1000", f.machines)
	}

	return lab.Config{Machines: f.machines, Seed: f.seed, Faults: f.faults, Speed: speed, AutoAccept: f.autoAccept}, nil
}

// lab runs a lab for as long as the command or, without one, show takes.
func (a *app) lab(
	ctx context.Context, f labFlags, command []string, show func(context.Context, *lab.Lab, []lab.Variable) error,
) (err error) {
	cfg, err := f.config()
	if err != nil {
		return err
	}

	cfg.Environ = a.environ

	if cfg.Exe, err = os.Executable(); err != nil {
		return err
	}

	place, err := a.labPlace(f.keep, len(command) > 0)
	if err != nil {
		return err
	}

	defer func() { err = errors.Join(err, place.leave()) }()

	cfg.Dir = place.dir
	cfg.Log = a.logger(slog.LevelError)

	l, err := lab.Start(ctx, cfg)
	if err != nil {
		return fmt.Errorf("start the lab: %w", err)
	}

	defer func() { err = errors.Join(err, l.Close()) }()

	variables := l.Environment(a.env("PATH"))
	if err := place.write(variables); err != nil {
		return err
	}

	if len(command) > 0 {
		return a.labRun(ctx, variables, command)
	}

	return show(ctx, l, variables)
}

// childExit is the exit code of the command that the lab ran.
type childExit struct{ code int }

// Error implements error.
func (c *childExit) Error() string { return fmt.Sprintf("the command ended with exit code %d", c.code) }

// stopDelay is how long the lab's command has to end after an interrupt.
const stopDelay = 10 * time.Second

// labRun runs the command with the lab's environment on our own streams.
func (a *app) labRun(ctx context.Context, variables []lab.Variable, command []string) error {
	env := a.environ
	path := ""

	for _, v := range variables {
		env = append(env, v.Name+"="+v.Value)

		if v.Name == "PATH" {
			path = v.Value
		}
	}

	program, err := lookPath(command[0], path)
	if err != nil {
		return usagef("%w", err)
	}

	cmd := exec.CommandContext(ctx, program, command[1:]...)
	cmd.Args[0] = command[0]
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, a.stdin, a.stdout, a.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopDelay

	err = cmd.Run()

	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}

	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return &childExit{128 + int(status.Signal())} // as shells have it
	}

	return &childExit{exit.ExitCode()}
}

// lookPath finds the program on the lab's PATH, which begins with this bmctl.
func lookPath(name, path string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return name, nil
	}

	for _, dir := range filepath.SplitList(path) {
		found, err := exec.LookPath(filepath.Join(dir, name))
		if err == nil {
			return filepath.Abs(found)
		}
	}

	return "", fmt.Errorf("there is no command %q on the PATH", name)
}

// labShow says what is there and follows the machines until it is interrupted.
func (a *app) labShow(ctx context.Context, l *lab.Lab, variables []lab.Variable) error {
	if _, err := io.WriteString(a.stdout, labBanner(l, variables)); err != nil {
		return err
	}

	a.global.socket = l.SocketPath()
	a.followLab(ctx, len(l.Machines()))

	return nil // the interrupt is how a lab ends
}

func labBanner(l *lab.Lab, variables []lab.Variable) string {
	http := ""

	for _, v := range variables {
		if v.Name == "BMCTL_LAB_HTTP" {
			http = v.Value
		}
	}

	var text strings.Builder

	text.WriteString("lab is up (loopback only, nothing here is real)\n")
	fmt.Fprintf(&text, "  %-9s %s   serve http://%s   socket %s\n", "omni", l.Endpoint(), http, l.SocketPath())

	for _, m := range l.Machines() {
		kind, address := "ipmi", fmt.Sprintf("%s:%d/udp", m.BMC.Addr(), m.BMC.IPMIPort())
		if m.Redfish {
			kind, address = "redfish", fmt.Sprintf("https://%s:%d", m.BMC.Addr(), m.BMC.RedfishPort())
		}

		fmt.Fprintf(&text, "  %-9s %-8s %-28s %s\n", m.Name, kind, address, m.UUID)
	}

	text.WriteString("try, in another terminal:\n  eval \"$(bmctl lab env)\"\n  bmctl machines --watch\n  bmctl accept --all-pending\n^C to end\n")

	return text.String()
}

// followLab notes each machine's status as it changes, and when all are ready.
func (a *app) followLab(ctx context.Context, machines int) {
	client := a.serveClient()
	defer client.Close()

	start, last, told := time.Now(), map[string]string{}, false

	for ctx.Err() == nil {
		list, err := client.Machines(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, localapi.ErrNotYet) {
			a.note("%s", err.Error())
		}

		ready := 0

		for _, m := range list.Items {
			if last[m.ID] != m.Status {
				last[m.ID] = m.Status
				a.note("%6.1fs  %-8s %-10s %s", time.Since(start).Seconds(), m.Name, m.Status, m.Reason)
			}

			if m.ReadyToUse {
				ready++
			}
		}

		if ready == machines && !told {
			told = true
			a.note("%6.1fs  all %d machines are ready", time.Since(start).Seconds(), ready)
		}

		select {
		case <-ctx.Done():
		case <-time.After(labRefresh):
		}
	}
}

const labRefresh = 200 * time.Millisecond

// labEnv prints the environment for a shell.
func (a *app) labEnv(dir string) error {
	file, err := os.Open(filepath.Join(dir, labEnvFile))
	if err != nil {
		return failf(codeNoMatch, "bmctl lab", "no lab runs in %s", dir)
	}

	defer file.Close() //nolint:errcheck // read only

	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if !ok {
			continue
		}

		if _, err := fmt.Fprintf(a.stdout, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`)); err != nil {
			return err
		}
	}

	return lines.Err()
}

// labDir is where a lab lives unless --keep says otherwise: one at a time.
func (a *app) labDir() string {
	if dir := a.env("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "bmctl-lab")
	}

	return filepath.Join(cmp.Or(a.env("TMPDIR"), "/tmp"), fmt.Sprintf("bmctl-lab-%d", os.Getuid()))
}
