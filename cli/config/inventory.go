package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bmctl/bmctl/power/hosts"
)

// HostNames returns the names of the inventory in people's order.
func (f File) HostNames() []string {
	return slices.SortedFunc(maps.Keys(f.Hosts), hosts.Compare)
}

// Expand returns the names that the expressions stand for, with the groups of
// this file. They need not be hosts of the inventory.
func (f File) Expand(exprs []string) ([]string, error) {
	return f.ExpandWith(exprs, hosts.Options{})
}

// ExpandWith is Expand with options of its own; the groups are this file's.
func (f File) ExpandWith(exprs []string, options hosts.Options) ([]string, error) {
	options.Group = f.group

	return hosts.Expand(exprs, options)
}

func (f File) group(name string) (string, error) {
	expr, ok := f.Groups[name]
	if !ok {
		return "", fmt.Errorf("the configuration has no such group")
	}

	return expr, nil
}

// NamesByID returns the hosts' names by machine id in lower case.
func (f File) NamesByID() map[string]string {
	names := map[string]string{}

	for name, host := range f.Hosts {
		if host.ID != "" {
			names[strings.ToLower(host.ID)] = name
		}
	}

	return names
}

// NamesByAddress returns the hosts' names by BMC address. Of several hosts with
// one address the first in people's order has it.
func (f File) NamesByAddress() map[string]string {
	names := map[string]string{}

	for _, name := range slices.Backward(f.HostNames()) {
		names[f.Hosts[name].Address] = name
	}

	return names
}
