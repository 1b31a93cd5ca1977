package cli_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/bmctl/bmctl/power/bmcsim"
)

// consoleOn opens the console of r1n02 and waits until it is there; the simulated
// machine gives back what is typed.
func consoleOn(t *testing.T, r *rack, flags ...string) (s *session, before any) {
	t.Helper()

	s = onTerminal(t, r.environment(), append([]string{"console", "r1n02"}, flags...)...)
	before = s.modes()
	s.expect("connected to r1n02: ~. at the start of a line or ctrl-] ends, ~? helps")

	return s, before
}

// left demands that the terminal is as it was and no session is open.
func left(t *testing.T, r *rack, s *session, before any, want int) {
	t.Helper()

	code, screen := s.end()
	if code != want {
		t.Errorf("exit code %d, want %d\n%s", code, want, screen)
	}

	if !reflect.DeepEqual(before, any(s.modes())) {
		t.Errorf("the terminal is not as it was: %+v, then %+v", before, s.modes())
	}

	if open := r.sessions(); open != 0 {
		t.Errorf("%d sessions are open", open)
	}
}

func TestConsoleIsTypedIntoAndLeft(t *testing.T) {
	r := newRack(t)
	logFile := filepath.Join(t.TempDir(), "console.log")

	s, before := consoleOn(t, r, "--log", logFile)

	r.sims["r1n02"].Print([]byte("Talos ready\r\n"))
	s.expect("Talos ready")
	s.typeText("uptime\r")
	s.expect("uptime")
	s.typeText("a~.b\x03\r")
	s.expect("a~.b\x03")
	s.typeText("~?")
	s.expect("~. or ctrl-] ends, ~~ types ~, ~? says this")
	s.typeText("~.")
	s.expect("console of r1n02 closed")
	left(t, r, s, before, 0)

	data, err := os.ReadFile(logFile)
	if err != nil || !strings.Contains(string(data), "Talos ready\r\nuptime") {
		t.Errorf("the log has %q, %v", data, err)
	}

	if info, err := os.Stat(logFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log may be read by others: %v, %v", info.Mode(), err)
	}
}

func TestConsoleEndsCleanlyOnEveryWayOut(t *testing.T) {
	for name, test := range map[string]struct {
		flags []string
		leave func(r *rack, s *session)
		code  int
	}{
		"ctrl-]":                {nil, func(_ *rack, s *session) { s.typeText("ls \x1d") }, 0},
		"looking on, ctrl-C":    {[]string{"--read-only"}, func(_ *rack, s *session) { s.typeText("\x03") }, 0},
		"SIGTERM":               {nil, func(_ *rack, s *session) { signalled(s, syscall.SIGTERM) }, 130},
		"SIGINT from elsewhere": {nil, func(_ *rack, s *session) { signalled(s, syscall.SIGINT) }, 130},
		"SIGHUP":                {nil, func(_ *rack, s *session) { signalled(s, syscall.SIGHUP) }, 130},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRack(t)
			s, before := consoleOn(t, r, test.flags...)
			test.leave(r, s)
			left(t, r, s, before, test.code)
		})
	}
}

func signalled(s *session, signal syscall.Signal) {
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

func TestConsoleSaysWhenTheControllerHasEndedIt(t *testing.T) {
	r := newRack(t)
	s, before := consoleOn(t, r)

	r.sims["r1n02"].DropSessions()
	s.typeText("x")
	s.expect("bmctl: error: r1n02: ")
	s.expect("has ended the console")
	left(t, r, s, before, 1)
}

func TestConsoleSaysWhenTheControllerIsGone(t *testing.T) {
	r := newRack(t)
	s, before := consoleOn(t, r)

	if err := r.sims["r1n02"].SetFault(bmcsim.FaultSilent, true); err != nil {
		t.Fatal(err)
	}

	s.typeText("x")
	s.expect("bmctl: error: r1n02: ")
	r.sims["r1n02"].DropSessions() // it was never told of the end
	left(t, r, s, before, 5)
}

func TestReadOnlyConsoleSendsNothing(t *testing.T) {
	r := newRack(t)
	s, before := consoleOn(t, r, "--read-only")

	s.typeText("reboot\r~?")
	s.expect("~? says this") // so the keys before were seen
	r.sims["r1n02"].Print([]byte("still here\r\n"))
	s.expect("still here")
	s.typeText("\r~.")
	left(t, r, s, before, 0)

	if strings.Contains(s.shown, "reboot") {
		t.Errorf("what was typed reached the machine or the screen:\n%s", s.shown)
	}
}
