package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/power"
)

// probeFlags are the flags of probe.
type probeFlags struct {
	targets   targetFlags
	timeout   time.Duration
	anonymous bool
	require   []string
	add       bool
	noFold    bool
}

// What --require knows.
const (
	needPower   = "power"
	needBoot    = "boot"
	needConsole = "console"
)

func (a *app) probeCommand() *cobra.Command {
	f := probeFlags{targets: targetFlags{networks: true}}

	cmd := &cobra.Command{
		Use:   "probe TARGET...",
		Short: "Ask BMCs what they are, and say what will not work; nothing is changed",
		Long: `Ask BMCs what they are: first without a login, then with one where there are
credentials. It tells protocol, model, power, and whether boot override and serial
console are there, or which layer failed. Nothing is changed.

A network (10.0.3.0/26) is a target too.
` + targetsHelp,
		Example: "  bmctl probe 10.0.3.0/26 --anonymous\n  bmctl probe @rack1 --require power,boot -o name | bmctl power on -",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.probe(cmd.Context(), args, f) },
	}

	a.addTargetFlags(cmd, &f.targets, 64)

	flags := cmd.Flags()
	flags.Lookup("parallel").Usage = "how many BMCs are logged in to at a time; silent addresses do not count"
	flags.IntVarP(&f.targets.port, "port", "p", 0, "port to ask at, in place of 623 and 443 and the inventory's")
	flags.DurationVar(&f.timeout, "timeout", answerTimeout, "how long each address may take")
	flags.BoolVar(&f.anonymous, "anonymous", false, "do not log in")
	flags.StringSliceVar(&f.require, "require", nil, "fail with exit code 8 where a BMC lacks one of power, boot, console")
	flags.BoolVar(&f.add, "add", false, "write the BMCs that let us in to the inventory")
	flags.BoolVar(&f.noFold, "no-fold", false, "a line for each address, however many are silent")
	must(cmd.RegisterFlagCompletionFunc("require", cobra.FixedCompletions([]string{needPower, needBoot, needConsole}, cobra.ShellCompDirectiveNoFileComp)))

	return cmd
}

func (f probeFlags) check() error {
	for _, need := range f.require {
		if !slices.Contains([]string{needPower, needBoot, needConsole}, need) {
			return usagef("--require %q: want power, boot, console", need)
		}
	}

	switch {
	case f.timeout <= 0:
		return usagef("--timeout: want a time that is positive")
	case f.targets.port < 0 || f.targets.port > 65535:
		return usagef("--port: %d is not a port", f.targets.port)
	case f.anonymous && (f.add || len(f.require) > 0):
		return usagef("--add and --require need a login, and --anonymous forbids it")
	default:
		return nil
	}
}

// probed is what became of one target.
type probed struct {
	power.ProbeResult
	bmc   chosenBMC
	noLog bool // it was not logged in to: --anonymous, or no credentials
	err   error
}

func (a *app) probe(ctx context.Context, args []string, f probeFlags) error {
	if err := f.check(); err != nil {
		return err
	}

	chosen, err := a.chooseBMCs(args, f.targets, a.fleetView(ctx))
	if err != nil {
		return err
	}

	anonymous, err := a.probeLogins(ctx, chosen, f)
	if err != nil {
		return err
	}

	results := a.sweep(ctx, chosen, anonymous, f)

	if interrupted(ctx) {
		return context.Cause(ctx)
	}

	slices.SortStableFunc(results, func(x, y probed) int {
		return byName(machineRef{x.bmc.Address, x.bmc.Name}, machineRef{y.bmc.Address, y.bmc.Name})
	})

	err = a.printProbed(results, f)
	if f.add && err == nil {
		err = a.addProbed(results)
	}

	return errors.Join(err, f.outcome(results))
}

// probeLogins fills in the logins, and says which targets have none and are
// probed without.
func (a *app) probeLogins(ctx context.Context, chosen []chosenBMC, f probeFlags) ([]bool, error) {
	anonymous := make([]bool, len(chosen))

	if f.anonymous {
		for i := range anonymous {
			anonymous[i] = true
		}

		return anonymous, nil
	}

	l := logins{a: a, flags: f.targets.login, found: map[string]power.Secret{}}

	var missing []int

	for i := range chosen {
		err := l.fill(ctx, &chosen[i])
		anonymous[i] = errors.Is(err, errNobody) || chosen[i].served

		if err != nil && !anonymous[i] {
			return nil, err
		}

		if chosen[i].Password.IsZero() && !anonymous[i] {
			missing = append(missing, i)
		}
	}

	return anonymous, l.ask(ctx, chosen, missing)
}

