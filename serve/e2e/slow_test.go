//go:build e2e

package e2e_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/bmctl/bmctl/boot"
)

// TestSlowLegacy boots by a BIOS's PXE ROM, or what stands in for it: one phase,
// undionly.kpxe, which works with the ROM's own driver, and on to the agent.
func TestSlowLegacy(t *testing.T) {
	if apart(t) {
		return
	}

	bootToAgent(t, legacy, "discover", "loader", "script", "kernel", "initrd")
}

// TestSlowARM64 boots arm64's EDK2 up to the script, and pxe test foretells it.
func TestSlowARM64(t *testing.T) {
	if apart(t) {
		return
	}

	s := newSite(t)
	m := s.newMachine(t, 1, arm64)
	seen := startBoot(t, boot.Config{})
	foretell := s.pxeTest(t, "bench", "--firmware=uefi", "--arch=arm64")

	m.boot(t)
	eventually(t, "iPXE has asked for its script", 300*time.Second, func(context.Context) error {
		return seen.stepsAre(m, boot.EventDiscover, boot.EventRequest, boot.EventLoader, boot.EventScript)
	})

	if first := seen.of(m)[slices.IndexFunc(seen.of(m), func(e boot.Event) bool { return e.Type == boot.EventLoader })]; first.File != "ipxe-arm64.efi" {
		t.Errorf("the loader was %q", first.File)
	}

	if v := foretell(); !v.loads() {
		t.Errorf("pxe test disagrees:\n%s", v)
	}
}

// TestSlowManyMachines boots seven machines at once, accepts them all and has
// them set up and switched off.
func TestSlowManyMachines(t *testing.T) {
	if apart(t) {
		return
	}

	s := newSite(t)
	for number := 1; number <= 7; number++ {
		s.newMachine(t, number, bios)
	}

	omni := s.startOmni(t)
	serve := s.startServe(t, omni)

	for _, m := range s.machines {
		m.boot(t)
	}

	for _, m := range s.machines {
		m.reachesAgent(t, serve)
	}

	for _, m := range s.machines {
		m.accept(t, omni)
	}

	for _, m := range s.machines {
		m.becomesReady(t, omni)
		m.checkReady(t, omni)
	}
}
