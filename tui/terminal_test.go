package tui

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test binary the program itself, on a real terminal. Its
// value says what is to go wrong.
const asProgram = "BMCTL_TEST_TUI"

func TestMain(m *testing.M) {
	mode := os.Getenv(asProgram)
	if mode == "" {
		os.Exit(m.Run())
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()

	err := Run(ctx, &faulty{site: &site{snapshot: fleet(), events: bootEvents()}, mode: mode}, Options{}, os.Stdin, os.Stdout)

	var crashed *Panic
	if errors.As(err, &crashed) {
		fmt.Printf("%s\n", crashed.Stack)
	}

	fmt.Println("ended:", err)
}

// faulty is a site that panics where it is told to.
type faulty struct {
	*site
	mode string
}

// Filter panics within Update.
func (f *faulty) Filter(expr string) (func(Row) bool, error) {
	if f.mode == "panic" {
		panic("forced")
	}

	return f.site.Filter(expr)
}

// Events panics within a goroutine of its own.
func (f *faulty) Events(ctx context.Context) iter.Seq2[Event, error] {
	if f.mode == "panic-events" {
		panic("forced")
	}

	return f.site.Events(ctx)
}

// Snapshot panics within a command.
func (f *faulty) Snapshot(ctx context.Context) (Snapshot, error) {
	if f.mode == "panic-snapshot" {
		panic("forced")
	}

	return f.site.Snapshot(ctx)
}

// terminal is tmux around a shell.
type terminal struct {
	t      *testing.T
	socket string
}

// newTerminal starts one, or skips with the reason where there is no tmux, unless
// it is demanded.
func newTerminal(t *testing.T, w, h int) *terminal {
	t.Helper()

	if _, err := exec.LookPath("tmux"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("tmux is not installed, and CI is to have it")
		}

		t.Skip("tmux is not installed: what is left on a real terminal is not tested")
	}

	term := &terminal{t, filepath.Join(t.TempDir(), "tmux")}
	term.tmux("-f", "/dev/null", "-u", "new-session", "-d", "-x", itoa(w), "-y", itoa(h), "env PS1='$ ' sh")
	t.Cleanup(func() {
		if out, err := exec.Command("tmux", "-S", term.socket, "kill-server").CombinedOutput(); err != nil {
			t.Logf("end tmux: %v: %s", err, out)
		}
	})

	return term
}

func (term *terminal) tmux(args ...string) string {
	term.t.Helper()

	out, err := exec.Command("tmux", append([]string{"-S", term.socket}, args...)...).CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %v: %v: %s", args, err, out)
	}

	return string(out)
}

func (term *terminal) screen() string { return term.tmux("capture-pane", "-p") }

func (term *terminal) waitFor(text string) {
	term.t.Helper()

	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(term.screen(), text) {
		if time.Now().After(deadline) {
			term.t.Fatalf("%q never comes:\n%s", text, term.screen())
		}

		time.Sleep(20 * time.Millisecond) // the screen tells nobody when it changes
	}
}

// TestTheTerminalIsRestored ends the program in every way and looks whether the
// shell before it is back, with its cursor and its echo.
func TestTheTerminalIsRestored(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	for _, test := range []struct {
		mode, keys string
		signal     string
		ends       string
	}{
		{mode: "run", keys: "q", ends: "ended: <nil>"},
		{mode: "run", keys: "C-c", ends: "ended: <nil>"},
		{mode: "run", signal: "TERM", ends: "ended: <nil>"},
		{mode: "run", signal: "HUP", ends: "ended: <nil>"},
		{mode: "panic", keys: "/ x Enter", ends: "ended: panic: forced"},
		{mode: "panic-snapshot", ends: "ended: panic: forced"},
		{mode: "panic-events", ends: "ended: panic: forced"},
	} {
		t.Run(strings.TrimSpace(test.mode+" "+test.keys+test.signal), func(t *testing.T) {
			term := newTerminal(t, 120, 60)
			term.waitFor("$")
			term.tmux("send-keys", "-l", "echo bef''ore; "+asProgram+"="+test.mode+" "+exe+"; echo af''ter")
			term.tmux("send-keys", "Enter")

			if test.mode == "run" || test.mode == "panic" {
				term.waitFor("42 machines")
			}

			for _, key := range strings.Fields(test.keys) {
				term.tmux("send-keys", key)
			}

			if test.signal != "" {
				pid := strings.TrimSpace(term.tmux("display-message", "-p", "#{pane_pid}"))
				signalChild(t, pid, test.signal)
			}

			term.waitFor(test.ends)
			term.waitFor("after")

			screen := term.screen()
			if !strings.Contains(screen, "before") {
				t.Errorf("what stood there before is gone:\n%s", screen)
			}

			if strings.Contains(test.ends, "panic") && !strings.Contains(screen, "terminal_test.go:") {
				t.Errorf("the stack does not show where:\n%s", screen)
			}

			state := strings.TrimSpace(term.tmux("display-message", "-p", "#{cursor_flag} #{alternate_on} #{mouse_any_flag}"))
			if state != "1 0 0" {
				t.Errorf("cursor shown, alternate screen, mouse: %s, want 1 0 0", state)
			}

			term.tmux("send-keys", "-l", "echo ec''ho works")
			term.waitFor("$ echo ec''ho works")
			term.tmux("send-keys", "Enter")
			term.waitFor("\necho works")
		})
	}
}

// signalChild signals the program that the shell runs.
func signalChild(t *testing.T, shell, signal string) {
	t.Helper()

	out, err := exec.Command("sh", "-c", "kill -"+signal+" $(cat /proc/"+shell+"/task/"+shell+"/children)").CombinedOutput()
	if err != nil {
		t.Fatalf("kill -%s: %v: %s", signal, err, out)
	}
}
