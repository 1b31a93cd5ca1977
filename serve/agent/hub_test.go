package agent_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bmctl/bmctl/serve/agent"
)

func TestConnectAndDisconnect(t *testing.T) {
	s := newSite(t, agent.Config{})
	before := time.Now()

	if s.Connected(machine) {
		t.Error("connected before any agent dialled")
	}

	h := s.dial(t, "127.0.0.2", &fakeAgent{}, strings.ToUpper(machine))
	s.await(t, "connected", func() bool { return s.Connected(machine) })

	if !s.Connected(strings.ToUpper(machine)) {
		t.Error("the id in upper case is not found")
	}

	tunnels := s.Tunnels(machine)
	if len(tunnels) != 1 || !tunnels[0].Answers || tunnels[0].Addr.Addr() != netip.MustParseAddr("127.0.0.2") {
		t.Errorf("tunnels are %+v, want one from 127.0.0.2 that answers", tunnels)
	}

	if since := tunnels[0].Since; since.Before(before) || since.After(time.Now()) {
		t.Errorf("tunnel is open since %s, want a time after %s", since, before)
	}

	h.stop()
	s.await(t, "disconnected", func() bool { return !s.Connected(machine) && len(s.Tunnels(machine)) == 0 })

	if n := s.Known(); n != 0 {
		t.Errorf("%d machines are remembered after their last tunnel, want none", n)
	}
}

// TestDrop: what was opened before the power was cut is gone at once, what came
// after it stays.
func TestDrop(t *testing.T) {
	s := newSite(t, agent.Config{})
	s.dial(t, "127.0.0.2", &fakeAgent{}, machine)
	s.await(t, "connected", func() bool { return s.Connected(machine) })

	s.Drop(machine, time.Now().Add(-time.Hour))

	if !s.Connected(machine) {
		t.Error("a tunnel that is younger than the cut was dropped")
	}

	s.Drop(machine, time.Now())
	s.await(t, "gone", func() bool { return len(s.Tunnels(machine)) == 0 })
}

func TestRefusedTunnels(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ids    []string
		code   codes.Code
		reason string
	}{
		{"no id", nil, codes.InvalidArgument, "0 values"},
		{"two ids", []string{machine, machine}, codes.InvalidArgument, "2 values"},
		{"empty", []string{""}, codes.InvalidArgument, "want a UUID"},
		{"not a UUID", []string{"r1n07"}, codes.InvalidArgument, `is "r1n07", want a UUID`},
		{"braces", []string{"{" + machine + "}"}, codes.InvalidArgument, "want a UUID"},
		{"without dashes", []string{strings.ReplaceAll(machine, "-", "")}, codes.InvalidArgument, "want a UUID"},
		{"not admitted", []string{"00000000-0000-4000-8000-000000000000"}, codes.PermissionDenied, "booted from elsewhere"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t, agent.Config{Admit: func(id string, addr netip.Addr) error {
				if id != machine && addr == netip.MustParseAddr("127.0.0.1") {
					return errors.New("booted from elsewhere")
				}

				return nil
			}})
			h := s.dial(t, "127.0.0.1", &fakeAgent{}, tc.ids...)

			select {
			case err := <-h.ended:
				if status.Code(err) != tc.code || !strings.Contains(err.Error(), tc.reason) {
					t.Errorf("the agent got %v, want %s with %q", err, tc.code, tc.reason)
				}
			case <-time.After(patience):
				t.Fatal("the tunnel was not refused")
			}

			if event := <-s.refused; !strings.Contains(event, tc.reason) || !strings.Contains(event, "127.0.0.1: ") {
				t.Errorf("event is %q, want the address and %q", event, tc.reason)
			}

			if s.Connected(machine) {
				t.Error("a refused tunnel counts as connected")
			}
		})
	}
}

func TestTooManyTunnels(t *testing.T) {
	s := newSite(t, agent.Config{})
	for range 8 {
		s.connect(t, "127.0.0.1", &fakeAgent{})
	}

	h := s.dial(t, "127.0.0.1", &fakeAgent{}, machine)
	if err := <-h.ended; status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the ninth tunnel got %v, want ResourceExhausted", err)
	}

	if n := len(s.Tunnels(machine)); n != 8 {
		t.Errorf("%d tunnels are open, want 8", n)
	}
}

