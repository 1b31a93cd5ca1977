package cli_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// session is bmctl on a terminal of its own, and the person in front of it.
type session struct {
	t        *testing.T
	cmd      *exec.Cmd
	keyboard *os.File // the terminal's other end
	tty      *os.File

	mu     sync.Mutex
	shown  string
	read   int // how much of it the test has looked at
	closed bool
}

// onTerminal starts bmctl with a pseudo-terminal as all three streams and as its
// controlling terminal.
func onTerminal(t *testing.T, env []string, args ...string) *session {
	t.Helper()

	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}

	unlock := 0
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, unlock); err != nil {
		t.Fatal(err)
	}

	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}

	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}

	cmd := exec.CommandContext(t.Context(), "bmctl", args...)
	cmd.Env = append(append(os.Environ(), "TERM=dumb"), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	s := &session{t: t, cmd: cmd, keyboard: keyboard, tty: tty}

	go s.watch()
	t.Cleanup(func() {
		_ = tty.Close()
		_ = keyboard.Close()
	})

	return s
}

func (s *session) watch() {
	buffer := make([]byte, 4096)

	for {
		n, err := s.keyboard.Read(buffer)

		s.mu.Lock()
		s.shown += string(buffer[:n])
		s.closed = err != nil
		s.mu.Unlock()

		if err != nil {
			return
		}
	}
}

// expect waits until the screen shows the text, after what was expected before.
func (s *session) expect(text string) {
	s.t.Helper()

	for deadline := time.Now().Add(rackPatience); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		at := strings.Index(s.shown[s.read:], text)
		if at >= 0 {
			s.read += at + len(text)
		}

		shown, closed := s.shown, s.closed
		s.mu.Unlock()

		if at >= 0 {
			return
		}

		if closed || time.Now().After(deadline) {
			s.t.Fatalf("the screen never shows %q:\n%s", text, shown)
		}
	}
}

func (s *session) typeText(text string) {
	s.t.Helper()

	if _, err := io.WriteString(s.keyboard, text); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the program and returns its exit code and the whole screen.
func (s *session) end() (int, string) {
	s.t.Helper()

	code := exitCode(s.t, s.cmd.Wait())

	// What it wrote last may still be on its way through the terminal.
	const mark = "-- the end --"

	if _, err := io.WriteString(s.tty, mark); err != nil {
		s.t.Fatal(err)
	}

	s.expect(mark)

	s.mu.Lock()
	defer s.mu.Unlock()

	return code, s.shown
}

// modes are the terminal's settings.
func (s *session) modes() *term.State {
	s.t.Helper()

	state, err := term.GetState(int(s.tty.Fd()))
	if err != nil {
		s.t.Fatal(err)
	}

	return state
}

// echoes tells whether the terminal shows what is typed.
func echoes(t *testing.T, s *session) bool {
	t.Helper()

	state, err := unix.IoctlGetTermios(int(s.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}

	return state.Lflag&unix.ECHO != 0
}

// A terminal that is asked something may not answer, and what is typed meanwhile
// would be taken for the answer.
func TestNoCommandAsksTheTerminalForAnything(t *testing.T) {
	code, screen := onTerminal(t, []string{"HOME=" + t.TempDir(), "TERM=xterm-256color"}, "version", "--color", "never").end()
	if code != 0 || strings.ContainsRune(screen, '\x1b') {
		t.Errorf("exit code %d, screen %q", code, screen)
	}
}
