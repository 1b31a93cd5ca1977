//go:build e2e

package e2e_test

import (
	"context"
	"testing"
	"time"

	"github.com/bmctl/bmctl/boot"
)

// TestFirmwareTakesTheOffer lets other ways of booting than EDK2's PXE stack get
// to our script.
func TestFirmwareTakesTheOffer(t *testing.T) {
	const discover, loader, script = boot.EventDiscover, boot.EventLoader, boot.EventScript

	for _, test := range []struct {
		name, kind string
		steps      []boot.EventType
	}{
		{"HTTP boot", uefiHTTP, []boot.EventType{discover, loader, script}},
		{"iPXE in the NIC", uefiIPXE, []boot.EventType{discover, script}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if apart(t) {
				return
			}

			s := newSite(t)
			m := s.newMachine(t, 1, test.kind)
			seen := startBoot(t, boot.Config{})

			m.boot(t)
			eventually(t, "iPXE has asked for its script", 120*time.Second, func(context.Context) error { return seen.stepsAre(m, test.steps...) })
		})
	}
}