// A machine that was reset without a word leaves a tunnel on which nobody
// answers; its next boot has the same address or, by another lease, a new one.
func TestTunnelOfLastBootIsForgotten(t *testing.T) {
	for _, from := range []string{"127.0.0.2", "127.0.0.3"} {
		t.Run("old 127.0.0.2 new "+from, func(t *testing.T) {
			s := newSite(t, agent.Config{HelloTimeout: 300 * time.Millisecond, HelloInterval: time.Hour})

			last, next := &fakeAgent{}, &fakeAgent{}
			lastHost := s.connect(t, "127.0.0.2", last)
			last.silent.Store(true)
			s.connect(t, from, next)

			s.await(t, "the old tunnel is closed", func() bool {
				if older, newer, found := s.Conflict(machine); found {
					t.Errorf("conflict between %s and %s, want none with a dead tunnel", older, newer)
				}

				return len(s.Tunnels(machine)) == 1
			})

			select {
			case <-lastHost.ended:
			case <-time.After(patience):
				t.Error("the old tunnel is forgotten but not closed")
			}

			if err := s.Wipe(t.Context(), machine, false); err != nil || next.wipes.Load() != 1 || last.wipes.Load() != 0 {
				t.Errorf("wipe: %v; %d of the new boot, %d of the last, want 1 and 0", err, next.wipes.Load(), last.wipes.Load())
			}
		})
	}
}

func TestTwoLiveAgentsAreAConflict(t *testing.T) {
	s := newSite(t, agent.Config{HelloInterval: time.Hour})
	first, second := &fakeAgent{}, &fakeAgent{}

	s.connect(t, "127.0.0.2", first)
	h := s.connect(t, "127.0.0.3", second)

	s.await(t, "conflict", func() bool {
		older, newer, found := s.Conflict(machine)

		return found && older == netip.MustParseAddr("127.0.0.2") && newer == netip.MustParseAddr("127.0.0.3")
	})

	calls := map[string]func() error{
		"wipe":      func() error { return s.Wipe(t.Context(), machine, false) },
		"reboot":    func() error { return s.Reboot(t.Context(), machine) },
		"set power": func() error { return s.SetPowerManagement(t.Context(), machine, agent.Username, secret) },
		"get power": func() error { _, _, _, err := s.PowerManagement(t.Context(), machine); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, agent.ErrConflict) || !strings.Contains(err.Error(), "127.0.0.2 and 127.0.0.3") {
			t.Errorf("%s: %v, want ErrConflict with both addresses", name, err)
		}
	}

	h.stop()
	s.await(t, "the conflict is over", func() bool { _, _, found := s.Conflict(machine); return !found })

	if err := s.Wipe(t.Context(), machine, false); err != nil {
		t.Errorf("wipe after one host has gone: %v", err)
	}

	if first.wipes.Load() != 1 || second.wipes.Load() != 0 {
		t.Errorf("%d and %d wipes, want 1 and 0", first.wipes.Load(), second.wipes.Load())
	}
}

// The call itself finds the second host out, even where the first Hello on the
// new tunnel is still on its way.
func TestNoCallBetweenConnectAndFirstAnswer(t *testing.T) {
	s := newSite(t, agent.Config{HelloInterval: time.Hour})
	first, second := &fakeAgent{}, &fakeAgent{}

	s.connect(t, "127.0.0.2", first)
	s.dial(t, "127.0.0.3", second, machine)
	s.await(t, "the second tunnel is open", func() bool { return len(s.Tunnels(machine)) == 2 })

	if err := s.Wipe(t.Context(), machine, false); !errors.Is(err, agent.ErrConflict) {
		t.Errorf("wipe: %v, want ErrConflict", err)
	}

	if n := first.wipes.Load() + second.wipes.Load(); n != 0 {
		t.Errorf("%d wipes, want none", n)
	}
}

