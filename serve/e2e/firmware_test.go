//go:build e2e

package e2e_test

import (
	"testing"
)

// TestFirmwareReachesAgent lets other firmware than the story's, which is EDK2's
// PXE stack, boot through a real serve until the machine's agent has joined.
func TestFirmwareReachesAgent(t *testing.T) {
	for _, test := range []struct {
		name, kind string
		steps      []string
	}{
		{"OVMF's HTTP Boot", uefiHTTP, []string{"discover", "loader", "script", "kernel", "initrd"}},
		{"OVMF with iPXE in the NIC", uefiIPXE, []string{"discover", "script", "kernel", "initrd"}},
		{"SeaBIOS with iPXE in the NIC", bios, []string{"discover", "script", "kernel", "initrd"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if apart(t) {
				return
			}

			bootToAgent(t, test.kind, test.steps...)
		})
	}
}

func bootToAgent(t *testing.T, kind string, steps ...string) {
	t.Helper()

	s := newSite(t)
	m := s.newMachine(t, 1, kind)
	serve := s.startServe(t, s.startOmni(t))

	m.boot(t)
	m.reachesAgent(t, serve)
	checkSteps(t, serve, steps...)
}
