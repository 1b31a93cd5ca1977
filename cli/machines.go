package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
)

// machineFilter is which machines are listed, and in which order.
type machineFilter struct {
	selector string
	status   []string
	sort     string
	watch    bool
}

func statusWords() []string {
	return []string{
		localapi.StatusPending, localapi.StatusAccepted, localapi.StatusWiping, localapi.StatusReady, localapi.StatusBooting, localapi.StatusRunning,
		localapi.StatusOffRequested, localapi.StatusRejected, localapi.StatusCordoned, localapi.StatusRemoving, localapi.StatusError,
	}
}

func (a *app) machinesCommand() *cobra.Command {
	var filter machineFilter

	machines := &cobra.Command{
		Use:     "machines",
		Aliases: []string{"machine"},
		Short:   "List the machines that serve knows, and say what each is doing and why",
		Example: "  bmctl machines -o wide\n  bmctl machines --status pending,error --selector rack=r1\n  bmctl machines -o json --watch",
	}

	group(machines)
	refuse := machines.RunE
	machines.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return refuse(cmd, args)
		}

		return a.listMachines(cmd.Context(), filter)
	}

	list := &cobra.Command{
		Use: "list", Short: "List the machines (the default)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.listMachines(cmd.Context(), filter) },
	}

	get := &cobra.Command{
		Use: "get MACHINE...", Short: "Say all that is known of a machine", Args: machineArgs, ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error { return a.getMachines(cmd.Context(), args) },
	}

	filter.flags(machines.Flags())
	filter.flags(list.Flags())

	for _, cmd := range []*cobra.Command{machines, list} {
		must(cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statusWords(), cobra.ShellCompDirectiveNoFileComp)))
		must(cmd.RegisterFlagCompletionFunc("selector", a.completeSelector))
	}

	machines.AddCommand(append(a.machineActCommands(), list, get, a.releaseCommand())...)

	return machines
}

func (f *machineFilter) flags(flags *pflag.FlagSet) {
	flags.StringVarP(&f.selector, "selector", "l", "", "only machines with these labels: rack=r1,!gpu")
	flags.StringSliceVar(&f.status, "status", nil, "only machines in these states: "+strings.Join(statusWords(), ", "))
	choiceVar(flags, &f.sort, "sort", "KEY", "order", "name", "id", "status", "power", "cluster", "age")
	flags.BoolVarP(&f.watch, "watch", "w", false, "go on, and write each machine again when it changes; a serve that restarts is waited for")
}

func (f machineFilter) apply(list localapi.MachineList) (localapi.MachineList, error) {
	for _, status := range f.status {
		if !slices.Contains(statusWords(), status) {
			return list, usagef("--status %q: want %s", status, strings.Join(statusWords(), ", "))
		}
	}

	selector, err := parseSelector(f.selector)
	if err != nil {
		return list, err
	}

	list.Items = slices.DeleteFunc(slices.Clone(list.Items), func(m localapi.Machine) bool {
		return !contains(f.status, m.Status) || !selector.Matches(labelSet(m.Labels))
	})
	slices.SortStableFunc(list.Items, f.order)

	return list, nil
}

func (f machineFilter) order(a, b localapi.Machine) int {
	var order int

	switch f.sort {
	case "id":
		order = cmp.Compare(a.ID, b.ID)
	case "status":
		order = cmp.Compare(slices.Index(statusWords(), a.Status), slices.Index(statusWords(), b.Status))
	case "power":
		order = cmp.Compare(a.Power, b.Power)
	case "cluster":
		order = cmp.Compare(a.Cluster, b.Cluster)
	case "age":
		order = b.LastEvent.At.Compare(a.LastEvent.At) // the newest first
	}

	return cmp.Or(order, byName(machineRef{a.ID, a.Name}, machineRef{b.ID, b.Name}))
}

func (a *app) listMachines(ctx context.Context, filter machineFilter) error {
	client := a.serveClient()
	defer client.Close()

	if _, err := filter.apply(localapi.MachineList{}); err != nil {
		return err // bad flags are told before serve is asked
	}

	if filter.watch {
		return a.watchMachines(ctx, client, filter)
	}

	all, err := client.Machines(ctx)
	if err != nil {
		return err
	}

	a.remember(all)

	list, err := filter.apply(all)
	if err != nil {
		return err
	}

	if list.Items == nil {
		list.Items = []localapi.Machine{} // a list without items, not null
	}

	if err := a.printer().Print(a.machinesView(list, all)); err != nil {
		return err
	}

	return a.summary(list.Items, all.Items)
}

