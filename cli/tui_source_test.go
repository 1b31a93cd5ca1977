package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/serve/lab"
	"github.com/bmctl/bmctl/tui"
)

// labSource is the view's source in a running lab, whose inventory may be changed
// before.
func labSource(t *testing.T, kind string, change func(map[string]config.Host)) (*lab.Lab, *tuiSource) {
	t.Helper()
	t.Setenv("BMCTL_TEST_AS_BMCTL", "1") // the lab's serve is this test's binary

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	dir, err := os.MkdirTemp("", "view") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}

	l, err := lab.Start(t.Context(), lab.Config{Dir: filepath.Join(dir, "lab"), Exe: exe, Environ: os.Environ(), Seed: 1})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}

		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})

	var env []string
	for _, v := range l.Environment(os.Getenv("PATH")) {
		env = append(env, v.Name+"="+v.Value)
	}

	a, err := newApp(strings.NewReader(""), io.Discard, io.Discard, os.Environ()).within(env)
	if err != nil {
		t.Fatal(err)
	}

	if change != nil {
		change(a.file.Hosts)
	}

	root := newApp(nil, nil, nil, nil).root() // of its own: making it sets the flags' defaults

	source, err := a.newSource(t.Context(), root, kind)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(source.close)

	return l, source
}

// until takes snapshots until one is as wanted.
func until(t *testing.T, s *tuiSource, what string, wanted func(tui.Snapshot) bool) tui.Snapshot {
	t.Helper()

	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		snapshot, err := s.Snapshot(t.Context())
		if err == nil && wanted(snapshot) {
			return snapshot
		}

		if time.Now().After(deadline) {
			t.Fatalf("never: %s; the last is %+v, %v", what, snapshot, err)
		}
	}
}

func rowOf(snapshot tui.Snapshot, name string) tui.Row {
	i := slices.IndexFunc(snapshot.Rows, func(r tui.Row) bool { return r.Name == name })
	if i < 0 {
		return tui.Row{}
	}

	return snapshot.Rows[i]
}

func TestTheViewOfALab(t *testing.T) {
	l, s := labSource(t, sourceAuto, nil)

	snapshot := until(t, s, "three machines wait, and their power is read from the inventory", func(snapshot tui.Snapshot) bool {
		return len(snapshot.Rows) == 3 && !slices.ContainsFunc(snapshot.Rows, func(r tui.Row) bool { return r.Status != "pending" || r.Power != "on" })
	})

	var ids []string
	for _, r := range snapshot.Rows {
		ids = append(ids, r.ID)
	}

	for verb, want := range map[tui.Verb]string{
		tui.PowerCycle: "bmctl power cycle r1n[01-03]", tui.BootPXE: "bmctl power boot r1n[01-03] --boot pxe",
		tui.Cordon: "bmctl machines cordon r1n[01-03]", tui.Reject: "bmctl reject r1n[01-03]",
	} {
		if got := s.Equivalent(verb, ids...); got != want {
			t.Errorf("%s is %q, want %q", verb, got, want)
		}
	}

	for verb, name := range map[tui.Verb]string{tui.BootPXE: "r1n02", tui.PowerReset: "r1n03", tui.Reject: "r1n02", tui.Accept: "r1n01"} {
		for result := range s.Do(t.Context(), verb, rowOf(snapshot, name).ID) {
			if result.Err != nil || result.Text == "" {
				t.Errorf("%s of %s: %q, %v", verb, name, result.Text, result.Err)
			}
		}
	}

	until(t, s, "r1n01 becomes ready and is switched off, r1n02 rejected", func(snapshot tui.Snapshot) bool {
		return rowOf(snapshot, "r1n01").Status == "ready" && rowOf(snapshot, "r1n01").Power == "off" && rowOf(snapshot, "r1n02").Status == "rejected"
	})

	withoutServe(t, l, s)
}

