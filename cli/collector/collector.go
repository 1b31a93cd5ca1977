// Package collector sets the pace of the garbage collector: short commands do
// without it. Before main runs, the package variables of what is linked into the
// program fill six megabytes, and Go's first heap is four: by default a command
// collects twice, for a third of its whole time, and ends with hardly any
// garbage. A heap that may grow to five times of what lives is not reached by
// most of them.
//
// Go initialises packages in the order of their import paths as far as their
// imports allow (language specification, "Program initialization"), and this
// one needs little: it comes before those that fill the heap.
package collector

import (
	"os"
	"runtime/debug"
)

// How far the heap grows between two collections, in per cent of what lives
// (GOGC): that of short commands, and Go's default.
const (
	short = 400
	usual = 100
)

func init() { grow(short) }

// Resident restores Go's own pace for a program that stays: what it saves in
// memory is worth more there than the time it takes.
func Resident() { grow(usual) }

// grow leaves the decision to the user who set GOGC.
func grow(percent int) {
	if _, given := os.LookupEnv("GOGC"); !given {
		debug.SetGCPercent(percent)
	}
}
