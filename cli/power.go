package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/power"
)

// defaultParallel is how many BMCs are spoken to at a time: each is a slow
// computer of its own, so the limit is about this host's sockets.
const defaultParallel = 32

// How long a BMC may take: to answer a question, and to carry out an act.
const (
	answerTimeout = 5 * time.Second
	actTimeout    = 2 * time.Minute
)

func (a *app) powerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "power",
		Short: "Read and switch the power of machines, through their BMCs",
		Long: `Read and switch the power of machines by speaking to their BMCs directly. Omni and
serve are not told; serve's socket only says which machines are in a cluster, and
those are asked about before anything is done to them.
` + targetsHelp,
		Example: "  bmctl power status @rack1 '^r1n07'\n  bmctl power on r1n[01-16] --boot pxe\n  bmctl power soft --selector rack=r1 --timeout 5m",
	}

	group(cmd)
	cmd.AddCommand(a.powerStatusCommand(), a.powerIdentifyCommand())

	for _, act := range powerActList() {
		cmd.AddCommand(a.powerActCommand(act))
	}

	for _, question := range powerQuestions() {
		cmd.AddCommand(a.powerReadCommand(question))
	}

	return cmd
}

// powerActKind is an act of bmctl power and how it is told.
type powerActKind struct {
	verb   string
	short  string
	action power.Action // zero: only the boot override is set
	// done is the result of the act, needless that of one whose end was there
	// before.
	done, needless string
	// cost is what it does to the machines, for the question before it.
	cost string
	// asks: more than one machine is asked about, whether in use or not.
	asks bool
	// harmless: machines of a cluster are not asked about.
	harmless bool
	// starts: the machine starts afterwards, so the boot device can be chosen.
	starts bool
	// inrush: it draws a current that several at once may be too much for.
	inrush bool
}

func powerActList() []powerActKind {
	return []powerActKind{
		{
			verb: "on", short: "Power machines on", action: power.On, done: "on", needless: "is on already",
			cost: "will be powered on", harmless: true, starts: true, inrush: true,
		},
		{
			verb: "off", short: "Cut the power at once, without telling the OS", action: power.Off, done: "off", needless: "is off already",
			cost: "will lose power at once, without telling the OS", asks: true,
		},
		{
			verb: "soft", short: "Ask the OS to shut down (ACPI), and wait until it has", action: power.Soft, done: "off", needless: "is off already",
			cost: "will be asked to shut down",
		},
		{
			verb: "cycle", short: "Cut the power and give it back, without telling the OS", action: power.Cycle, done: "on again",
			cost: "will lose power at once, without telling the OS", asks: true, starts: true, inrush: true,
		},
		{
			verb: "reset", short: "Reset machines at once, without telling the OS", action: power.Reset, done: "on again",
			cost: "will be reset at once, without telling the OS", asks: true, starts: true,
		},
		{
			verb: "nmi", short: "Send a non-maskable interrupt: most systems dump their memory and stop", action: power.NMI, done: "sent",
			cost: "will get a non-maskable interrupt, which stops most systems", asks: true,
		},
		{
			verb: "boot", short: "Say what machines boot from next, without switching them", done: "ok",
			cost: "will boot from something else next time", starts: true,
		},
	}
}

// stagger is the pause between one machine and the next.
func (kind powerActKind) stagger() time.Duration {
	if kind.inrush {
		return 500 * time.Millisecond
	}

	return 0
}

// powerFlags are the flags of the acts.
type powerFlags struct {
	targets     targetFlags
	boot        string
	mode        string
	persistent  bool
	wait        string
	timeout     time.Duration
	stagger     time.Duration
	ifOn, ifOff bool
	dryRun      bool
	yes         bool
	noFold      bool
}

// waitForResult is --wait without a state.
const waitForResult = "result"

func (a *app) powerActCommand(kind powerActKind) *cobra.Command {
	var f powerFlags

	cmd := &cobra.Command{
		Use: kind.verb + " TARGET...", Short: kind.short, Long: kind.short + ".\n" + targetsHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			boot, err := f.bootOverride(kind)
			if err != nil {
				return err
			}

			return a.powerAct(cmd.Context(), args, powerRun{a: a, kind: kind, boot: boot, f: f})
		},
	}

	a.addTargetFlags(cmd, &f.targets, defaultParallel)
	f.add(cmd, kind)

	return cmd
}

