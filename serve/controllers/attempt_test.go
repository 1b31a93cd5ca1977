package controllers_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/controllers"
)

// Two NICs that boot one machine beside each other make up one boot, and so do
// those that iPXE tries one after the other; one that begins anew is another boot.
func TestAttempts(t *testing.T) {
	const one, two = "02:00:00:00:00:01", "02:00:00:00:00:02"

	w := newWorld(t, 1)
	machine := w.ids[0]

	ctrl, err := controllers.New(controllers.Config{
		ProviderID: provider, State: state.WrapCore(namespaced.NewState(inmem.Build)), Power: w, Agents: w, Assets: w, StateDir: w.dir, MaxStaleness: time.Hour, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}

	at := time.Now()

	if id, number := ctrl.SawBoot(boot.Event{Type: boot.EventDiscover, Time: at, MAC: one, UUID: machine, Firmware: "UEFI"}); id != "" || number != 0 {
		t.Errorf("before it asked for its script: %q, boot %d", id, number)
	}

	if _, err := ctrl.Decide(t.Context(), boot.Machine{UUID: machine, MAC: one, Arch: "amd64"}); err != nil {
		t.Fatal(err)
	}

	for n, c := range []struct {
		step     boot.EventType
		mac      string
		firmware string
		after    time.Duration
		want     int
	}{
		{boot.EventScript, one, "", 0, 1},
		{boot.EventDiscover, two, "UEFI", time.Second, 1},
		{boot.EventRequest, two, "UEFI", time.Second, 1},
		{boot.EventScript, two, "", time.Second, 1},
		{boot.EventDiscover, two, "iPXE", time.Second, 1},
		{boot.EventScript, one, "", time.Minute, 1}, // told to wait, it asks again
		{boot.EventIgnored, one, "UEFI", time.Second, 0},
		{boot.EventDiscover, one, "UEFI", time.Minute, 2},
		{boot.EventDiscover, one, "UEFI", time.Second, 2}, // a repetition
		{boot.EventDiscover, two, "UEFI", time.Second, 2},
		{boot.EventScript, two, "", time.Second, 2},
		{boot.EventDiscover, one, "UEFI", time.Hour, 3},
		{boot.EventKernel, "", "", time.Second, 3}, // of a NIC that did not say who it is
		{boot.EventDiscover, "", "UEFI", time.Second, 3},
	} {
		at = at.Add(c.after)

		id, number := ctrl.SawBoot(boot.Event{Type: c.step, Time: at, MAC: c.mac, UUID: machine, Firmware: c.firmware})
		if id != machine || number != c.want {
			t.Errorf("step %d, %s by %s: %q, boot %d; want %d", n, c.step, c.mac, id, number, c.want)
		}
	}
}
