package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
)

// identifyFlags are the flags of power identify.
type identifyFlags struct {
	targets targetFlags
	timeout time.Duration
	off     bool
	lasts   time.Duration
}

func (a *app) powerIdentifyCommand() *cobra.Command {
	var f identifyFlags

	cmd := &cobra.Command{
		Use: "identify TARGET...", Short: "Light the lamp by which machines are found in their rack",
		Long: `Light the lamp by which machines are found in their rack, until --off. IPMI can switch
it off by itself after --for; Redfish cannot.
` + targetsHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.timeout <= 0 || f.lasts < 0:
				return usagef("--timeout and --for: want a time that is positive")
			case f.off && f.lasts > 0:
				return usagef("--off takes effect at once: --for is how long the lamp is on")
			}

			return a.identify(cmd.Context(), args, f)
		},
	}

	a.addTargetFlags(cmd, &f.targets, defaultParallel)

	flags := cmd.Flags()
	flags.DurationVar(&f.timeout, "timeout", abilityTimeout, "how long each BMC may take")
	flags.BoolVar(&f.off, "off", false, "switch the lamp off")
	flags.DurationVar(&f.lasts, "for", 0, "how long the lamp is on, 1s to 255s; 0 is until --off")

	return cmd
}

func (f identifyFlags) text() string {
	switch {
	case f.off:
		return "off"
	case f.lasts > 0:
		return "on for " + f.lasts.String()
	default:
		return "on"
	}
}

func (a *app) identify(ctx context.Context, args []string, f identifyFlags) error {
	chosen, err := a.connected(ctx, args, f.targets, a.fleetView(ctx))
	if err != nil {
		return err
	}

	if err := direct(chosen); err != nil {
		return err
	}

	items := make([]powerItem, len(chosen))
	errs := make([]error, len(chosen))

	for r := range power.Each(ctx, a.dialer(), f.targets.parallel, powerTargets(chosen), f.on) {
		bmc := chosen[r.Index]
		errs[r.Index] = blamed(bmc, r.Err)

		item := itemOf(bmc, power.StateUnknown, r.Value, r.Err)
		item.Action, item.Result = "identify", actDone

		if r.Err != nil {
			item.Result = actFailed
		}

		items[r.Index] = item

		if r.Err == nil || len(chosen) > 1 {
			a.tellIdentify(bmc, f, r.Err, nameWidth(chosen))
		}
	}

	return errors.Join(a.printIdentify(chosen, items), setOutcome(errs))
}

func (f identifyFlags) on(ctx context.Context, bmc power.BMC, _ power.Target) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()

	able, ok := bmc.(power.Identify)
	if !ok {
		return 0, unable("no lamp")
	}

	begun := time.Now()
	err := able.Identify(ctx, !f.off, f.lasts)

	return time.Since(begun), err
}

func (a *app) tellIdentify(bmc chosenBMC, f identifyFlags, err error, width int) {
	if a.global.output.Machine() {
		return
	}

	stream, text := a.stdout, f.text()
	if err != nil {
		stream, text = a.stderr, faultWord(err)+": "+faultDetail(bmc, err)
	}

	fmt.Fprintln(stream, out.Clean(fmt.Sprintf("%-*s  identify  %s", width, bmc.Name, text))) //nolint:errcheck // a reader that went away does not undo the act
}

func (a *app) printIdentify(chosen []chosenBMC, items []powerItem) error {
	if !a.global.output.Machine() {
		return nil
	}

	list := powerList{APIVersion: localapi.APIVersion, Kind: "PowerResultList", Items: []powerItem{}}
	view := out.View{}

	for _, i := range inOrder(chosen) {
		list.Items = append(list.Items, items[i])

		if items[i].Error == "" {
			view.Names = append(view.Names, items[i].Name)
		}
	}

	view.Document = list

	return a.printer().Print(view)
}
