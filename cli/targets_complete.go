package cli

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/cli/out"
)

// completeTargets offers the inventory's hosts and groups, and the machines of
// the last snapshot that are in neither.
func (a *app) completeTargets(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	file := a.completionFile(cmd)
	seen := a.remembered()

	var offers []string

	for _, name := range file.HostNames() {
		offers = append(offers, name+"\t"+out.Clean(file.Hosts[name].Address))
	}

	for _, m := range seen {
		if bmc, err := (resolver{file: file}).ofSeen(m); err == nil && bmc.host == "" {
			offers = append(offers, m.ID+"\t"+out.Clean(m.Name+", "+m.Status))
		}
	}

	for _, name := range slices.Sorted(maps.Keys(file.Groups)) {
		offers = append(offers, "@"+name+"\t"+out.Clean(file.Groups[name]))
	}

	return slices.DeleteFunc(offers, func(offer string) bool {
		name, _, _ := strings.Cut(offer, "\t")

		return slices.Contains(args, name)
	}), cobra.ShellCompDirectiveNoFileComp
}

// completeHostLabels offers the labels of the inventory.
func (a *app) completeHostLabels(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	known := map[string]bool{}

	for _, host := range a.completionFile(cmd).Hosts {
		for key, value := range host.Labels {
			known[out.Clean(key+"="+value)] = true
		}
	}

	return slices.Sorted(maps.Keys(known)), cobra.ShellCompDirectiveNoFileComp
}
