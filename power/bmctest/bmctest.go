// Package bmctest is the conformance suite of package power: what every driver
// promises, tried against a controller that answers on real sockets.
package bmctest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
)

// Peer is a controller with a machine that is off, and the way to talk to it.
type Peer struct {
	Opener power.Opener
	// Target has the right credentials.
	Target power.Target
}

// Conformance runs the suite. start makes a new controller for each test of it
// and leaves its end to t.Cleanup.
func Conformance(t *testing.T, start func(t *testing.T) Peer) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, p Peer)
	}{
		{"OnAndOff", onAndOff},
		{"Soft", soft},
		{"CycleAndReset", cycleAndReset},
		{"RefusedWhileOff", refusedWhileOff},
		{"BootOverride", bootOverride},
		{"Info", info},
		{"WrongPassword", wrongPassword},
		{"NothingListens", nothingListens},
		{"ManyAtOnce", manyAtOnce},
		{"CloseTwice", closeTwice},
		{"ExpiredContext", expiredContext},
		{"Abilities", abilities},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, start(t))
		})
	}
}

// callTimeout is ample for any single call to a controller on loopback.
const callTimeout = 20 * time.Second

// Open opens a conversation that ends with the test.
func Open(t *testing.T, opener power.Opener, target power.Target) power.BMC {
	t.Helper()

	bmc, err := opener.Open(t.Context(), target)
	if err != nil {
		t.Fatalf("open: %v", err)
	}

	t.Cleanup(func() {
		if err := bmc.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})

	return bmc
}

// Context is one with the time of a call.
func Context(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	t.Cleanup(cancel)

	return ctx
}

// Do carries out the actions and fails the test if one fails.
func Do(t *testing.T, bmc power.BMC, actions ...power.Action) {
	t.Helper()

	for _, action := range actions {
		if err := bmc.Do(Context(t), action); err != nil {
			t.Fatalf("%s: %v", action, err)
		}
	}
}

// WantState fails the test unless the controller reports the state.
func WantState(t *testing.T, bmc power.BMC, want power.State) {
	t.Helper()

	got, err := bmc.State(Context(t))
	if err != nil {
		t.Fatalf("state: %v", err)
	}

	if got != want {
		t.Fatalf("the machine is %s, want %s", got, want)
	}
}

// WantKind fails the test unless the error wraps the kind, no other kind, and
// names the target.
func WantKind(t *testing.T, err error, target power.Target, want error) {
	t.Helper()

	if err := CheckKind(err, target, want); err != nil {
		t.Fatal(err)
	}
}

// CheckKind is WantKind for other goroutines than the test's.
func CheckKind(err error, target power.Target, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("got %w, want %w", orNone(err), want)
	}

	for _, kind := range kinds() {
		if errors.Is(err, kind) != errors.Is(want, kind) {
			return fmt.Errorf("%w wraps more than one kind, or another than %w", err, want)
		}
	}

	if !strings.HasPrefix(err.Error(), target.Label()+": ") {
		return fmt.Errorf("%q does not begin with the target's name", err)
	}

	return nil
}

func orNone(err error) error {
	if err == nil {
		return errors.New("no error")
	}

	return err
}

func kinds() []error {
	return []error{
		power.ErrUnreachable, power.ErrAuth, power.ErrRefused, power.ErrBusy, power.ErrUnsupported, power.ErrAmbiguous,
	}
}

func onAndOff(t *testing.T, p Peer) {
	bmc := Open(t, p.Opener, p.Target)
	WantState(t, bmc, power.StateOff)
	Do(t, bmc, power.Off, power.On)
	WantState(t, bmc, power.StateOn)
	Do(t, bmc, power.On, power.Off)
	WantState(t, bmc, power.StateOff)
}

func soft(t *testing.T, p Peer) {
	bmc := Open(t, p.Opener, p.Target)
	Do(t, bmc, power.Soft, power.On, power.Soft)
	WantState(t, bmc, power.StateOff)
}

func cycleAndReset(t *testing.T, p Peer) {
	bmc := Open(t, p.Opener, p.Target)
	Do(t, bmc, power.On, power.Cycle)
	WantState(t, bmc, power.StateOn)
	Do(t, bmc, power.Reset)
	WantState(t, bmc, power.StateOn)
}

func refusedWhileOff(t *testing.T, p Peer) {
	bmc := Open(t, p.Opener, p.Target)

	for _, action := range []power.Action{power.Cycle, power.Reset, power.NMI} {
		WantKind(t, bmc.Do(Context(t), action), p.Target, power.ErrRefused)
		WantState(t, bmc, power.StateOff)
	}
}

