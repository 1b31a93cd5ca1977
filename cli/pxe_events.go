package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
)

// pxeEventsFlags are the flags of pxe events.
type pxeEventsFlags struct {
	follow bool
	since  time.Duration
}

func (a *app) pxeEventsCommand() *cobra.Command {
	var f pxeEventsFlags

	cmd := &cobra.Command{
		Use: "events [MACHINE]", Short: "Say what serve saw of machines that boot from the network", Args: cobra.MaximumNArgs(1),
		Long: `Say what serve saw of machines that boot from the network, packets that it ignored
and the reason included. A MACHINE is an id, the first digits of one, a name, or the
MAC of a NIC, which serve may know nothing else of. With --follow events of earlier
runs of serve are not told.`,
		Example:           "  bmctl pxe events --since 10m\n  bmctl pxe events r1n03 --follow\n  bmctl pxe events 3c:ec:ef:12:34:56",
		ValidArgsFunction: a.completeMachines,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.pxeEvents(cmd.Context(), args, f) },
	}

	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with new events until interrupted")
	cmd.Flags().DurationVar(&f.since, "since", time.Hour, "only events of the last `TIME`: 10m, 24h")

	return cmd
}

// pxeTypes are the types of events that belong to a network boot.
func pxeTypes() []string {
	return []string{"discover", "request", "loader", "script", "kernel", "initrd", "asset", "ignored", "rival", "agent"}
}

func (a *app) pxeEvents(ctx context.Context, args []string, f pxeEventsFlags) error {
	if f.since <= 0 {
		return usagef("--since: want a time that is positive")
	}

	client := a.serveClient()
	defer client.Close()

	wanted, names, err := a.eventFilter(ctx, client, args)
	if err != nil {
		return err
	}

	oldest := time.Now().Add(-f.since)
	show := func(e localapi.Event) bool {
		return slices.Contains(pxeTypes(), e.Type) && !e.At.Before(oldest) && wanted(e)
	}

	if f.follow {
		return a.followEvents(ctx, client, show, names)
	}

	return a.listEvents(ctx, client, oldest, show, names)
}

// eventFilter says which events are of the machine, and what machines are called.
func (a *app) eventFilter(ctx context.Context, client *localapi.Client, args []string) (func(localapi.Event) bool, map[string]string, error) {
	list, err := client.Machines(ctx)
	if errors.Is(err, localapi.ErrNotYet) && len(args) == 0 {
		err = nil // the events that are wanted most are those before Omni answers
	}

	if err != nil {
		return nil, nil, err
	}

	names := map[string]string{}
	refs := make([]machineRef, len(list.Items))

	for i, m := range list.Items {
		names[m.ID] = m.Name
		refs[i] = machineRef{m.ID, m.Name}
	}

	if len(args) == 0 {
		return func(localapi.Event) bool { return true }, names, nil
	}

	if mac := strings.ToLower(args[0]); strings.Count(mac, ":") == macColons {
		return func(e localapi.Event) bool { return e.MAC == mac }, names, nil
	}

	if id := strings.ToLower(args[0]); len(id) == uuidLen && strings.Count(id, "-") == uuidHyphens {
		return func(e localapi.Event) bool { return e.MachineID == id }, names, nil // Omni need not know it any more
	}

	chosen, err := match(args, refs)
	if err != nil {
		return nil, nil, err
	}

	m := list.Items[chosen[0]]

	return func(e localapi.Event) bool { return e.MachineID == m.ID || m.MAC != "" && e.MAC == m.MAC }, names, nil
}

const (
	macColons   = 5
	uuidLen     = 36
	uuidHyphens = 4
)

func (a *app) listEvents(ctx context.Context, client *localapi.Client, since time.Time, show func(localapi.Event) bool, names map[string]string) error {
	events, err := client.History(ctx, localapi.HistoryQuery{Since: since})
	if err != nil {
		return err
	}

	list := localapi.EventList{APIVersion: localapi.APIVersion, Kind: "EventList", Items: []localapi.Event{}}
	view := out.View{Columns: []out.Column{{Head: "TIME"}, {Head: "MACHINE"}, {Head: "MAC"}, {Head: "EVENT"}, {Head: "REASON"}}}

	for _, e := range events {
		if !show(e) {
			continue
		}

		list.Items = append(list.Items, e)
		view.Rows = append(view.Rows, eventRow(e, names))
		view.Names = append(view.Names, fmt.Sprint(e.Seq))
	}

	view.Document = list

	return a.printer().Print(view)
}

func (a *app) followEvents(ctx context.Context, client *localapi.Client, show func(localapi.Event) bool, names map[string]string) error {
	for e, err := range client.Events(ctx, 0) {
		if err != nil {
			return err
		}

		if !show(e) {
			continue
		}

		if err := a.writeEvent(e, names); err != nil {
			return err
		}
	}

	return context.Cause(ctx)
}

func (a *app) writeEvent(e localapi.Event, names map[string]string) error {
	switch a.global.output {
	case out.JSON, out.YAML:
		return a.printer().Line(e)
	case out.Name:
		_, err := fmt.Fprintln(a.stdout, e.Seq)

		return err
	default:
		row := eventRow(e, names)
		line := fmt.Sprintf("%s  %-10s  %-17s  %-40s  %s", row[0].Text, row[1].Text, row[2].Text, row[3].Text, row[4].Text)
		_, err := fmt.Fprintln(a.stdout, out.Clean(strings.TrimRight(line, " ")))

		return err
	}
}

func eventRow(e localapi.Event, names map[string]string) []out.Cell {
	name := names[e.MachineID]
	if name == "" {
		name, _, _ = strings.Cut(e.MachineID, "-")
	}

	text := out.Cell{Text: e.Text}
	if e.Type == "ignored" || e.Type == "rival" {
		text.Style = out.Warn
	}

	return []out.Cell{{Text: e.At.Local().Format("15:04:05.000")}, cell(name), cell(e.MAC), text, {Text: e.Reason}}
}
