package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
)

// statusFlags are the flags of power status.
type statusFlags struct {
	targets targetFlags
	timeout time.Duration
	wait    string
	watch   bool
	noFold  bool
}

func (a *app) powerStatusCommand() *cobra.Command {
	var f statusFlags

	cmd := &cobra.Command{
		Use: "status TARGET...", Short: "Read the power of machines",
		Long: `Read the power of machines. On a terminal more than 8 targets are folded: one line for
each state. --no-fold or -o wide give a line to each.
` + targetsHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.wait != "" && !cmd.Flags().Changed("timeout") {
				f.timeout = 2 * time.Minute
			}

			return a.powerStatus(cmd.Context(), args, f)
		},
	}

	a.addTargetFlags(cmd, &f.targets, defaultParallel)

	flags := cmd.Flags()
	flags.DurationVar(&f.timeout, "timeout", answerTimeout, "how long each BMC may take; with --wait how long the state may, and 2m")
	flags.StringVar(&f.wait, "wait", "", "wait until the power is `STATE`: on or off")
	flags.BoolVarP(&f.watch, "watch", "w", false, "go on, and write each machine again when its power changes")
	flags.BoolVar(&f.noFold, "no-fold", false, "a line for each machine, however many")

	return cmd
}

// reading is one look at a machine's power.
type reading struct {
	state power.State
	took  time.Duration
	err   error
}

func (a *app) powerStatus(ctx context.Context, args []string, f statusFlags) error {
	switch {
	case f.wait != "" && f.wait != "on" && f.wait != "off":
		return usagef("--wait %q: want on or off", f.wait)
	case f.wait != "" && f.watch:
		return usagef("--wait ends and --watch does not: give one of them")
	case f.timeout <= 0:
		return usagef("--timeout: want a time that is positive")
	}

	chosen, err := a.connected(ctx, args, f.targets, a.fleetView(ctx))
	if err != nil {
		return err
	}

	if f.watch {
		return a.watchPower(ctx, chosen, f)
	}

	readings := make([]reading, len(chosen))
	errs := make([]error, len(chosen))

	opener := a.opener(chosen, nil)
	defer opener.client.Close()

	progress := a.progress(len(chosen), f.noFold)

	for r := range power.Each(ctx, opener, f.targets.parallel, powerTargets(chosen), f.read) {
		progress.step()

		readings[r.Index] = r.Value
		readings[r.Index].err = r.Err
		errs[r.Index] = blamed(chosen[r.Index], r.Err)
	}

	progress.end()

	if interrupted(ctx) {
		return context.Cause(ctx)
	}

	return errors.Join(a.printReadings(chosen, readings, f.noFold), setOutcome(errs))
}

func (f statusFlags) read(ctx context.Context, bmc power.BMC, _ power.Target) (r reading, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()

	begun := time.Now()

	if f.wait == "" {
		r.state, err = bmc.State(ctx)
	} else {
		r.state, err = awaitState(ctx, bmc, f.wait)
	}

	r.took = time.Since(begun)

	return r, err
}

func (a *app) printReadings(chosen []chosenBMC, readings []reading, noFold bool) error {
	if a.folds(len(chosen), noFold) {
		return a.printFolded(chosen, func(i int) foldKey {
			word := readings[i].cell()

			return foldKey{word: word.Text, style: word.Style, detail: faultDetail(chosen[i], readings[i].err)}
		})
	}

	list := powerList{APIVersion: localapi.APIVersion, Kind: "PowerStatusList", Items: []powerItem{}}
	view := out.View{Columns: []out.Column{{Head: "MACHINE"}, {Head: "POWER"}, {Head: "ADDRESS", Wide: true}, {Head: "TIME", Wide: true}, {Head: "REASON"}}}

	for _, i := range inOrder(chosen) {
		bmc, r := chosen[i], readings[i]
		list.Items = append(list.Items, itemOf(bmc, r.state, r.took, r.err))
		view.Rows = append(view.Rows, r.row(bmc))

		if r.err == nil {
			view.Names = append(view.Names, bmc.Name)
		}
	}

	view.Document = list

	return a.printer().Print(view)
}

func (r reading) row(bmc chosenBMC) []out.Cell {
	return []out.Cell{{Text: bmc.Name}, r.cell(), {Text: bmc.Address}, {Text: took(r.took)}, {Text: faultDetail(bmc, r.err)}}
}

func (r reading) cell() out.Cell {
	if r.err != nil {
		return out.Cell{Text: faultWord(r.err), Style: out.Bad}
	}

	return out.Cell{Text: r.state.String()}
}

// took writes how long something lasted: 41ms, 5.0s.
func took(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%dms", d.Milliseconds())
	}

	return fmt.Sprintf("%.1fs", d.Seconds())
}

// watchPause is the time between two looks of --watch.
const watchPause = 2 * time.Second

// watched is a reading of the machine with the index.
type watched struct {
	index int
	reading
}

// watchPower writes every machine's power once, and again each time it is
// another one, until it is interrupted. Each BMC keeps one conversation.
func (a *app) watchPower(ctx context.Context, chosen []chosenBMC, f statusFlags) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	opener := a.opener(chosen, nil)
	defer opener.client.Close()

	var failed error

	last := map[int]string{}

	for r := range f.followAll(ctx, opener, powerTargets(chosen)) {
		word := r.cell().Text
		if ctx.Err() != nil || last[r.index] == word {
			continue // after the end the conversations are still to be closed
		}

		last[r.index] = word

		if failed = a.writeReading(chosen[r.index], r.reading, nameWidth(chosen)); failed != nil {
			cancel()
		}
	}

	return cmp.Or(failed, context.Cause(ctx))
}

// followAll reads all BMCs again and again. The channel is closed when ctx has
// ended and every conversation is closed.
func (f statusFlags) followAll(ctx context.Context, opener power.Opener, targets []power.Target) <-chan watched {
	readings := make(chan watched)
	index := make(map[power.Target]int, len(targets))

	for i, target := range targets {
		index[target] = i
	}

	follow := func(ctx context.Context, bmc power.BMC, target power.Target) (struct{}, error) {
		f.follow(ctx, bmc, func(r reading) { readings <- watched{index[target], r} })

		return struct{}{}, nil
	}

	go func() {
		defer close(readings)

		// Every BMC has its own place: a silent one must not keep others from theirs.
		for range power.Each(ctx, opener, len(targets), targets, follow) {
		}
	}()

	return readings
}

func (f statusFlags) follow(ctx context.Context, bmc power.BMC, say func(reading)) {
	ticker := time.NewTicker(watchPause)
	defer ticker.Stop()

	for {
		r, err := f.read(ctx, bmc, power.Target{})
		r.err = err
		say(r)

		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (a *app) writeReading(bmc chosenBMC, r reading, width int) error {
	switch {
	case a.global.output == out.JSON || a.global.output == out.YAML:
		item := itemOf(bmc, r.state, r.took, r.err)
		item.At = time.Now().UTC().Round(time.Millisecond)

		return a.printer().Line(item)
	case a.global.output == out.Name:
		_, err := fmt.Fprintln(a.stdout, out.Clean(bmc.Name))

		return err
	default:
		line := fmt.Sprintf("%-*s  %-7s  %s", width, bmc.Name, r.cell().Text, faultDetail(bmc, r.err))
		_, err := fmt.Fprintln(a.stdout, out.Clean(strings.TrimRight(line, " ")))

		return err
	}
}