func bootOverride(t *testing.T, p Peer) {
	bmc := Open(t, p.Opener, p.Target)

	for _, boot := range []power.Boot{
		{Device: power.DevicePXE, Mode: power.ModeUEFI},
		{Device: power.DeviceDisk, Mode: power.ModeBIOS},
		{Device: power.DeviceSetup},
		{Device: power.DevicePXE, Persistent: true},
		{},
		{},
	} {
		if err := bmc.SetBoot(Context(t), boot); err != nil {
			t.Errorf("%+v: %v", boot, err)
		}
	}
}

func info(t *testing.T, p Peer) {
	bmc := Open(t, p.Opener, p.Target)

	got, err := bmc.Info(Context(t))
	if err != nil {
		t.Fatal(err)
	}

	if got.Protocol != power.ProtocolIPMI && got.Protocol != power.ProtocolRedfish {
		t.Errorf("protocol %q", got.Protocol)
	}

	if got.Version == "" || !strings.Contains(got.AddressInUse, p.Target.Address) {
		t.Errorf("version %q, address in use %q", got.Version, got.AddressInUse)
	}
}

func wrongPassword(t *testing.T, p Peer) {
	p.Target.Password = power.NewSecret("not-the-password")
	bmc := Open(t, p.Opener, p.Target)

	since := time.Now()
	_, err := bmc.State(Context(t))
	WantKind(t, err, p.Target, power.ErrAuth)

	if strings.Contains(err.Error(), "not-the-password") {
		t.Errorf("the password stands in the error: %v", err)
	}

	if took := time.Since(since); took > callTimeout/2 {
		t.Errorf("a refused login took %s", took)
	}

	WantKind(t, bmc.Do(Context(t), power.On), p.Target, power.ErrAuth)
}

func nothingListens(t *testing.T, p Peer) {
	// The discard port: nothing of ours is there.
	p.Target.Port, p.Target.RedfishPort = 9, 9
	bmc := Open(t, p.Opener, p.Target)

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()

	_, err := bmc.State(ctx)
	WantKind(t, err, p.Target, power.ErrUnreachable)
}

func manyAtOnce(t *testing.T, p Peer) {
	bmc := Open(t, p.Opener, p.Target)
	errs := make(chan error, 32)

	var calls sync.WaitGroup
	for i := range cap(errs) {
		calls.Go(func() {
			if i%8 == 0 {
				errs <- bmc.Do(Context(t), power.On)

				return
			}

			_, err := bmc.State(Context(t))
			errs <- err
		})
	}

	calls.Wait()
	close(errs)

	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}

	WantState(t, bmc, power.StateOn)
}

func closeTwice(t *testing.T, p Peer) {
	bmc := Open(t, p.Opener, p.Target)
	WantState(t, bmc, power.StateOff)

	for range 2 {
		if err := bmc.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}

	_, err := bmc.State(Context(t))
	WantKind(t, err, p.Target, power.ErrUnreachable)

	// One that was never used has no session to end.
	if err := Open(t, p.Opener, p.Target).Close(); err != nil {
		t.Errorf("close without a call: %v", err)
	}
}

func expiredContext(t *testing.T, p Peer) {
	bmc := Open(t, p.Opener, p.Target)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, err := bmc.State(ctx)
	WantKind(t, err, p.Target, power.ErrUnreachable)

	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not tell that the call was cancelled", err)
	}

	// The conversation is none the worse for it.
	WantState(t, bmc, power.StateOff)
}

// abilities are there or ErrUnsupported, and harm nothing. Every conversation
// has the methods.
func abilities(t *testing.T, p Peer) {
	bmc := Open(t, p.Opener, p.Target)

	for name, ask := range map[string]func(ctx context.Context) error{
		"sensors": func(ctx context.Context) error {
			sensors, err := bmc.(power.Sensors).Sensors(ctx)
			for _, s := range sensors {
				if s.Name == "" || s.Kind == "" || s.Unit == "" && s.State == "" {
					t.Errorf("a sensor without name, kind, value or state: %+v", s)
				}
			}

			return err
		},
		"event log": func(ctx context.Context) error {
			entries, err := bmc.(power.EventLog).EventLog(ctx, 5)
			if len(entries) > 5 {
				t.Errorf("the last 5 entries are %d", len(entries))
			}

			return err
		},
		"inventory": func(ctx context.Context) error {
			_, err := bmc.(power.Inventory).Inventory(ctx)

			return err
		},
		"identify": func(ctx context.Context) error {
			lamp := bmc.(power.Identify)

			return errors.Join(lamp.Identify(ctx, true, 0), lamp.Identify(ctx, false, 0))
		},
		"console": func(ctx context.Context) error {
			console, err := bmc.(power.Console).Console(ctx)
			if err != nil {
				return err
			}

			return console.Close()
		},
	} {
		if err := ask(Context(t)); err != nil && !errors.Is(err, power.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}

	WantState(t, bmc, power.StateOff)
}