// withoutServe looks at the inventory while there is no serve, and at serve again
// when it is back.
func withoutServe(t *testing.T, l *lab.Lab, s *tuiSource) {
	t.Helper()

	ctx, cancel := context.WithCancel(t.Context())
	kinds := make(chan string, 1000)

	go func() {
		defer close(kinds)

		for event, err := range s.Events(ctx) {
			if err != nil {
				t.Errorf("the events end: %v", err)
			}

			select {
			case kinds <- event.Type:
			default:
			}
		}
	}()

	if err := l.StopServe(); err != nil {
		t.Fatal(err)
	}

	snapshot := until(t, s, "the inventory alone, with its power", func(snapshot tui.Snapshot) bool {
		return snapshot.Health.Source == sourceInventory && rowOf(snapshot, "r1n03").Power == "on" && rowOf(snapshot, "r1n01").Power == "off"
	})

	if !strings.Contains(snapshot.Health.Notice, "bmctl serve") || snapshot.Cannot[tui.Accept] == "" {
		t.Errorf("the notice is %q, accept is refused with %q", snapshot.Health.Notice, snapshot.Cannot[tui.Accept])
	}

	for result := range s.Do(t.Context(), tui.PowerOff, rowOf(snapshot, "r1n03").ID, "nobody") {
		if (result.Err != nil) != (result.ID == "nobody") {
			t.Errorf("power off of %s: %q, %v", result.ID, result.Text, result.Err)
		}
	}

	for kind := range kinds {
		if kind == "reading" {
			break
		}
	}

	if err := l.StartServe(t.Context()); err != nil {
		t.Fatal(err)
	}

	until(t, s, "serve is back", func(snapshot tui.Snapshot) bool {
		return snapshot.Health.Source == sourceServe && len(snapshot.Rows) == 3
	})

	for kind := range kinds {
		if kind != "reading" {
			break
		}
	}

	cancel()

	for range kinds { //nolint:revive // until it has ended
	}
}

func TestRunGivesTheOutputOfTheCommand(t *testing.T) {
	_, s := labSource(t, sourceServe, nil)

	until(t, s, "three machines", func(snapshot tui.Snapshot) bool { return len(snapshot.Rows) == 3 })

	run := func(line string) (text string, failed bool) {
		for result := range s.Run(t.Context(), line) {
			text += result.Text + "\n"
			failed = failed || result.Err != nil
		}

		return text, failed
	}

	if text, failed := run("machines -o name"); failed || text != "r1n01\nr1n02\nr1n03\n" {
		t.Errorf("%q, failed: %v", text, failed)
	}

	if text, failed := run("accept r1n01"); !failed || !strings.Contains(text, "--expect 1") {
		t.Errorf("an accept that nobody confirms: %q, failed: %v", text, failed)
	}

	for _, line := range []string{"tui", "serve", "lab", "console r1n01", "machines 'x"} {
		if _, failed := run(line); !failed {
			t.Errorf("%s is run", line)
		}
	}
}

func TestWithoutAnOperatorNothingIsAccepted(t *testing.T) {
	s := &tuiSource{a: newApp(nil, nil, nil, nil)}
	if why := s.cannot()[tui.Accept]; !strings.Contains(why, "OMNI_SERVICE_ACCOUNT_KEY") {
		t.Errorf("accept: %q", why)
	}
}

// TestPowerThroughServe switches machines whose BMCs serve alone can speak to: one
// after the other, for the current that they draw when they start.
func TestPowerThroughServe(t *testing.T) {
	_, s := labSource(t, sourceServe, func(hosts map[string]config.Host) {
		delete(hosts, "r1n01")
		delete(hosts, "r1n02")
	})

	snapshot := until(t, s, "three machines wait", func(snapshot tui.Snapshot) bool {
		return len(snapshot.Rows) == 3 && !slices.ContainsFunc(snapshot.Rows, func(r tui.Row) bool { return r.Status != "pending" })
	})
	outside := func(r tui.Row) bool { return r.Cannot[tui.Console] == "its BMC is not in the inventory" }

	for _, row := range snapshot.Rows {
		if why := row.Cannot[tui.PowerOn]; outside(row) != strings.Contains(why, "once it is accepted") {
			t.Errorf("power on of %s, which waits to be accepted: %q", row.Name, why)
		}
	}

	rows := slices.DeleteFunc(snapshot.Rows, func(r tui.Row) bool { return !outside(r) })
	for result := range s.Do(t.Context(), tui.Accept, rows[0].ID, rows[1].ID) {
		if result.Err != nil {
			t.Fatal(result.Err)
		}
	}

	snapshot = until(t, s, "both are ready and off", func(snapshot tui.Snapshot) bool {
		return !slices.ContainsFunc(snapshot.Rows, func(r tui.Row) bool { return outside(r) && (r.Status != "ready" || r.Power != "off") })
	})
	if why := snapshot.Rows[slices.IndexFunc(snapshot.Rows, outside)].Cannot[tui.PowerOn]; why != "" {
		t.Errorf("power on of a ready machine: %q", why)
	}

	begun := time.Now()

	for result := range s.Do(t.Context(), tui.PowerOn, rows[0].ID, rows[1].ID, "nobody") {
		if failed := result.Err != nil; failed != (result.ID == "nobody") || !failed && !strings.HasPrefix(result.Text, "power on: on after") {
			t.Errorf("power on of %s: %q, %v", result.ID, result.Text, result.Err)
		}
	}

	if took := time.Since(begun); took < 500*time.Millisecond {
		t.Errorf("two machines were started within %v, without a pause", took)
	}
}

