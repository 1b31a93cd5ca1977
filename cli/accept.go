package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/operator"
)

// acceptFlags are the flags of accept.
type acceptFlags struct {
	omni       omniFlags
	allPending bool
	yes        bool
	expect     int // -1: not given
	wait       bool
	waitGiven  bool
	timeout    time.Duration
	dryRun     bool
	json       bool
	labels     map[string]string
}

func (a *app) acceptCommand() *cobra.Command {
	var f acceptFlags

	cmd := &cobra.Command{
		Use:   "accept MACHINE...",
		Short: "Let Omni have a machine: every disk of it is erased",
		Long: `Accept pending machines. Their provider then erases every disk of theirs.

On a terminal the first block of the machine's id is to be typed, or the number
of machines when they are several. Elsewhere --yes --expect N says how many
machines are to be erased; where that is not what is found, nothing happens.

This needs Omni's role Operator: an omniconfig context, or a service account in
OMNI_ENDPOINT and OMNI_SERVICE_ACCOUNT_KEY. A provider's own key may not do it.`,
		Example: "  bmctl accept 9c41\n  bmctl machines --status pending -o name | bmctl accept - --yes --expect 3 --wait",
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) > 0) == f.allPending {
				return usagef("name the machines, or give --all-pending")
			}

			return nil
		},
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.waitGiven = cmd.Flags().Changed("wait")

			return a.accept(cmd.Context(), args, f)
		},
	}

	flags := cmd.Flags()
	f.omni.add(flags)
	flags.BoolVar(&f.allPending, "all-pending", false, "every pending machine")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask; needs --expect")
	flags.IntVar(&f.expect, "expect", -1, "`N` machines will be erased; where it is another number, none is")
	flags.BoolVar(&f.wait, "wait", false, "wait until they are ready (the default after a confirmation on a terminal)")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Minute, "how long to wait")
	flags.BoolVar(&f.dryRun, "dry-run", false, "say what would be accepted, and stop")
	flags.BoolVar(&f.json, "json", false, "same as -o json")
	flags.StringToStringVar(&f.labels, "label", nil, "labels for them in Omni: `KEY=VALUE`")

	return cmd
}

// candidate is a machine that was named, as Omni and serve know it.
type candidate struct {
	operator.Machine
	name string
	bmc  string           // its address, by serve or else by the inventory
	seen localapi.Machine // zero ID: serve has not told
	// earlier is what happened under its id before; empty until recall
	earlier string
}

func (c candidate) ref() machineRef { return machineRef{c.ID, c.name} }

func (a *app) accept(ctx context.Context, args []string, f acceptFlags) error {
	if f.json {
		a.global.output = out.JSON
	}

	targets, err := a.acceptTargets(args, f.allPending)
	if err != nil {
		return err
	}

	if err := checkExpect(args, targets, f); err != nil {
		return err
	}

	omni, err := a.connectOmni(ctx, f.omni)
	if err != nil {
		return err
	}

	defer omni.Close() //nolint:errcheck // nothing is lost with it

	machines, err := a.candidates(ctx, omni)
	if err != nil {
		return err
	}

	chosen, done, err := choose(targets, machines)
	if err != nil {
		return err
	}

	for _, c := range done {
		a.note("%s is accepted already", c.name)
	}

	return a.acceptChosen(ctx, omni, chosen, machines, f)
}

// acceptKind is the document of accept's results.
const acceptKind = "AcceptResultList"

func (a *app) acceptChosen(ctx context.Context, omni *operator.Client, chosen, all []candidate, f acceptFlags) error {
	a.recall(ctx, chosen)

	asked, err := a.permit(ctx, chosen, all, f)
	if err != nil {
		return err
	}

	if f.dryRun {
		return a.actDocument(acceptKind, a.wouldAct(chosen, "would-accept"))
	}

	results := a.acceptEach(ctx, omni, chosen, f.labels)
	if f.wait || asked && !f.waitGiven {
		a.waitReady(ctx, results, f.timeout)
	}

	if err := a.actDocument(acceptKind, results); err != nil {
		return err
	}

	return setFailure(results)
}

// checkExpect tells what is missing before anything is asked. Its hint can be
// typed as it stands: what came from a pipe is named.
func checkExpect(args, targets []string, f acceptFlags) error {
	if !f.yes || f.expect >= 0 || f.dryRun {
		return nil
	}

	hint := "bmctl accept --all-pending --yes --expect NUMBER"
	if !f.allPending {
		if slices.Contains(args, "-") {
			args = targets
		}

		hint = fmt.Sprintf("bmctl accept %s --yes --expect %d", strings.Join(args, " "), len(targets))
	}

	return failf(codeUsage, hint, "--yes without --expect: say how many machines will be erased")
}

// acceptTargets are the names given; nil means every pending machine.
func (a *app) acceptTargets(args []string, allPending bool) ([]string, error) {
	if allPending {
		return nil, nil
	}

	return a.targets(args)
}

