package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/hosts"
	"github.com/bmctl/bmctl/serve/localapi"
)

// foldFrom is from how many targets on a terminal gets them folded.
const foldFrom = 9

// folds tells whether rows are put together by what they say.
func (a *app) folds(targets int, noFold bool) bool {
	return a.global.output == out.Table && targets >= foldFrom && !noFold && terminal(a.stdout)
}

// tell writes what came of one machine, for people.
func (run powerRun) tell(chosen []chosenBMC, uses []use, i int, o actOutcome) {
	if run.a.global.output.Machine() || run.a.folds(len(chosen), run.f.noFold) || o.result == actNotBegun {
		return
	}

	width := len(run.kind.verb)
	if run.boot != nil {
		width = max(width, len(run.bootText()))
	}

	line := func(what, result string) string {
		return out.Clean(fmt.Sprintf("%-*s  %-*s  %s", nameWidth(chosen), chosen[i].Name, width, what, result))
	}

	if o.boot {
		fmt.Fprintln(run.a.stdout, line(run.bootText(), "ok")) //nolint:errcheck // a reader that went away does not undo the act
	}

	switch {
	case o.err != nil && len(chosen) == 1: // the failure of the whole says it
	case o.err != nil:
		fmt.Fprintln(run.a.stderr, line(run.kind.verb, faultWord(o.err)+": "+faultDetail(chosen[i], o.err))) //nolint:errcheck // nowhere left to say it
	case run.kind.action != 0 || o.result != actDone:
		fmt.Fprintln(run.a.stdout, line(run.kind.verb, run.resultText(o, uses[i]))) //nolint:errcheck // as above
	}
}

func nameWidth(chosen []chosenBMC) int {
	width := 0
	for _, bmc := range chosen {
		width = max(width, len(bmc.Name))
	}

	return width
}

func (run powerRun) bootText() string { return "boot override: " + describeBoot(*run.boot) }

// resultText is what came of a machine: "on again after 5.8s".
func (run powerRun) resultText(o actOutcome, u use) string {
	text := run.resultWord(o)

	switch {
	case o.result == actDone && o.took > 0 && run.kind.action != power.NMI:
		text += fmt.Sprintf(" after %.1fs", o.took.Seconds())
	case o.result == actWould && u.known:
		text += ", " + u.text
	}

	return text
}

// resultWord is the same without what differs from machine to machine.
func (run powerRun) resultWord(o actOutcome) string {
	switch {
	case o.err != nil:
		return faultWord(o.err)
	case o.result == actSkipped:
		return "left alone, is " + o.state.String()
	case o.result == actWould:
		return "would be done, is " + o.state.String()
	case o.result == actNeedless:
		return run.kind.needless
	case run.f.wait != "" && run.f.wait != waitForResult:
		return o.state.String()
	default:
		return run.kind.done
	}
}

// powerList is the document of bmctl power.
type powerList struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"` // PowerStatusList or PowerResultList
	Items      []powerItem `json:"items"`
}

type powerItem struct {
	Name    string `json:"name"`
	ID      string `json:"id,omitempty"`
	Address string `json:"address"`
	Action  string `json:"action,omitempty"`
	// Result is done, unchanged, skipped, would, failed, unknown or not-begun.
	Result  string    `json:"result,omitempty"`
	Power   string    `json:"power"` // on, off, unknown
	Boot    string    `json:"boot,omitempty"`
	Seconds float64   `json:"seconds"`
	At      time.Time `json:"at,omitzero"` // with --watch
	Error   string    `json:"error,omitempty"`
	Code    code      `json:"code,omitempty"`
}

func itemOf(bmc chosenBMC, state power.State, took time.Duration, err error) powerItem {
	item := powerItem{
		Name: bmc.Name, ID: bmc.UUID, Address: bmc.Address, Power: state.String(), Seconds: took.Round(time.Millisecond).Seconds(),
	}

	if err != nil {
		item.Error, item.Code = oneLine(err.Error()), classify(err).code
	}

	return item
}

// report writes the results for programs and the folded ones, says after an
// interrupt how far the act came, and gives the failure of the set.
func (run powerRun) report(ctx context.Context, chosen []chosenBMC, outcomes []actOutcome) error {
	list := powerList{APIVersion: localapi.APIVersion, Kind: "PowerResultList", Items: []powerItem{}}
	view := out.View{}
	errs := make([]error, len(chosen))

	for _, i := range inOrder(chosen) {
		o := outcomes[i]
		item := itemOf(chosen[i], o.state, o.took, o.err)
		item.Action, item.Result = run.kind.verb, o.result

		if o.boot {
			item.Boot = describeBoot(*run.boot)
		}

		list.Items = append(list.Items, item)
		errs[i] = blamed(chosen[i], o.err)

		if o.err == nil {
			view.Names = append(view.Names, chosen[i].Name)
		}
	}

	view.Document = list

	var err error

	switch {
	case run.a.global.output.Machine():
		err = run.a.printer().Print(view)
	case run.a.folds(len(chosen), run.f.noFold):
		err = run.a.printFolded(chosen, func(i int) foldKey { return run.foldKey(chosen[i], outcomes[i]) })
	}

	if interrupted(ctx) {
		run.tellInterrupted(chosen, outcomes)

		return context.Cause(ctx)
	}

	return errors.Join(err, setOutcome(errs))
}

func (run powerRun) foldKey(bmc chosenBMC, o actOutcome) foldKey {
	key := foldKey{word: run.resultWord(o), detail: faultDetail(bmc, o.err)}
	if o.err != nil {
		key.style = out.Bad
	}

	return key
}

// tellInterrupted says what was done and what was not when the command was cut
// off.
func (run powerRun) tellInterrupted(chosen []chosenBMC, outcomes []actOutcome) {
	groups := map[string][]string{}

	for i, o := range outcomes {
		group := map[string]string{
			actDone: "done", actNeedless: "done", actSkipped: "left alone", actUnknown: "asked, result not seen", actFailed: "failed", actNotBegun: "not done",
		}[o.result]

		if o.boot && o.result == actNotBegun {
			group = "boot override set, then not done"
		}

		groups[group] = append(groups[group], chosen[i].Name)
	}

	for _, group := range []string{"done", "left alone", "failed", "asked, result not seen", "boot override set, then not done", "not done"} {
		if names := groups[group]; len(names) > 0 {
			run.a.warn("%s %s: %s", run.kind.verb, group, hosts.Fold(names))
		}
	}
}

// inOrder are the indexes of the BMCs by name, as people order them.
func inOrder(chosen []chosenBMC) []int {
	order := make([]int, len(chosen))
	for i := range order {
		order[i] = i
	}

	slices.SortStableFunc(order, func(i, j int) int {
		return cmp.Or(hosts.Compare(chosen[i].Name, chosen[j].Name), strings.Compare(chosen[i].Address, chosen[j].Address))
	})

	return order
}
