package cli

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/bmctl/bmctl/power/hosts"
)

// machineRef is what a target on the command line can name: a machine by its id
// or by what people call it.
type machineRef struct{ id, name string }

// minPrefix is how much of an id must be given: less hits by accident.
const minPrefix = 4

// targets returns the names that the arguments stand for: host lists, groups,
// and with - the lines of stdin.
func (a *app) targets(args []string) ([]string, error) {
	exprs, err := a.targetExprs(args)
	if err != nil {
		return nil, err
	}

	names, err := a.file.Expand(exprs)
	if err != nil {
		return nil, usagef("%w", err)
	}

	if len(names) == 0 {
		return nil, failf(codeNoMatch, "", "the targets stand for no machine at all")
	}

	return names, nil
}

// targetExprs are the arguments with the lines of stdin in place of -.
func (a *app) targetExprs(args []string) ([]string, error) {
	var exprs []string

	for _, arg := range args {
		if arg != "-" {
			exprs = append(exprs, arg)

			continue
		}

		lines, err := readTargets(a.stdin)
		if err != nil {
			return nil, err
		}

		exprs = append(exprs, lines...)
	}

	return exprs, nil
}

func readTargets(r io.Reader) ([]string, error) {
	var targets []string

	lines := bufio.NewScanner(io.LimitReader(r, 64<<20))
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			targets = append(targets, line)
		}
	}

	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the targets from stdin: %w", err)
	}

	return targets, nil
}

// match returns the indexes of the machines that the targets name, each once,
// in the order of the machines. A target is a whole id, a name, or the first
// digits of an id; one that names nothing or several is refused with all others
// untouched.
func match(targets []string, machines []machineRef) ([]int, error) {
	chosen := map[int]bool{}

	for _, target := range targets {
		found := matching(target, machines)

		switch len(found) {
		case 0:
			f := failf(codeNoMatch, "bmctl machines", "no machine is called %q", target)
			f.target = target

			return nil, f
		case 1:
			chosen[found[0]] = true
		default:
			f := failf(codeAmbiguousTarget, "give more of the id", "%q is ambiguous: %s", target, candidates(found, machines))
			f.target = target

			return nil, f
		}
	}

	indexes := make([]int, 0, len(chosen))
	for i := range machines {
		if chosen[i] {
			indexes = append(indexes, i)
		}
	}

	return indexes, nil
}

// matching prefers the whole id, then the name, then the start of an id: a host
// that is called like the start of another's id stays reachable.
func matching(target string, machines []machineRef) []int {
	wanted := strings.ToLower(target)

	for _, same := range []func(machineRef) bool{
		func(m machineRef) bool { return strings.ToLower(m.id) == wanted },
		func(m machineRef) bool { return m.name == target },
		func(m machineRef) bool {
			return len(wanted) >= minPrefix && strings.HasPrefix(strings.ToLower(m.id), wanted)
		},
	} {
		var found []int

		for i, m := range machines {
			if same(m) {
				found = append(found, i)
			}
		}

		if len(found) > 0 {
			return found
		}
	}

	return nil
}

func candidates(found []int, machines []machineRef) string {
	const shown = 5

	var ids []string

	for _, i := range found {
		if len(ids) == shown {
			ids = append(ids, fmt.Sprintf("and %d more", len(found)-shown))

			break
		}

		ids = append(ids, machines[i].id)
	}

	return strings.Join(ids, ", ")
}

// shortID is the shortest start of the id that matches no other machine.
func shortID(id string, machines []machineRef) string {
	for length := minPrefix; length < len(id); length++ {
		if len(matching(id[:length], machines)) == 1 {
			return id[:length]
		}
	}

	return id
}

// firstBlock is the part of a UUID before its first dash.
func firstBlock(id string) string {
	block, _, _ := strings.Cut(id, "-")

	return block
}

// parseSelector reads a label selector as kubectl and omnictl do: rack=r1,!gpu.
func parseSelector(text string) (labels.Selector, error) {
	selector, err := labels.Parse(text)
	if err != nil {
		return nil, usagef("--selector %q: %w", text, err)
	}

	return selector, nil
}

// byName orders machines by their names as people do, then by id.
func byName(a, b machineRef) int {
	if order := hosts.Compare(a.name, b.name); order != 0 {
		return order
	}

	return strings.Compare(a.id, b.id)
}

func contains(list []string, item string) bool { return len(list) == 0 || slices.Contains(list, item) }
