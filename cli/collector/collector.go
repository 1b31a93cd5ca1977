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
// (GOGC): that of short commands, Go's default, and that of a daemon which knows
// thousands of machines.
const (
	short  = 400
	usual  = 100
	frugal = 30
)

func init() { grow(short) }

// Resident restores Go's own pace for a program that stays: what it saves in
// memory is worth more there than the time it takes.
func Resident() { grow(usual) }

// Frugal keeps the memory of a daemon close to what lives in it. With thousands of
// machines that is what it knows of them and its sessions with their BMCs; CPU it
// hardly uses, and twice the memory would buy nothing.
func Frugal() { grow(frugal) }

// grow leaves the decision to the user who set GOGC.
func grow(percent int) {
	if _, given := os.LookupEnv("GOGC"); !given {
		debug.SetGCPercent(percent)
	}
}
