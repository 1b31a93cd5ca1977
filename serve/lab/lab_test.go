package lab_test

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"

	"github.com/bmctl/bmctl/cli"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/lab"
)

// asBmctl makes the test binary behave as bmctl: the lab runs it as serve.
const asBmctl = "BMCTL_TEST_AS_BMCTL"

func TestMain(m *testing.M) {
	if os.Getenv(asBmctl) != "" {
		os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
	}

	os.Setenv(asBmctl, "1") //nolint:errcheck // for the children
	os.Exit(m.Run())
}

// subnets counts the labs, which run at once.
var subnets atomic.Int32

// start runs a lab for the test, beside other tests' labs.
func start(t testing.TB, cfg lab.Config) *lab.Lab {
	t.Helper()

	if test, ok := t.(*testing.T); ok {
		test.Parallel()
	}

	return startAlone(t, cfg)
}

// startAlone runs a lab and shows serve's log if the test fails.
func startAlone(t testing.TB, cfg lab.Config) *lab.Lab {
	t.Helper()

	if cfg.Subnet == 0 {
		cfg.Subnet = int(subnets.Add(1))
	}

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	// A unix socket's path is short, and the test's own folder may not be.
	cfg.Dir, err = os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}

	cfg.Exe, cfg.Environ = cmp.Or(cfg.Exe, exe), os.Environ()
	if testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}

	t.Cleanup(func() {
		if log, err := os.ReadFile(filepath.Join(cfg.Dir, "serve.log")); err == nil && t.Failed() {
			t.Logf("the end of serve.log:\n%s", log[max(0, len(log)-64<<10):])
		}

		os.RemoveAll(cfg.Dir) //nolint:errcheck // a temporary folder
	})

	l, err := lab.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})

	return l
}

// eventually waits until ok, which says what it waits for.
func eventually(t testing.TB, l *lab.Lab, what string, ok func() bool) {
	t.Helper()
	within(t, l, 30*time.Second, what, ok)
}

// within is eventually with a bound of its own.
func within(t testing.TB, l *lab.Lab, bound time.Duration, what string, ok func() bool) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()

	for !ok() {
		select {
		case <-ctx.Done():
			for _, m := range l.Machines() {
				status, err := l.Status(m)
				if err != nil {
					t.Log(err)

					continue
				}

				t.Logf("%s: %v, acts %v, wipes %d", m.Name, status.TypedSpec().Value, kinds(m), len(m.Wipes()))
			}

			t.Fatalf("never: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func kinds(m *lab.Machine) []bmcsim.ActKind {
	var all []bmcsim.ActKind

	for _, act := range m.BMC.Acts() {
		all = append(all, act.Kind)
	}

	return all
}

func count(m *lab.Machine, kind bmcsim.ActKind) int {
	n := 0

	for _, k := range kinds(m) {
		if k == kind {
			n++
		}
	}

	return n
}

func ready(l *lab.Lab, m *lab.Machine) bool {
	status, err := l.Status(m)

	return err == nil && status.TypedSpec().Value.ReadyToUse
}

func known(l *lab.Lab, m *lab.Machine) *infra.Machine {
	r, err := l.Omni().Machine(m.UUID)
	if err != nil {
		return nil
	}

	return r
}

// TestStory is the whole life of three machines, over the real protocols.
func TestStory(t *testing.T) {
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second})
	machines := l.Machines()

	eventually(t, l, "all machines pending", func() bool {
		return !slices.ContainsFunc(machines, func(m *lab.Machine) bool { return known(l, m) == nil })
	})

	// Pending: nothing else happens. A moment suffices: serve acts within
	// milliseconds where it may.
	time.Sleep(1500 * time.Millisecond)

	for _, m := range machines {
		if got := kinds(m); len(m.Wipes()) != 0 || !slices.Equal(got, []bmcsim.ActKind{bmcsim.ActBootSet, bmcsim.ActOn}) {
			t.Errorf("%s is pending, but its BMC saw %v and it was wiped %d times", m.Name, got, len(m.Wipes()))
		}

		if err := l.Omni().Accept(m.UUID); err != nil {
			t.Fatal(err)
		}
	}

	eventually(t, l, "accepted, wiped, ready and off", func() bool {
		return !slices.ContainsFunc(machines, func(m *lab.Machine) bool {
			return !ready(l, m) || m.BMC.State() != power.StateOff
		})
	})

	for _, m := range machines {
		if len(m.Wipes()) != 1 {
			t.Errorf("%s was wiped %d times, want once", m.Name, len(m.Wipes()))
		}
	}

	m := machines[1]
	if err := l.Omni().Allocate(m.UUID, "prod", "1.13.5", nil); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "installed", func() bool {
		status, err := l.Status(m)

		return err == nil && status.TypedSpec().Value.Installed && m.Installed()
	})

	if err := l.Omni().Deallocate(m.UUID); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "wiped again, ready and off", func() bool {
		return len(m.Wipes()) == 2 && ready(l, m) && m.BMC.State() == power.StateOff
	})

	if err := l.Omni().Remove(m.UUID); err != nil {
		t.Fatal(err)
	}

	eventually(t, l, "released", func() bool { return known(l, m) == nil })

	if left, err := l.Own(m); err != nil || len(left) != 0 {
		t.Errorf("left of a removed machine: %v (%v)", left, err)
	}

	if m.BMC.State() != power.StateOff {
		t.Error("off did not stay off at the removal")
	}
}