// candidates are all machines of Omni, with what serve knows of them. Without
// serve the rest is unknown, which is said, and no reason to stop.
func (a *app) candidates(ctx context.Context, omni *operator.Client) ([]candidate, error) {
	known, err := omni.Machines(ctx)
	if err != nil {
		return nil, err
	}

	client := a.serveClient()
	defer client.Close()

	snapshot, err := client.Machines(ctx)
	if err != nil {
		a.warn("what serve knows of the machines is not shown: %v", err)
	}

	health, err := client.Health(ctx)
	if err == nil {
		known = slices.DeleteFunc(known, func(m operator.Machine) bool { return m.ProviderID != health.ProviderID })
	}

	seen := map[string]localapi.Machine{}
	for _, m := range snapshot.Items {
		seen[m.ID] = m
	}

	names := a.file.NamesByID()
	all := make([]candidate, len(known))

	for i, m := range known {
		host := names[strings.ToLower(m.ID)]
		all[i] = candidate{
			Machine: m, seen: seen[m.ID], name: personName(m.ID, seen[m.ID], host),
			bmc: cmp.Or(seen[m.ID].BMC.Address, a.file.Hosts[host].Address),
		}
	}

	slices.SortFunc(all, func(a, b candidate) int { return byName(a.ref(), b.ref()) })

	return all, nil
}

// personName is how people call the machine: what serve says, unless that is only
// a part of the id, else its host in the inventory here.
func personName(id string, seen localapi.Machine, host string) string {
	if hasName(seen) {
		return seen.Name
	}

	return cmp.Or(host, firstBlock(id))
}

// choose splits the machines that the targets name into those to be erased and
// those that are accepted already. No target means every pending machine.
func choose(targets []string, all []candidate) (chosen, done []candidate, err error) {
	if targets == nil {
		pending := slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return c.Acceptance != operator.Pending || c.Removing })
		if len(pending) == 0 {
			return nil, nil, failf(codeNoMatch, "bmctl machines", "no machine is pending")
		}

		return pending, nil, nil
	}

	refs := make([]machineRef, len(all))
	for i, c := range all {
		refs[i] = c.ref()
	}

	indexes, err := match(targets, refs)
	if err != nil {
		return nil, nil, err
	}

	for _, i := range indexes {
		if all[i].Acceptance == operator.Accepted {
			done = append(done, all[i])
		} else {
			chosen = append(chosen, all[i])
		}
	}

	return chosen, done, nil
}

// permit lets the machines through when the user said so: by number with --yes,
// else by typing. It reports whether a person was asked.
func (a *app) permit(ctx context.Context, chosen, all []candidate, f acceptFlags) (asked bool, err error) {
	if f.expect >= 0 && f.expect != len(chosen) {
		return false, failf(codeRefused, "bmctl machines --status pending",
			"%s would be erased, and --expect says %d: none was accepted", counted(len(chosen)), f.expect)
	}

	if f.yes || f.dryRun || len(chosen) == 0 {
		return false, nil
	}

	wanted, question := firstBlock(chosen[0].ID), "Type the first block of the id (%s) to erase it: "
	if len(chosen) > 1 {
		wanted, question = fmt.Sprint(len(chosen)), "Type the number of machines (%s) to erase them: "
	}

	hint := fmt.Sprintf("bmctl accept %s --yes --expect %d", shortIDs(chosen, all), len(chosen))

	answer, err := a.ask(ctx, warning(chosen, time.Now()), fmt.Sprintf(question, wanted), hint)
	if err != nil {
		return true, err
	}

	if !strings.EqualFold(answer, wanted) {
		return true, failf(codeRefused, "", "not confirmed: nothing was accepted")
	}

	return true, nil
}

func counted(machines int) string {
	if machines == 1 {
		return "1 machine"
	}

	return fmt.Sprintf("%d machines", machines)
}

func shortIDs(chosen, all []candidate) string {
	refs := make([]machineRef, len(all))
	for i, c := range all {
		refs[i] = c.ref()
	}

	ids := make([]string, len(chosen))
	for i, c := range chosen {
		ids[i] = shortID(c.ID, refs)
	}

	return strings.Join(ids, " ")
}

// warning is what a person reads before typing. What is not known is printed as
// unknown.
func warning(chosen []candidate, now time.Time) string {
	var text strings.Builder

	text.WriteString("ALL DISKS of this machine will be ERASED. This cannot be undone.\n")

	if len(chosen) > 1 {
		text.Reset()
		fmt.Fprintf(&text, "ALL DISKS of these %d machines will be ERASED. This cannot be undone.\n", len(chosen))
	}

	for _, c := range chosen {
		for _, line := range append([]string{""}, c.facts(now)...) {
			text.WriteString(strings.TrimRight("  "+out.Clean(line), " ") + "\n")
		}
	}

	text.WriteString("\n")

	return text.String()
}

func (c candidate) facts(now time.Time) []string {
	unknown := func(text string) string { return cmp.Or(text, "unknown") }

	first := "first seen: unknown"
	if !c.seen.FirstSeen.IsZero() {
		first = "first seen " + out.Age(now.Sub(c.seen.FirstSeen)) + " ago"
	}

	lines := []string{
		fmt.Sprintf("%s     %s   %s   S/N %s", c.ID, named(c), cmp.Or(strings.TrimSpace(c.seen.Vendor+" "+c.seen.Model), "model unknown"), unknown(c.seen.Serial)),
		fmt.Sprintf("%s from %s (mac %s), bmc %s", first, unknown(c.seen.Address), unknown(c.seen.MAC), unknown(c.bmc)),
		"disks: unknown (the agent does not report them)",
	}

	if c.earlier != "" {
		lines = append(lines, c.earlier)
	}

	if c.Acceptance == operator.Rejected {
		lines = append(lines, "it was rejected before")
	}

	if event := c.seen.LastEvent; event.Text != "" {
		lines = append(lines, "last event: "+since(event.Text, event.At, now))
	}

	return lines
}

func named(c candidate) string {
	if c.name == firstBlock(c.ID) {
		return "no name in the inventory"
	}

	return c.name
}
