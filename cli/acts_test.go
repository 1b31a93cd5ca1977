package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/safe"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/lab"
	"github.com/bmctl/bmctl/serve/resources"
)

// inLab runs bmctl as the lab's operator and demands its exit code. It returns
// what was written to stdout and stderr.
func inLab(t *testing.T, l *lab.Lab, code int, args ...string) string {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), "bmctl", args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())

	for _, v := range l.Environment(os.Getenv("PATH")) {
		if v.Name != "PATH" {
			cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
		}
	}

	text, err := cmd.CombinedOutput()
	if got := exitCode(t, err); got != code {
		t.Errorf("%s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, text)
	}

	return string(text)
}

func acts(m *lab.Machine, kind bmcsim.ActKind) int {
	n := 0

	for _, act := range m.BMC.Acts() {
		if act.Kind == kind {
			n++
		}
	}

	return n
}

// TestActsReachTheMachines follows each act from the command through Omni and
// serve to the BMC of a machine.
func TestActsReachTheMachines(t *testing.T) {
	l := startLab(t)
	used, free := l.Machines()[0], l.Machines()[1]

	await(t, "both ready and off", func() bool { return offAndReady(t, l, used) && offAndReady(t, l, free) })
	report(t, l.Omni().Allocate(used.UUID, "prod", "1.13.5", nil))
	await(t, "installed", func() bool {
		status, err := l.Status(used)

		return err == nil && status.TypedSpec().Value.Installed
	})

	inLab(t, l, 0, "machines", "prefer", "on", free.Name)
	await(t, "on, as preferred", func() bool { return free.BMC.State() == power.StateOn })

	inLab(t, l, 0, "machines", "cordon", free.Name)
	inLab(t, l, 0, "machines", "prefer", "off", free.Name)
	await(t, "shown as cordoned", func() bool {
		return strings.Contains(inLab(t, l, 0, "machines", "get", free.Name), "\ncordoned       yes\n")
	})

	if free.BMC.State() != power.StateOn {
		t.Error("a cordoned machine was switched off")
	}

	inLab(t, l, 0, "machines", "uncordon", free.Name)
	await(t, "off, as preferred", func() bool { return free.BMC.State() == power.StateOff })

	before := acts(used, bmcsim.ActReset) + acts(used, bmcsim.ActCycle)

	inLab(t, l, 2, "machines", "reboot", used.Name)
	inLab(t, l, 0, "machines", "reboot", used.Name, "--yes")
	await(t, "rebooted once", func() bool { return acts(used, bmcsim.ActReset)+acts(used, bmcsim.ActCycle) == before+1 })

	inLab(t, l, 0, "machines", "power-off", used.Name, "--yes")
	await(t, "shut down", func() bool { return used.BMC.State() == power.StateOff })
	inLab(t, l, 0, "machines", "power-on", used.Name)
	await(t, "on again", func() bool { return used.BMC.State() == power.StateOn })

	if cut := acts(used, bmcsim.ActOff); cut > 1 { // once when it had been wiped
		t.Errorf("the power of a machine in a cluster was cut: %v", used.BMC.Acts())
	}

	inLab(t, l, 0, "machines", "bmc", "set", free.Name)
	await(t, "the login is proven by serve", func() bool {
		return strings.Contains(inLab(t, l, 0, "machines", "get", free.Name), "BMC access proven")
	})

	rotateWith(t, l, free)
}

// rotateWith changes the password on the BMC and gives serve the new one, which
// serve keeps once it has logged in with it.
func rotateWith(t *testing.T, l *lab.Lab, m *lab.Machine) {
	t.Helper()

	const password = "a-new-password-1"

	fresh := filepath.Join(t.TempDir(), "password")
	report(t, os.WriteFile(fresh, []byte(password+"\n"), 0o600))
	report(t, m.BMC.SetUser("admin", password))

	inLab(t, l, 4, "machines", "bmc", "test", m.Name)
	inLab(t, l, 0, "machines", "bmc", "rotate", m.Name, "--password-file", fresh)
	await(t, "serve has proven the new password and keeps it", func() bool {
		stored, err := safe.StateGet[*resources.BMCConfiguration](t.Context(), l.Omni().State(), resources.NewBMCConfiguration(provider, m.UUID).Metadata())

		return err == nil && stored.TypedSpec().Value.GetIpmi().GetPassword() == password
	})
}

// TestRemoveWithBMCAndAgentDead removes a machine of which nothing answers any
// more, and one that is off.
func TestRemoveWithBMCAndAgentDead(t *testing.T) {
	l := startLab(t)
	dead, off := l.Machines()[0], l.Machines()[1]

	await(t, "both ready and off", func() bool { return offAndReady(t, l, dead) && offAndReady(t, l, off) })
	report(t, l.Omni().Allocate(dead.UUID, "prod", "1.13.5", nil))
	await(t, "on", func() bool { return dead.BMC.State() == power.StateOn })
	report(t, dead.BMC.SetFault("silent", true))
	dead.PowerOff() // the board is gone, and what ran on it

	wipes := len(dead.Wipes())

	if text := inLab(t, l, 0, "machines", "remove", dead.Name, off.Name, "--yes", "--timeout", "45s"); !strings.Contains(text, "removed   "+dead.Name) {
		t.Errorf("remove says %q", text)
	}

	for _, m := range l.Machines() {
		if left, err := l.Own(m); err != nil || len(left) > 0 {
			t.Errorf("left of %s: %v (%v)", m.Name, left, err)
		}
	}

	if len(dead.Wipes()) != wipes || off.BMC.State() != power.StateOff {
		t.Error("a removal wiped or switched a machine")
	}

	inLab(t, l, 6, "machines", "remove", dead.Name, "--yes")
}
