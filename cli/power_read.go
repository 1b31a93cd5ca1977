package cli

import (
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

// abilityTimeout is how long a BMC may take to tell more than its power: slow
// ones need seconds for their sensors.
const abilityTimeout = 30 * time.Second

// readFlags are the flags of the commands that read something from BMCs.
type readFlags struct {
	targets targetFlags
	timeout time.Duration
	last    int
}

// readList is the document of the commands that read.
type readList struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Items      []readItem `json:"items"`
}

// readItem is what one BMC told, under the key of what was asked for.
type readItem struct {
	Name     string        `json:"name"`
	ID       string        `json:"id,omitempty"`
	Address  string        `json:"address"`
	Sensors  []sensorItem  `json:"sensors,omitempty"`
	Log      []logItem     `json:"log,omitempty"`
	Info     *infoItem     `json:"info,omitempty"`
	Hardware *hardwareItem `json:"hardware,omitempty"`
	Error    string        `json:"error,omitempty"`
	Code     code          `json:"code,omitempty"`
}

// question is something that BMCs are asked, and how the answers are shown.
type question struct {
	verb  string
	short string
	kind  string // of the document
	ask   func(ctx context.Context, bmc power.BMC, f readFlags, item *readItem) error
	// table are the columns and rows for people; nil: describe writes the facts.
	columns []out.Column
	rows    func(item readItem) [][]out.Cell
	facts   func(item readItem) [][2]string
}

func powerQuestions() []question { return []question{sensorsQuestion(), logQuestion(), infoQuestion()} }

func (a *app) powerReadCommand(q question) *cobra.Command {
	var f readFlags

	cmd := &cobra.Command{
		Use: q.verb + " TARGET...", Short: q.short, Long: q.short + ".\n" + targetsHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.timeout <= 0 {
				return usagef("--timeout: want a time that is positive")
			}

			return a.powerRead(cmd.Context(), args, q, f)
		},
	}

	a.addTargetFlags(cmd, &f.targets, defaultParallel)
	cmd.Flags().DurationVar(&f.timeout, "timeout", abilityTimeout, "how long each BMC may take")

	if q.verb == "log" {
		cmd.Flags().IntVar(&f.last, "last", 20, "how many entries of each BMC, the newest; 0 is all")
	}

	return cmd
}

func (a *app) powerRead(ctx context.Context, args []string, q question, f readFlags) error {
	chosen, err := a.connected(ctx, args, f.targets, a.fleetView(ctx))
	if err != nil {
		return err
	}

	if err := direct(chosen); err != nil {
		return err
	}

	items := make([]readItem, len(chosen))
	errs := make([]error, len(chosen))

	for r := range power.Each(ctx, a.dialer(), f.targets.parallel, powerTargets(chosen),
		func(ctx context.Context, bmc power.BMC, _ power.Target) (item readItem, err error) {
			ctx, cancel := context.WithTimeout(ctx, f.timeout)
			defer cancel()

			return item, q.ask(ctx, bmc, f, &item)
		}) {
		bmc, item := chosen[r.Index], r.Value
		item.Name, item.ID, item.Address = bmc.Name, bmc.UUID, bmc.Address

		if r.Err != nil {
			item.Error, item.Code = oneLine(r.Err.Error()), classify(r.Err).code
		}

		items[r.Index], errs[r.Index] = item, blamed(bmc, r.Err)
	}

	if interrupted(ctx) {
		return context.Cause(ctx)
	}

	return errors.Join(a.printAnswers(chosen, items, q), setOutcome(errs))
}

// unable is the failure of a controller type that has not the ability at all.
func unable(what string) error { return fmt.Errorf("%w: %s", power.ErrUnsupported, what) }

func (a *app) printAnswers(chosen []chosenBMC, items []readItem, q question) error {
	list := readList{APIVersion: localapi.APIVersion, Kind: q.kind, Items: []readItem{}}
	view := out.View{Columns: q.columns}

	var facts strings.Builder

	for _, i := range inOrder(chosen) {
		item := items[i]
		list.Items = append(list.Items, item)

		if item.Error != "" {
			if len(items) > 1 && !a.global.output.Machine() {
				a.warn("%s", item.Error)
			}

			continue
		}

		view.Names = append(view.Names, item.Name)

		if q.facts != nil {
			writeFacts(&facts, q.facts(item))
		} else {
			view.Rows = append(view.Rows, q.rows(item)...)
		}
	}

	view.Document = list

	switch {
	case q.facts != nil && !a.global.output.Machine():
		_, err := fmt.Fprint(a.stdout, facts.String())

		return err
	case len(view.Rows) == 0 && !a.global.output.Machine():
		return nil
	default:
		return a.printer().Print(view)
	}
}

// writeFacts writes a line for each fact; an empty line parts it from the one
// before.
func writeFacts(text *strings.Builder, facts [][2]string) {
	if text.Len() > 0 {
		text.WriteString("\n")
	}

	width := 0
	for _, fact := range facts {
		width = max(width, len(fact[0]))
	}

	for _, fact := range facts {
		fmt.Fprintf(text, "%-*s  %s\n", width, out.Clean(fact[0]), out.Clean(fact[1]))
	}
}
