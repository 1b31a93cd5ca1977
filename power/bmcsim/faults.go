package bmcsim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/bmctl/bmctl/power"
)

// The faults that a controller can be given.
const (
	// FaultSilent: nothing is answered any more, on connections old and new.
	FaultSilent = "silent"
	// FaultSlow: every answer leaves Config.SlowBy later.
	FaultSlow = "slow"
	// FaultBadLogin: every login is refused, as with a changed password.
	FaultBadLogin = "bad-login"
	// FaultBusy: chassis commands and requests to the system get "busy, later".
	FaultBusy = "busy"
	// FaultLyingPower: power acts are accepted and not carried out.
	FaultLyingPower = "lying-power"
	// FaultLyingBoot: boot overrides are accepted and not kept.
	FaultLyingBoot = "lying-boot"
	// FaultIgnoreSoft: the operating system ignores the soft shutdown.
	FaultIgnoreSoft = "ignore-soft"
	// FaultTwoSystems: Redfish lists a second system, before the machine's own.
	FaultTwoSystems = "two-systems"
	// FaultNoCycle: a power cycle is a command that the controller lacks
	// (IPMI: completion code CCh; Redfish: no PowerCycle in the list).
	FaultNoCycle = "no-cycle"
	// FaultNoGUID: IPMI does not tell the system's UUID.
	FaultNoGUID = "no-guid"
)

var knownFaults = []string{
	FaultBadLogin, FaultBusy, FaultIgnoreSoft, FaultLyingBoot, FaultLyingPower,
	FaultNoCycle, FaultNoGUID, FaultSilent, FaultSlow, FaultTwoSystems,
}

// KnownFaults returns the names that SetFault takes, sorted.
func KnownFaults() []string { return slices.Sorted(slices.Values(knownFaults)) }

// faults is the set of faults that are on.
type faults struct {
	mu     sync.Mutex
	active map[string]bool
}

func newFaults() *faults { return &faults{active: map[string]bool{}} }

func (f *faults) set(name string, on bool) error {
	bare := strings.TrimPrefix(strings.TrimPrefix(name, "ipmi:"), "redfish:")
	if !slices.Contains(knownFaults, bare) {
		return fmt.Errorf("unknown fault %q (known: %s)", name, strings.Join(KnownFaults(), ", "))
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	if on {
		f.active[name] = true
	} else {
		delete(f.active, name)
	}

	return nil
}

// on tells whether the face that speaks the protocol has the fault.
func (f *faults) on(face power.Protocol, name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.active[name] || f.active[string(face)+":"+name]
}

func (f *faults) list() []string {
	f.mu.Lock()
	defer f.mu.Unlock()

	return slices.Sorted(maps.Keys(f.active))
}
