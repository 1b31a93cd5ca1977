package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power/hosts"
	"github.com/bmctl/bmctl/serve/localapi"
)

// use is what a machine is used for, as far as it is known.
type use struct {
	text  string
	inUse bool
	known bool // serve was asked
}

// usesOf asks serve which machines are in a cluster. Where serve cannot be
// asked, that is said, and no reason to stop.
func (a *app) usesOf(chosen []chosenBMC, fleet fleetView, wanted bool) []use {
	uses := make([]use, len(chosen))
	if !wanted {
		return uses
	}

	machines, err := fleet()
	if err != nil {
		a.warn("whether a machine is in a cluster could not be checked: %v", err)
	}

	for i, bmc := range chosen {
		uses[i] = use{text: "use unknown"}
		if err != nil {
			continue
		}

		m, known := seenBy(machines, bmc)

		switch {
		case !known:
			uses[i] = use{text: "not known to serve", known: true}
		case m.Cluster != "":
			uses[i] = use{inCluster(m.Cluster, m.Role), true, true}
		case m.TalosVersion != "":
			uses[i] = use{"in a cluster", true, true}
		default:
			uses[i] = use{text: "not allocated", known: true}
		}
	}

	return uses
}

// inCluster says which cluster a machine is in, and as what where that is known.
func inCluster(cluster, role string) string {
	if text := roleText(role); text != "" {
		cluster += " (" + text + ")"
	}

	return "in cluster " + cluster
}

// roleText is a role in a cluster for people; empty: it is not known.
func roleText(role string) string {
	switch role {
	case localapi.RoleControlPlane:
		return "control plane"
	case localapi.RoleWorker:
		return "worker"
	default:
		return ""
	}
}

// permit asks a person where the act may hurt: before it touches a machine of a
// cluster, and before it takes several down at once.
func (run powerRun) permit(ctx context.Context, chosen []chosenBMC, uses []use) error {
	var busy []chosenBMC

	for i, bmc := range chosen {
		if uses[i].inUse {
			busy = append(busy, bmc)
		}
	}

	needed := len(busy) > 0 || run.kind.asks && len(chosen) > 1
	if run.f.yes || run.f.dryRun || !needed {
		return nil
	}

	cost := run.kind.cost
	if run.boot != nil && (run.kind.action == 0 || run.kind.harmless) {
		cost = "will boot otherwise next time (" + describeBoot(*run.boot) + ")"
	}

	text := fmt.Sprintf("%s %s:\n%s", counted(len(chosen)), cost, listUses(chosen, uses))
	question := "Continue?"

	switch len(busy) {
	case 0:
	case 1:
		question = out.Clean(busy[0].Name) + " is in use. Continue?"
	default:
		question = out.Clean(foldNames(busy)) + " are in use. Continue?"
	}

	return run.a.confirm(ctx, text, len(chosen), question, run.again(chosen)+" --yes")
}

// again is the command line that does the same.
func (run powerRun) again(chosen []chosenBMC) string {
	line := "bmctl power " + run.kind.verb + " " + foldNames(chosen)
	if run.boot != nil {
		line += " --boot " + run.f.boot
	}

	return line
}

// manyListed is from how many machines on they are listed folded, by their use.
const manyListed = 9

// listUses lists the machines, two on a line or folded.
func listUses(chosen []chosenBMC, uses []use) string {
	var text strings.Builder

	if len(chosen) >= manyListed {
		byUse := map[string][]string{}
		for i, bmc := range chosen {
			byUse[uses[i].text] = append(byUse[uses[i].text], bmc.Name)
		}

		for _, use := range slices.Sorted(maps.Keys(byUse)) {
			fmt.Fprintf(&text, "  %s  %s\n", out.Clean(hosts.Fold(byUse[use])), out.Clean(use))
		}

		return text.String()
	}

	cells, width := make([]string, len(chosen)), 0
	for i, bmc := range chosen {
		cells[i] = out.Clean(bmc.Name + "  " + uses[i].text)
		width = max(width, len(cells[i]))
	}

	for pair := range slices.Chunk(cells, 2) {
		if len(pair) == 2 {
			pair[0] = fmt.Sprintf("%-*s      ", width, pair[0])
		}

		text.WriteString("  " + strings.Join(pair, "") + "\n")
	}

	return text.String()
}