func (f *powerFlags) add(cmd *cobra.Command, kind powerActKind) {
	flags := cmd.Flags()
	flags.DurationVar(&f.timeout, "timeout", actTimeout, "how long each machine may take")
	flags.BoolVar(&f.dryRun, "dry-run", false, "read the power, say what would be done, and stop")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&f.ifOn, "if-on", false, "leave machines alone that are not on")
	flags.BoolVar(&f.ifOff, "if-off", false, "leave machines alone that are not off")
	flags.BoolVar(&f.noFold, "no-fold", false, "a line for each machine, however many")

	flags.DurationVar(&f.stagger, "stagger", kind.stagger(), "pause between one machine and the next: power supplies draw most when they start")

	if kind.action != 0 {
		flags.StringVar(&f.wait, "wait", "", "wait until the power is `STATE`, on or off, within --timeout; without one, until the act shows")
		flags.Lookup("wait").NoOptDefVal = waitForResult
	}

	if kind.starts {
		f.addBoot(cmd)
	}
}

func (f *powerFlags) addBoot(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.boot, "boot", "", "what to boot from, once: pxe, disk, bios (its setup), or none to clear what was set")
	flags.StringVar(&f.mode, "mode", "", "firmware mode of that boot: uefi, bios or keep (default uefi for pxe, else keep)")
	flags.BoolVar(&f.persistent, "persistent", false, "boot so every time, not only once")

	for flag, words := range map[string][]string{"boot": {"pxe", "disk", "bios", "none"}, "mode": {"uefi", "bios", "keep"}} {
		must(cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)))
	}
}

// bootOverride is the boot override that the flags ask for; nil: none is touched.
// It tells what is wrong with the flags before anything is asked.
func (f powerFlags) bootOverride(kind powerActKind) (*power.Boot, error) {
	devices := map[string]power.Device{"pxe": power.DevicePXE, "disk": power.DeviceDisk, "bios": power.DeviceSetup, "none": power.DeviceNone}
	modes := map[string]power.Mode{"uefi": power.ModeUEFI, "bios": power.ModeBIOS, "keep": power.ModeKeep}

	device, known := devices[f.boot]
	mode, knownMode := modes[f.mode]

	switch {
	case f.wait != "" && f.wait != waitForResult && f.wait != "on" && f.wait != "off":
		return nil, usagef("--wait %q: want on or off", f.wait)
	case f.ifOn && f.ifOff:
		return nil, usagef("--if-on and --if-off leave no machine")
	case f.timeout <= 0 || f.stagger < 0:
		return nil, usagef("--timeout and --stagger: want a time that is not negative")
	case f.boot == "" && kind.verb == "boot":
		return nil, usagef("say what to boot from: --boot pxe, disk, bios or none")
	case f.boot == "" && (f.mode != "" || f.persistent):
		return nil, usagef("--mode and --persistent say how to boot: give --boot too")
	case f.boot == "":
		return nil, nil
	case !known:
		return nil, usagef("--boot %q: want pxe, disk, bios, none", f.boot)
	case f.mode != "" && !knownMode:
		return nil, usagef("--mode %q: want uefi, bios, keep", f.mode)
	case device == power.DeviceNone && (f.mode != "" || f.persistent):
		return nil, usagef("--boot none clears the override: it has no mode and is not persistent")
	case f.mode == "" && device == power.DevicePXE:
		mode = power.ModeUEFI
	}

	return &power.Boot{Device: device, Mode: mode, Persistent: f.persistent}, nil
}

// describeBoot is an override as people read it: "pxe, uefi, once".
func describeBoot(boot power.Boot) string {
	if boot.Device == power.DeviceNone {
		return "none"
	}

	words := []string{boot.Device.String()}
	if boot.Mode != power.ModeKeep {
		words = append(words, boot.Mode.String())
	}

	if boot.Persistent {
		return strings.Join(append(words, "every time"), ", ")
	}

	return strings.Join(append(words, "once"), ", ")
}

// connected resolves the targets and finds their logins.
func (a *app) connected(ctx context.Context, args []string, f targetFlags, fleet fleetView) ([]chosenBMC, error) {
	chosen, err := a.chooseBMCs(args, f, fleet)
	if err != nil {
		return nil, err
	}

	return chosen, a.logIn(ctx, chosen, f.login)
}