// sweepParallel bounds the addresses that are asked at a time whether anybody is
// there: each takes two sockets.
const sweepParallel = 1024

// sweep probes all targets. Whether anybody is there is asked of very many at a
// time, so that dark addresses delay nobody; only who answered takes one of the
// places for logins.
func (a *app) sweep(ctx context.Context, chosen []chosenBMC, anonymous []bool, f probeFlags) []probed {
	results := make([]probed, len(chosen))
	prober := a.dialer()
	work, places := make(chan int), make(chan struct{}, f.targets.parallel)

	var workers sync.WaitGroup
	for range min(sweepParallel, len(chosen)) {
		workers.Go(func() {
			for i := range work {
				results[i] = f.probeOne(ctx, prober, places, chosen[i], anonymous[i])
			}
		})
	}

	for i := range chosen {
		work <- i // after an interrupt the calls fail at once
	}

	close(work)
	workers.Wait()

	return results
}

func (f probeFlags) probeOne(ctx context.Context, prober power.Prober, places chan struct{}, bmc chosenBMC, anonymous bool) probed {
	p := probed{bmc: bmc, noLog: true}
	p.ProbeResult, p.err = f.ask(ctx, prober, bmc, true)

	if anonymous || p.Layer == power.LayerSilent || p.Layer == power.LayerRoute {
		p.err = blamedProbe(bmc, p.err)

		return p
	}

	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	case <-ctx.Done():
		p.err = context.Cause(ctx)

		return p
	}

	p.noLog = false
	before := p.ProbeResult
	p.ProbeResult, p.err = f.ask(ctx, prober, bmc, false)
	p.Version, p.Vendor, p.Model = cmp.Or(p.Version, before.Version), cmp.Or(p.Vendor, before.Vendor), cmp.Or(p.Model, before.Model)
	p.err = blamedProbe(bmc, p.err)

	return p
}

// blamedProbe is blamed without the advice to probe.
func blamedProbe(bmc chosenBMC, err error) error {
	if err == nil {
		return nil
	}

	f := *classify(err)
	f.target = bmc.Name

	return &f
}

func (f probeFlags) ask(ctx context.Context, prober power.Prober, bmc chosenBMC, anonymous bool) (power.ProbeResult, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()

	return prober.Probe(ctx, bmc.Target, anonymous)
}

// lacks are the required abilities that a BMC has not.
func (f probeFlags) lacks(p probed) []string {
	has := map[string]bool{
		needPower: p.Power != power.StateUnknown, needBoot: p.Boot == power.SupportYes, needConsole: p.Console == power.SupportYes,
	}

	return slices.DeleteFunc(slices.Clone(f.require), func(need string) bool { return has[need] })
}

// outcome is the failure of the sweep. Where all answer and some lack what is
// required, the tool worked, and the answer is no.
func (f probeFlags) outcome(results []probed) error {
	errs := make([]error, len(results))
	failed := false

	var lacking []string

	for i, p := range results {
		errs[i], failed = p.err, failed || p.err != nil

		if lacks := f.lacks(p); p.err == nil && len(lacks) > 0 {
			lacking = append(lacking, p.bmc.Name+" lacks "+strings.Join(lacks, " and "))
		}
	}

	if failed || len(lacking) == 0 {
		return setOutcome(errs)
	}

	return failf(codeNotMet, "", "%d of %d targets lack what is required; the first: %s", len(lacking), len(results), lacking[0])
}

// summaryText is the last line: "6 probed: 4 ready, 1 login refused, 1 silent".
func summaryText(results []probed) string {
	counts := map[string]int{}
	for _, p := range results {
		counts[p.verdict()]++
	}

	parts := []string{}

	for _, verdict := range verdicts() {
		if n := counts[verdict]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, verdict))
		}
	}

	return fmt.Sprintf("%d probed: %s", len(results), strings.Join(parts, ", "))
}

// The verdicts on a target, in the order of the summary.
const (
	verdictReady    = "ready"
	verdictAnswered = "answered"
	verdictLogin    = "login refused"
	verdictSilent   = "silent"
	verdictRoute    = "no route"
	verdictFailed   = "failed"
)

func verdicts() []string {
	return []string{verdictReady, verdictAnswered, verdictLogin, verdictSilent, verdictRoute, verdictFailed}
}

func (p probed) verdict() string {
	switch {
	case p.err == nil && p.noLog:
		return verdictAnswered
	case p.err == nil:
		return verdictReady
	case p.Layer == power.LayerLogin:
		return verdictLogin
	case p.Layer == power.LayerSilent:
		return verdictSilent
	case p.Layer == power.LayerRoute:
		return verdictRoute
	default:
		return verdictFailed
	}
}
