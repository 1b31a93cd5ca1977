//go:build race

package tui

// slowdown is what the race detector costs.
const slowdown = 10