// summary is the last line for people: on a terminal below the table, otherwise
// on stderr, where it is in nobody's way.
func (a *app) summary(shown, all []localapi.Machine) error {
	if a.global.output.Machine() || a.global.quiet {
		return nil
	}

	text := counted(len(shown))
	refs := machineRefs(all)

	var waiting []string

	for _, m := range shown {
		if m.Status == localapi.StatusPending {
			waiting = append(waiting, handle(m, refs))
		}
	}

	switch len(waiting) {
	case 0:
	case 1:
		text += ": 1 waits for you: bmctl accept " + waiting[0]
	default:
		text += fmt.Sprintf(": %d wait for you: bmctl accept %s", len(waiting), strings.Join(waiting, " "))
	}

	if terminal(a.stdout) {
		_, err := fmt.Fprintln(a.stdout, out.Clean(text))

		return err
	}

	a.note("%s", text)

	return nil
}

func machineRefs(machines []localapi.Machine) []machineRef {
	refs := make([]machineRef, len(machines))
	for i, m := range machines {
		refs[i] = machineRef{m.ID, m.Name}
	}

	return refs
}

// handle is the shortest thing to type for a machine: its name, unless that is
// only a part of its id or another's too.
func handle(m localapi.Machine, refs []machineRef) string {
	if hasName(m) && len(matching(m.Name, refs)) == 1 {
		return m.Name
	}

	return shortID(m.ID, refs)
}

func hasName(m localapi.Machine) bool { return m.Name != "" && m.Name != firstBlock(m.ID) }

func (a *app) machinesView(list, all localapi.MachineList) out.View {
	refs, now := machineRefs(all.Items), time.Now()
	view := out.View{
		Columns: []out.Column{
			{Head: "MACHINE"}, {Head: "ID", Wide: true}, {Head: "POWER"}, {Head: "STAGE"}, {Head: "STATUS"}, {Head: "CLUSTER"}, {Head: "TALOS"},
			{Head: "BMC", Wide: true}, {Head: "LAST EVENT"}, {Head: "AGE"}, {Head: "REASON", Wide: true},
		},
		Document: list,
	}

	for _, m := range list.Items {
		view.Rows = append(view.Rows, machineRow(m, refs, now))

		name := m.Name
		if !hasName(m) || len(matching(m.Name, refs)) != 1 {
			name = m.ID
		}

		view.Names = append(view.Names, name)
	}

	return view
}

func machineRow(m localapi.Machine, refs []machineRef, now time.Time) []out.Cell {
	name := out.Cell{Text: m.Name}
	if !hasName(m) {
		name.Text = shortID(m.ID, refs) + "…"
	}

	age := ""
	if !m.LastEvent.At.IsZero() {
		age = out.Age(now.Sub(m.LastEvent.At))
	}

	reason := m.Reason
	if m.Held != "" {
		reason = "held: " + m.Held
	}

	return []out.Cell{
		name, {Text: m.ID}, powerCell(m.Power), cell(m.Stage), statusCell(m.Status), cell(m.Cluster), cell(m.TalosVersion),
		cell(strings.TrimSpace(m.BMC.Protocol + " " + m.BMC.Address)), cell(m.LastEvent.Text), cell(age), cell(reason),
	}
}

func cell(text string) out.Cell { return out.Cell{Text: cmp.Or(text, "-")} }

func powerCell(power string) out.Cell {
	if power == "unknown" || power == "" {
		return out.Cell{Text: "?", Style: out.Warn}
	}

	return out.Cell{Text: power}
}

func statusCell(status string) out.Cell {
	switch status {
	case localapi.StatusPending:
		return out.Cell{Text: strings.ToUpper(status), Style: out.Warn} // it waits for a person
	case localapi.StatusError:
		return out.Cell{Text: status, Style: out.Bad}
	case localapi.StatusReady, localapi.StatusRunning:
		return out.Cell{Text: status, Style: out.Good}
	case localapi.StatusRejected, localapi.StatusCordoned:
		return out.Cell{Text: status, Style: out.Faint}
	default:
		return cell(status)
	}
}

func (a *app) getMachines(ctx context.Context, args []string) error {
	client := a.serveClient()
	defer client.Close()

	targets, err := a.targets(args)
	if err != nil {
		return err
	}

	all, err := client.Machines(ctx)
	if err != nil {
		return err
	}

	a.remember(all)

	indexes, err := match(targets, machineRefs(all.Items))
	if err != nil {
		return err
	}

	list := localapi.MachineList{APIVersion: all.APIVersion, Kind: all.Kind}
	for _, i := range indexes {
		list.Items = append(list.Items, all.Items[i])
	}

	view := a.machinesView(list, all)
	if len(list.Items) == 1 {
		view.Document = localapi.NewMachineDocument(list.Items[0])
	}

	if a.global.output.Machine() {
		return a.printer().Print(view)
	}

	return a.describe(list.Items)
}
