package lab_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/siderolabs/omni/client/api/omni/specs"

	"github.com/bmctl/bmctl/serve/lab"
)

func cordon(t *testing.T, l *lab.Lab, m *lab.Machine, yes bool) {
	t.Helper()

	if err := l.Omni().Configure(m.UUID, func(s *specs.InfraMachineConfigSpec) { s.Cordoned = yes }); err != nil {
		t.Fatal(err)
	}
}

// restartOmni stops Omni, does something while it is not there, and starts it.
func restartOmni(t *testing.T, l *lab.Lab, meanwhile func() error) {
	t.Helper()

	if err := l.StopOmni(); err != nil {
		t.Fatal(err)
	}

	if err := meanwhile(); err != nil {
		t.Fatal(err)
	}

	if err := l.StartOmni(); err != nil {
		t.Fatal(err)
	}
}

// TestRestoredOmni: an Omni that is restored from a backup tells older versions
// than serve knew. They hold: serve sees what Omni says, and goes on from there.
func TestRestoredOmni(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second, Machines: 2})
	m := l.Machines()[1]
	backup := t.TempDir()

	acceptAll(t, l)
	settled(t, l, m)

	restartOmni(t, l, func() error { return os.CopyFS(backup, os.DirFS(l.OmniDir())) })

	for range 3 {
		cordon(t, l, m, false)
		cordon(t, l, m, true)
	}

	within(t, l, time.Minute, "cordoned", func() bool { return view(t, l, m).Cordoned })

	restartOmni(t, l, func() error {
		data, err := os.ReadFile(filepath.Join(backup, "omni.db"))
		if err != nil {
			return err
		}

		return os.WriteFile(filepath.Join(l.OmniDir(), "omni.db"), data, 0o600)
	})

	within(t, l, time.Minute, "as in the backup", func() bool { return !view(t, l, m).Cordoned && view(t, l, m).Accepted })

	if err := l.Omni().Allocate(m.UUID, "prod", "1.13.5", nil); err != nil {
		t.Fatal(err)
	}

	within(t, l, time.Minute, "installed", m.Installed)

	if len(m.Wipes()) != 1 {
		t.Errorf("wiped %d times, want once", len(m.Wipes()))
	}
}
