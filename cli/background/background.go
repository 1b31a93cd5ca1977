// Package background keeps the terminal from being asked for its background
// colour. Bubble Tea's package initialisation does that in every program it is
// linked into (tea_init.go): each command on a terminal would begin with an
// escape sequence on stdout, wait up to five seconds where no answer comes, and
// swallow what is typed meanwhile. No theme here depends on the answer.
//
// Go initialises packages in the order of their import paths as far as their
// imports allow (language specification, "Program initialization"), and this
// one needs nothing but Lip Gloss: so it comes before Bubble Tea.
package background

import "github.com/charmbracelet/lipgloss"

func init() { lipgloss.SetHasDarkBackground(true) }
