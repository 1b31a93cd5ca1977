package controllers

import (
	"time"

	"github.com/bmctl/bmctl/boot"
)

// attemptOver is the silence after which what comes belongs to another boot.
const attemptOver = 10 * time.Minute

// attempt numbers a machine's boots from the network since serve started. NICs that
// try beside or after each other make up one boot; another one has begun when a NIC
// whose firmware had got past its DHCP begins with it again.
type attempt struct {
	number int
	at     time.Time       // of its latest step
	past   map[string]bool // NICs, by MAC, that got past DHCP in it
}

// step is the number of the boot that a step belongs to.
func (a *attempt) step(e boot.Event) int {
	firmware := e.Type == boot.EventDiscover && e.Firmware != "iPXE"

	if a.number == 0 || firmware && a.past[e.MAC] || e.Time.Sub(a.at) > attemptOver {
		a.number++
		a.past = map[string]bool{}
	}

	a.at = e.Time

	if e.Type != boot.EventDiscover && e.MAC != "" {
		a.past[e.MAC] = true
	}

	return a.number
}
