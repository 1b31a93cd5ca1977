package cli

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/operator"
)

// needsOperator stands in the help of every act on Omni.
const needsOperator = `
This needs Omni's role Operator, as bmctl accept does. MACHINE is a name of the
inventory, an id, or the start of one that no other machine has.`

// actFlags are the flags that all acts on machines in Omni have.
type actFlags struct {
	omni   omniFlags
	dryRun bool
	yes    bool
}

func (f *actFlags) add(flags *pflag.FlagSet) {
	f.omni.add(flags)
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be done, and stop")
}

func (f *actFlags) addYes(flags *pflag.FlagSet) {
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
}

// machineAct is a user's act on machines, as Omni's client carries it out.
type machineAct struct {
	verb string // as the command is called
	done string // the result where it succeeded
	kind string // of the document for programs
	// guard refuses a machine before anything is done to any; nil: all pass.
	guard func(candidate) error
	// permit asks a person where that is needed; nil: never.
	permit func(ctx context.Context, chosen, all []candidate) error
	// slow acts are done on many machines at once, and told as they end.
	slow bool
	do   func(ctx context.Context, omni *operator.Client, id string) error
}

func (a *app) machineActCommands() []*cobra.Command {
	commands := []*cobra.Command{
		a.labelCommand(), a.cordonCommand(true), a.cordonCommand(false), a.preferCommand(), a.kernelArgsCommand(), a.bmcCommand(), a.removeCommand(),
	}

	for _, request := range powerRequests() {
		commands = append(commands, a.powerRequestCommand(request))
	}

	return commands
}

// machineArgs demands at least one machine.
func machineArgs(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("name the machines")
	}

	return nil
}

// actOn carries the act out on the machines that the arguments name.
func (a *app) actOn(ctx context.Context, args []string, f actFlags, act machineAct) error {
	targets, err := a.targets(args)
	if err != nil {
		return err
	}

	omni, err := a.connectOmni(ctx, f.omni)
	if err != nil {
		return err
	}

	defer omni.Close() //nolint:errcheck // nothing is lost with it

	all, err := a.candidates(ctx, omni)
	if err != nil {
		return err
	}

	chosen, err := pick(targets, all)
	if err != nil {
		return err
	}

	return a.actOnChosen(ctx, omni, chosen, all, f, act)
}

func (a *app) actOnChosen(ctx context.Context, omni *operator.Client, chosen, all []candidate, f actFlags, act machineAct) error {
	for _, c := range chosen {
		if err := guarded(act, c); err != nil {
			return err
		}
	}

	if f.dryRun {
		return a.actDocument(act.kind, a.wouldAct(chosen, "would-"+act.verb))
	}

	if act.permit != nil && !f.yes {
		if err := act.permit(ctx, chosen, all); err != nil {
			return err
		}
	}

	each := a.actEach
	if act.slow {
		each = a.actTogether
	}

	results := each(ctx, chosen, act.done, func(ctx context.Context, id string) error { return act.do(ctx, omni, id) })
	if err := a.actDocument(act.kind, results); err != nil {
		return err
	}

	return setFailure(results)
}

// together is how many slow acts are under way at once.
const together = 32

// actTogether is actEach for acts that take long.
func (a *app) actTogether(ctx context.Context, chosen []candidate, done string, act func(context.Context, string) error) []actResult {
	results := make([]actResult, len(chosen))

	var (
		group errgroup.Group
		told  sync.Mutex
	)

	group.SetLimit(together)

	for i, c := range chosen {
		group.Go(func() error {
			results[i] = actOne(ctx, c, done, act)

			told.Lock()
			defer told.Unlock()

			a.sayOf(results[i], len(chosen))

			return nil
		})
	}

	_ = group.Wait() // the results hold the errors

	return results
}

func guarded(act machineAct, c candidate) error {
	if act.guard == nil {
		return nil
	}

	if err := act.guard(c); err != nil {
		f := classify(err)
		f.target = c.ID

		return f
	}

	return nil
}

// pick finds the machines that the targets name.
func pick(targets []string, all []candidate) ([]candidate, error) {
	indexes, err := match(targets, candidateRefs(all))
	if err != nil {
		return nil, err
	}

	chosen := make([]candidate, len(indexes))
	for i, at := range indexes {
		chosen[i] = all[at]
	}

	return chosen, nil
}

func candidateRefs(all []candidate) []machineRef {
	refs := make([]machineRef, len(all))
	for i, c := range all {
		refs[i] = c.ref()
	}

	return refs
}

func (a *app) wouldAct(chosen []candidate, word string) []actResult {
	results := make([]actResult, len(chosen))
	for i, c := range chosen {
		results[i] = actResult{ID: c.ID, Name: c.name, Result: word}
		a.say(results[i])
	}

	return results
}

// actDocument writes the results for programs; people have read the lines.
func (a *app) actDocument(kind string, results []actResult) error {
	if !a.global.output.Machine() {
		return nil
	}

	view := out.View{Document: actList{APIVersion: localapi.APIVersion, Kind: kind, Items: results}}
	for _, r := range results {
		view.Names = append(view.Names, r.ID)
	}

	return a.printer().Print(view)
}

// manyMachines is from how many machines on their number is to be typed: a yes
// is typed before it is thought.
const manyMachines = 11

// confirm asks for a yes, or for the number of machines when they are many.
func (a *app) confirm(ctx context.Context, text string, machines int, question, hint string) error {
	wanted := []string{"y", "yes"}
	question += " [y/N] "

	if machines >= manyMachines {
		wanted = []string{fmt.Sprint(machines)}
		question = fmt.Sprintf("Type the number of machines (%d) to go on: ", machines)
	}

	answer, err := a.ask(ctx, text, question, hint)
	if err != nil {
		return err
	}

	for _, word := range wanted {
		if strings.EqualFold(answer, word) {
			return nil
		}
	}

	return failf(codeRefused, "", "not confirmed: nothing was done")
}

// whereabouts says what a machine is used for.
func (c candidate) whereabouts() string {
	switch {
	case c.Cluster != "" && c.ControlPlane:
		return inCluster(c.Cluster, localapi.RoleControlPlane)
	case c.Cluster != "":
		return inCluster(c.Cluster, localapi.RoleWorker)
	case c.TalosVersion != "":
		return "in a cluster"
	default:
		return "in no cluster"
	}
}

func (c candidate) inCluster() bool { return c.TalosVersion != "" || c.Cluster != "" }
