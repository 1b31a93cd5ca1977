package cli

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
)

// refresh is how often the snapshot is taken even without an event: a power
// reading is not one.
const refresh = 2 * time.Second

// watchedMachine is a line of the stream for programs.
type watchedMachine struct {
	localapi.MachineDocument
	// Gone is true in the last line of a machine that left the list.
	Gone bool `json:"gone,omitempty"`
}

// watchMachines writes every machine once, and again each time it changed, until
// it is interrupted. A serve that goes away, to be upgraded for example, is waited
// for; only one that is not there at the start ends the watch.
func (a *app) watchMachines(ctx context.Context, client *localapi.Client, filter machineFilter) error {
	all, err := client.Machines(ctx)
	if err != nil {
		return err
	}

	happened := make(chan struct{}, 1)
	go follow(ctx, client, happened)

	ticker := time.NewTicker(refresh)
	defer ticker.Stop()

	shown, first, away := map[string]localapi.Machine{}, true, false

	for {
		if err == nil {
			if err := a.writeChanges(filter, all, shown, first); err != nil {
				return err
			}
		}

		if (err != nil) != away && ctx.Err() == nil {
			away = a.sayAway(err)
		}

		first = false

		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-happened:
		case <-ticker.C:
		}

		all, err = client.Machines(ctx)
	}
}

// sayAway tells that serve went away, or came back, and returns which.
func (a *app) sayAway(err error) (away bool) {
	if err == nil {
		a.note("serve answers again")

		return false
	}

	a.warn("%v; waiting for it", err)

	return true
}

// follow says in the channel that something happened; what it was, the next
// snapshot tells. A stream that ends is something as well, and is begun again.
func follow(ctx context.Context, client *localapi.Client, happened chan<- struct{}) {
	for ctx.Err() == nil {
		for _, err := range client.Events(ctx, localapi.Now) {
			select {
			case happened <- struct{}{}:
			default: // one is waiting already
			}

			if err != nil {
				break
			}
		}

		select {
		case <-ctx.Done():
		case <-time.After(refresh):
		}
	}
}

func (a *app) writeChanges(filter machineFilter, all localapi.MachineList, shown map[string]localapi.Machine, first bool) error {
	list, err := filter.apply(all)
	if err != nil {
		return err
	}

	changed := localapi.MachineList{APIVersion: all.APIVersion, Kind: all.Kind}
	present := map[string]bool{}

	for _, m := range list.Items {
		present[m.ID] = true

		if old, known := shown[m.ID]; !known || !sameForWatch(old, m) {
			changed.Items = append(changed.Items, m)
			shown[m.ID] = m
		}
	}

	if err := a.writeWatched(changed, all, first); err != nil {
		return err
	}

	return a.writeGone(shown, present)
}

// sameForWatch ignores what changes with every reading.
func sameForWatch(a, b localapi.Machine) bool {
	a.PowerAt, b.PowerAt = time.Time{}, time.Time{}
	a.BMC.LatencySeconds, b.BMC.LatencySeconds = 0, 0

	return reflect.DeepEqual(a, b)
}

func (a *app) writeWatched(changed, all localapi.MachineList, first bool) error {
	printer := a.printer()

	if a.global.output != out.JSON && a.global.output != out.YAML {
		printer.NoHeaders = printer.NoHeaders || !first
		if len(changed.Items) == 0 && !first {
			return nil
		}

		return printer.Print(a.machinesView(changed, all))
	}

	for _, m := range changed.Items {
		if err := printer.Line(watchedMachine{MachineDocument: localapi.NewMachineDocument(m)}); err != nil {
			return err
		}
	}

	return nil
}

func (a *app) writeGone(shown map[string]localapi.Machine, present map[string]bool) error {
	for _, m := range sortedMachines(shown) {
		if present[m.ID] {
			continue
		}

		delete(shown, m.ID)

		if a.global.output != out.JSON {
			a.note("%s is gone from the list", m.Name)

			continue
		}

		if err := a.printer().Line(watchedMachine{localapi.NewMachineDocument(m), true}); err != nil {
			return err
		}
	}

	return nil
}

func sortedMachines(machines map[string]localapi.Machine) []localapi.Machine {
	return slices.SortedFunc(maps.Values(machines), func(a, b localapi.Machine) int { return strings.Compare(a.ID, b.ID) })
}