// Once two hosts were seen alive together, one late answer does not end the
// conflict; three in a row do.
func TestConflictOutlastsOneLateAnswer(t *testing.T) {
	s := newSite(t, agent.Config{HelloTimeout: 200 * time.Millisecond, HelloInterval: time.Hour})
	first, second := &fakeAgent{}, &fakeAgent{}

	s.connect(t, "127.0.0.2", first)
	s.connect(t, "127.0.0.3", second)
	s.await(t, "conflict", func() bool { _, _, found := s.Conflict(machine); return found })
	first.silent.Store(true)

	for attempt := range 2 {
		if err := s.Reboot(t.Context(), machine); !errors.Is(err, agent.ErrConflict) {
			t.Fatalf("reboot after %d missed Hellos: %v, want ErrConflict", attempt+1, err)
		}
	}

	// The third miss closes the tunnel; the call that finds out is still refused
	// or already served, depending on which comes first.
	if err := s.Reboot(t.Context(), machine); err != nil && !errors.Is(err, agent.ErrConflict) {
		t.Errorf("reboot: %v", err)
	}

	s.await(t, "the silent tunnel is closed", func() bool { return len(s.Tunnels(machine)) == 1 })
}

func TestTwoTunnelsFromOneAddressUseTheNewer(t *testing.T) {
	s := newSite(t, agent.Config{})
	first, second := &fakeAgent{}, &fakeAgent{}

	s.connect(t, "127.0.0.2", first)
	s.connect(t, "127.0.0.2", second)

	if err := s.Wipe(t.Context(), machine, false); err != nil {
		t.Fatal(err)
	}

	if _, _, found := s.Conflict(machine); found || first.wipes.Load() != 0 || second.wipes.Load() != 1 {
		t.Errorf("conflict %t, %d and %d wipes, want none, 0 and 1", found, first.wipes.Load(), second.wipes.Load())
	}
}

func TestHungAgentIsForgotten(t *testing.T) {
	s := newSite(t, agent.Config{HelloInterval: 20 * time.Millisecond, HelloTimeout: 10 * time.Millisecond})
	hung := &fakeAgent{}
	s.connect(t, "127.0.0.2", hung)
	hung.silent.Store(true)

	s.await(t, "the hung agent is forgotten", func() bool { return !s.Connected(machine) })

	if n := len(s.Tunnels(machine)); n != 0 {
		t.Errorf("%d tunnels are left", n)
	}
}

// An agent that dials but never answers is not connected, and closing comes
// after three misses.
func TestAgentThatNeverAnswers(t *testing.T) {
	s := newSite(t, agent.Config{HelloInterval: 20 * time.Millisecond, HelloTimeout: 10 * time.Millisecond})
	mute := &fakeAgent{}
	mute.silent.Store(true)
	h := s.dial(t, "127.0.0.2", mute, machine)

	select {
	case <-h.ended:
	case <-time.After(patience):
		t.Fatal("the tunnel was never closed")
	}

	if n := mute.hellos.Load(); n < 2 || n > 3 { // the third may be cut off before it arrives
		t.Errorf("it was asked %d times, want 3", n)
	}

	if s.Connected(machine) {
		t.Error("an agent that never answered counts as connected")
	}
}

func TestCloseRefusesNewTunnels(t *testing.T) {
	s := newSite(t, agent.Config{})
	h := s.connect(t, "127.0.0.2", &fakeAgent{})

	s.Close()
	s.Close()

	select {
	case <-h.ended:
	case <-time.After(patience):
		t.Fatal("Close left the tunnel open")
	}

	again := s.dial(t, "127.0.0.2", &fakeAgent{}, machine)
	if err := <-again.ended; status.Code(err) != codes.Unavailable {
		t.Errorf("a tunnel after Close got %v, want Unavailable", err)
	}
}

func TestTunnelsAreSortedByAge(t *testing.T) {
	s := newSite(t, agent.Config{})
	for range 3 {
		s.connect(t, "127.0.0.2", &fakeAgent{})
	}

	tunnels := s.Tunnels(machine)
	if !slices.IsSortedFunc(tunnels, func(a, b agent.Tunnel) int { return a.Since.Compare(b.Since) }) || len(tunnels) != 3 {
		t.Errorf("tunnels are not the three, oldest first: %+v", tunnels)
	}
}
