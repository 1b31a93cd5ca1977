package cli

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
)

// Completion must answer in an instant and ask nobody: it reads the inventory
// and the last snapshot that a command saw.

// snapshotPath is the cache of the last snapshot, by the XDG base directory
// specification; empty when there is no place for one.
func (a *app) snapshotPath() string {
	if dir := a.env("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "bmctl", "machines.json")
	}

	if home := a.env("HOME"); home != "" {
		return filepath.Join(home, ".cache", "bmctl", "machines.json")
	}

	return ""
}

// remember keeps the snapshot for completion. A failure is no news: completion
// then offers less.
func (a *app) remember(list localapi.MachineList) {
	path := a.snapshotPath()
	if path == "" || os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}

	data, err := json.Marshal(list)
	if err != nil {
		return
	}

	fresh, err := os.CreateTemp(filepath.Dir(path), "machines-*")
	if err != nil {
		return
	}

	_, err = fresh.Write(data)
	if closeErr := fresh.Close(); err != nil || closeErr != nil || os.Rename(fresh.Name(), path) != nil {
		_ = os.Remove(fresh.Name()) //nolint:errcheck // nothing more can be done about it
	}
}

func (a *app) remembered() []localapi.Machine {
	data, err := os.ReadFile(a.snapshotPath())
	if err != nil {
		return nil
	}

	var list localapi.MachineList
	if json.Unmarshal(data, &list) != nil {
		return nil
	}

	return list.Items
}

func (a *app) completeMachines(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var offers []string

	for _, m := range a.remembered() {
		name := m.ID
		if hasName(m) {
			name = m.Name
		}

		if !slices.Contains(args, name) {
			offers = append(offers, out.Clean(name)+"\t"+out.Clean(m.Name+", "+m.Status))
		}
	}

	for _, name := range slices.Sorted(maps.Keys(a.completionFile(cmd).Groups)) {
		offers = append(offers, "@"+name)
	}

	return offers, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeSelector(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	known := map[string]bool{}

	for _, m := range a.remembered() {
		for key, value := range m.Labels {
			known[key+"="+value] = true
		}
	}

	return slices.DeleteFunc(slices.Sorted(maps.Keys(known)), func(pair string) bool { return strings.ContainsAny(pair, "\n\t") }),
		cobra.ShellCompDirectiveNoFileComp
}

// completionFile reads the configuration; a broken one has no groups.
func (a *app) completionFile(cmd *cobra.Command) config.File {
	path, given := config.Path(a.env)
	if flag := cmd.Flags().Lookup("config"); flag != nil && flag.Changed {
		path, given = flag.Value.String(), true
	}

	file, err := config.Load(path, given)
	if err != nil {
		return config.File{}
	}

	return file
}
