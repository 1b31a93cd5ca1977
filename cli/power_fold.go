package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power/hosts"
)

// foldKey is what rows have in common that are put together.
type foldKey struct {
	word   string
	detail string
	style  out.Style
}

// foldGroup are the names of one word.
type foldGroup struct {
	foldKey
	names   []string
	details map[string]int
}

// printFolded writes one row for each word: how many machines, which, and why.
// The largest group comes first.
func (a *app) printFolded(chosen []chosenBMC, key func(int) foldKey) error {
	groups := map[string]*foldGroup{}

	for i, bmc := range chosen {
		k := key(i)

		g := groups[k.word]
		if g == nil {
			g = &foldGroup{foldKey: k, details: map[string]int{}}
			groups[k.word] = g
		}

		g.names = append(g.names, bmc.Name)
		g.details[k.detail]++
	}

	sorted := slices.SortedFunc(maps.Values(groups), func(x, y *foldGroup) int {
		return cmp.Or(cmp.Compare(len(y.names), len(x.names)), cmp.Compare(x.word, y.word))
	})

	view := out.View{Columns: make([]out.Column, 4)}
	for _, g := range sorted {
		view.Rows = append(view.Rows, []out.Cell{
			{Text: g.word, Style: g.style}, {Text: fmt.Sprintf("%3d", len(g.names))}, {Text: hosts.Fold(g.names)}, {Text: g.reason()},
		})
	}

	printer := a.printer()
	printer.NoHeaders = true

	return printer.Print(view)
}

// reason is the detail that most of the group have.
func (g foldGroup) reason() string {
	best := slices.SortedFunc(maps.Keys(g.details), func(x, y string) int {
		return cmp.Or(cmp.Compare(g.details[y], g.details[x]), cmp.Compare(x, y))
	})

	if len(best) > 1 {
		return fmt.Sprintf("%s (and %d other reasons: --no-fold)", best[0], len(best)-1)
	}

	return best[0]
}
