package cli

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/tui"
)

// powerVerbs are the verbs that bmctl power carries out.
func powerVerbs() []tui.Verb {
	return []tui.Verb{
		tui.PowerOn, tui.PowerOff, tui.PowerSoft, tui.PowerCycle, tui.PowerReset, tui.BootPXE, tui.BootDisk, tui.BootBIOS, tui.BootNone,
	}
}

// powerRunOf is what bmctl power does for the verb without flags, which is the
// command line that the view shows beside it.
func (a *app) powerRunOf(verb tui.Verb) (powerRun, error) {
	group, word, _ := strings.Cut(string(verb), " ")
	f := powerFlags{timeout: actTimeout}

	if group == "boot" {
		f.boot, word = word, group
	}

	kinds := powerActList()
	kind := kinds[slices.IndexFunc(kinds, func(kind powerActKind) bool { return kind.verb == word })]
	boot, err := f.bootOverride(kind)

	return powerRun{a: a, kind: kind, boot: boot, f: f, turns: &turns{gap: kind.stagger()}}, err
}

// doPower carries the verb out on the machines side by side: on the BMCs of the
// inventory directly, on the others through serve.
func (s *tuiSource) doPower(ctx context.Context, verb tui.Verb, ids []string) iter.Seq[tui.Result] {
	return func(yield func(tui.Result) bool) {
		run, err := s.a.powerRunOf(verb)
		if err != nil {
			yield(tui.Result{Err: err})

			return
		}

		bmcs, failed := s.bmcsOf(ctx, ids)
		for _, result := range failed {
			if !yield(result) {
				return
			}
		}

		for r := range power.Each(ctx, s.opener(bmcs), defaultParallel, targetsOf(bmcs), run.on) {
			bmc := bmcs[r.Index]
			if !bmc.served {
				s.inventory.switched(bmc.host, bmc.id, run.event(verb, r))
			}

			if !yield(run.result(verb, bmc, r)) {
				return
			}
		}
	}
}

// machineBMC is a BMC with the id by which the view knows its machine.
type machineBMC struct {
	chosenBMC
	id        string
	inCluster bool // as the person was told
}

// bmcsOf finds the machines' BMCs with their logins, and says of those that have
// none why not.
func (s *tuiSource) bmcsOf(ctx context.Context, ids []string) (bmcs []machineBMC, failed []tui.Result) {
	for _, id := range ids {
		m, host := s.known(id)
		bmc := machineBMC{id: id, inCluster: m.Cluster != ""}

		var err error

		switch {
		case host != "":
			bmc.host = host
			bmc.Target, err = s.inventory.target(ctx, host)
		case m.ID != "":
			bmc.Target, bmc.served = power.Target{Name: m.Name, UUID: m.ID}, true
		default:
			err = errors.New("neither in the inventory nor known to serve")
		}

		if err != nil {
			failed = append(failed, tui.Result{ID: id, Err: err})
		} else {
			bmcs = append(bmcs, bmc)
		}
	}

	return bmcs, failed
}

// known is what serve told of the machine, and its host in the inventory. Either
// may be empty.
func (s *tuiSource) known(id string) (m localapi.Machine, host string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if i := slices.IndexFunc(s.seen, func(m localapi.Machine) bool { return m.ID == id }); i >= 0 {
		m = s.seen[i]
	}

	host = s.names[strings.ToLower(id)]
	if _, byName := s.a.file.Hosts[id]; byName && host == "" {
		host = id // a host without an id goes by its name
	}

	if host == "" {
		host = s.host(m)
	}

	return m, host
}

// opener opens the conversations with the BMCs.
func (s *tuiSource) opener(bmcs []machineBMC) opener {
	o := opener{dialer: s.inventory.dialer, client: s.client, served: map[string]bool{}, inCluster: map[string]bool{}}
	for _, bmc := range bmcs {
		o.served[bmc.UUID], o.inCluster[bmc.UUID] = bmc.served, bmc.inCluster
	}

	return o
}

func targetsOf(bmcs []machineBMC) []power.Target {
	targets := make([]power.Target, len(bmcs))
	for i, bmc := range bmcs {
		targets[i] = bmc.Target
	}

	return targets
}

// result is what came of one machine, as bmctl power tells it.
func (run powerRun) result(verb tui.Verb, bmc machineBMC, r power.Result[actOutcome]) tui.Result {
	switch {
	case r.Err != nil:
		detail := strings.TrimPrefix(faultDetail(bmc.chosenBMC, r.Err), bmc.Name+": ")

		return tui.Result{ID: bmc.id, Text: string(verb) + ":", Err: errors.New(faultWord(r.Err) + ": " + detail)}
	case run.boot != nil:
		return tui.Result{ID: bmc.id, Text: run.bootText()}
	default:
		return tui.Result{ID: bmc.id, Text: string(verb) + ": " + run.resultText(r.Value, use{})}
	}
}

// event is the act as it stands among the events of the machine's boot; serve
// does not see what is done behind its back. Without a type nothing was done.
func (run powerRun) event(verb tui.Verb, r power.Result[actOutcome]) tui.Event {
	if r.Err != nil || r.Value.result != actDone {
		return tui.Event{}
	}

	text := string(verb)
	if run.boot != nil {
		text = run.bootText()
	}

	return tui.Event{At: time.Now().Add(-r.Value.took), Type: "power", Text: text, Reason: "ordered here"}
}
