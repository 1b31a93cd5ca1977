// Package soak is a test alone: a lab of many machines in a storm of faults and of
// a user's acts, chosen by a seed. At every step a judge holds what reached the
// machines and their BMCs, and what serve's event log says, against what Omni said
// at that time; the safety invariants are those of docs/design/serve.md. When the
// storm is over every machine must get to where Omni wants it, and serve must hold
// no more goroutines, descriptors, memory and BMC sessions than before.
//
// `make soak` runs it; SOAK='-seed 7 -for 30m' passes flags on.
package soak