// TestAConsoleThatIsNotThere is learnt from the BMC, where the inventory does not
// say how it is spoken to.
func TestAConsoleThatIsNotThere(t *testing.T) {
	_, s := labSource(t, sourceServe, func(hosts map[string]config.Host) {
		host := hosts["r1n01"] // the program that asks reads the file, where it is redfish
		host.Protocol = ""
		hosts["r1n01"] = host
		host = hosts["r1n03"]
		host.Protocol = "redfish"
		hosts["r1n03"] = host
	})

	snapshot := until(t, s, "three machines", func(snapshot tui.Snapshot) bool { return len(snapshot.Rows) == 3 })

	for name, want := range map[string]string{"r1n01": "", "r1n02": "", "r1n03": "its BMC is spoken to in redfish, and a serial console is ipmi's"} {
		if why := rowOf(snapshot, name).Cannot[tui.Console]; why != want {
			t.Errorf("console of %s: %q, want %q", name, why, want)
		}
	}

	cmd := s.Console(rowOf(snapshot, "r1n01").ID)
	if err := cmd.Run(); err == nil || !strings.Contains(cmd.Stderr.(*heard).String(), "no serial-over-LAN on r1n01") {
		t.Fatalf("the console of a BMC without one: %v, %v", err, cmd.Stderr)
	}

	snapshot = until(t, s, "three machines", func(snapshot tui.Snapshot) bool { return len(snapshot.Rows) == 3 })
	if why := rowOf(snapshot, "r1n01").Cannot[tui.Console]; !strings.Contains(why, "no serial over LAN") {
		t.Errorf("after it was refused, the console of r1n01: %q", why)
	}
}

// TestOmniGoesAwayAndComesBack keeps what is known and the power, and tells when
// Omni is asked again.
func TestOmniGoesAwayAndComesBack(t *testing.T) {
	l, s := labSource(t, sourceServe, nil)

	until(t, s, "three machines, their power read", func(snapshot tui.Snapshot) bool {
		return len(snapshot.Rows) == 3 && !slices.ContainsFunc(snapshot.Rows, func(r tui.Row) bool { return r.Power != "on" })
	})

	if err := l.StopOmni(); err != nil {
		t.Fatal(err)
	}

	snapshot := until(t, s, "Omni is away, and is asked again soon", func(snapshot tui.Snapshot) bool {
		return snapshot.Health.OmniDown && snapshot.Health.OmniRetry.After(time.Now())
	})
	if len(snapshot.Rows) != 3 || !strings.HasPrefix(snapshot.Health.Notice, "omni: ") || snapshot.Health.OmniSince.IsZero() {
		t.Errorf("without Omni: %d machines, notice %q, since %v", len(snapshot.Rows), snapshot.Health.Notice, snapshot.Health.OmniSince)
	}

	for result := range s.Do(t.Context(), tui.PowerReset, rowOf(snapshot, "r1n02").ID) {
		if result.Err != nil || !strings.HasPrefix(result.Text, "power reset: on again") {
			t.Errorf("a reset without Omni: %q, %v", result.Text, result.Err)
		}
	}

	if err := l.StartOmni(); err != nil {
		t.Fatal(err)
	}

	until(t, s, "Omni is back", func(snapshot tui.Snapshot) bool {
		return !snapshot.Health.OmniDown && snapshot.Health.OmniRetry.IsZero() && len(snapshot.Rows) == 3
	})
}
