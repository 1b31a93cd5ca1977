package cli_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/tui/picture"
)

var updatePicture = flag.Bool("update", false, "write the picture of the lab instead of comparing it")

// tmux is a terminal with a shell in it.
type tmux struct {
	t      *testing.T
	socket string
}

// newTmux skips with the reason where there is no tmux, unless it is demanded.
func newTmux(t *testing.T) *tmux {
	t.Helper()

	if _, err := exec.LookPath("tmux"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("tmux is not installed, and CI is to have it")
		}

		t.Skip("tmux is not installed: the view is not tested on a real terminal")
	}

	dir, err := os.MkdirTemp("", "tmux") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}

	term := &tmux{t, filepath.Join(dir, "sock")}
	env := []string{"env", "-u", "NO_COLOR", asBmctl + "=1", "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "TERM=screen-256color", "PS1=$ "}
	term.run(append(append([]string{"-f", "/dev/null", "-u", "new-session", "-d", "-x", "120", "-y", "30"}, env...), "sh")...)
	t.Cleanup(func() {
		if out, err := exec.Command("tmux", "-S", term.socket, "kill-server").CombinedOutput(); err != nil {
			t.Errorf("end tmux: %v: %s", err, out)
		}

		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})

	return term
}

func (term *tmux) run(args ...string) string {
	term.t.Helper()

	out, err := exec.Command("tmux", append([]string{"-S", term.socket}, args...)...).CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %v: %v: %s", args, err, out)
	}

	return string(out)
}

func (term *tmux) screen() string { return term.run("capture-pane", "-p") }

// keys presses keys by tmux's names; text types characters.
func (term *tmux) keys(names ...string) { term.run(append([]string{"send-keys"}, names...)...) }
func (term *tmux) text(text string)     { term.run("send-keys", "-l", text) }

// sees waits until the screen has all the texts, and returns it.
func (term *tmux) sees(texts ...string) string {
	term.t.Helper()

	for deadline := time.Now().Add(60 * time.Second); ; {
		screen := term.screen()
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(screen, text) }) {
			return screen
		}

		if time.Now().After(deadline) {
			term.t.Fatalf("the screen never has all of %q:\n%s", texts, screen)
		}

		time.Sleep(50 * time.Millisecond) // a screen tells nobody when it changes
	}
}

func (term *tmux) lacks(text string) {
	term.t.Helper()

	for deadline := time.Now().Add(30 * time.Second); strings.Contains(term.screen(), text); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			term.t.Fatalf("the screen still has %q:\n%s", text, term.screen())
		}
	}
}

// TestANewcomerInTheLab types what a newcomer would, into the real program on a
// real terminal around a whole lab.
func TestANewcomerInTheLab(t *testing.T) {
	term := newTmux(t)
	term.sees("$")
	term.text("bmctl lab --tui --speed 1x")
	term.keys("Enter")

	term.sees("3 machines: 3 on  3 wait for accept", "▰▰▰▰▰▰▰ agent", "dhcp discover", "because: unknown machine", "agent         connected")
	comparePicture(t, term)

	term.text("/r1n02")
	term.keys("Enter")
	term.sees("filter: r1n02", "1 of 3 shown")
	term.text("/=(")
	term.keys("Enter")
	term.sees("filter: r1n02=(", "unable to parse")
	term.keys("Escape")
	term.lacks("unable to parse")
	term.keys("Escape")
	term.lacks("of 3 shown")
	term.keys("g")

	term.keys("Enter")
	term.sees("Boot attempt #1", "ipxe script   agent", "esc back")
	term.keys("Escape")
	term.sees("MACHINE", "r1n03")

	powerFromTheView(term)
	acceptFromTheView(term)

	term.run("resize-window", "-x", "40", "-y", "10")
	term.sees("bmctl needs 60x15, this is 40x10")
	term.run("resize-window", "-x", "120", "-y", "30")
	term.sees("MACHINE", "2 Boot", "q quit")

	term.text(":machines get r1n01")
	term.keys("Enter")
	term.sees("ready to use   yes")

	term.lacks("bmctl machines get") // it has ended, and leaving it is not asked

	term.text("q")
	term.sees("--speed 1x\n$") // what stood there before, and the shell
	term.text("echo code $?")
	term.keys("Enter")
	term.sees("code 0")
}

// powerFromTheView cancels first: by enter, which is the safe choice.
func powerFromTheView(term *tmux) {
	term.t.Helper()
	term.text("j")
	term.text("p")
	term.sees("power r1n02:", "c cycle")
	term.text("c")
	term.sees("Power cycle r1n02", "Power is cut at once", "equivalent: bmctl power cycle r1n02", "[ Cancel ]")
	term.keys("Enter")
	term.sees("not confirmed: nothing was done")

	term.text("pc")
	term.sees("Power cycle r1n02")
	term.text("y")
	term.sees("r1n02 power cycle: on again after")
}

func acceptFromTheView(term *tmux) {
	term.t.Helper()
	term.text("ka")

	screen := term.sees("Accept r1n01", "ALL DISKS of this machine will be ERASED")
	block := regexp.MustCompile(`Type ([0-9a-f]{8}) to accept`).FindStringSubmatch(screen)

	if block == nil {
		term.t.Fatalf("what is to be typed is not said:\n%s", screen)
	}

	term.text("y")
	term.keys("Enter")
	term.sees("not confirmed: nothing was done")
	term.text("a" + block[1])
	term.sees("to accept: " + block[1])
	term.keys("Enter")
	term.sees("r1n01 accepted")
	term.sees("○ off   -                 ready", "wiped in")

	term.text("a")
	term.sees("accept: r1n01: it is accepted already")
}

// comparePicture keeps the picture that the README opens with current: numbers
// and addresses differ from run to run, the rest must not.
func comparePicture(t *testing.T, term *tmux) {
	t.Helper()

	const columns = 120

	kept := filepath.Join("testdata", "lab.screen")
	drawn := filepath.Join("..", "docs", "tui", "lab.svg")
	title := "bmctl lab --tui"

	if *updatePicture {
		screen := term.run("capture-pane", "-e", "-p")
		for path, text := range map[string]string{kept: screen, drawn: picture.SVG(title, screen, columns)} {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}

		return
	}

	screen, err := os.ReadFile(kept)
	if err != nil {
		t.Fatalf("%v (go test ./cli -run Newcomer -update writes it)", err)
	}

	svg, err := os.ReadFile(drawn)
	if err != nil || string(svg) != picture.SVG(title, string(screen), columns) {
		t.Errorf("%s is not the picture of %s (go test ./cli -run Newcomer -update writes it): %v", drawn, kept, err)
	}

	if now, before := outline(term.run("capture-pane", "-e", "-p")), outline(string(screen)); now != before {
		t.Errorf("the view of the lab has changed (go test ./cli -run Newcomer -update writes it). It was\n%s\nand is\n%s", before, now)
	}
}

// outline is a screen without what differs from run to run: numbers, the room
// that they take, and agents that come and go.
func outline(screen string) string {
	screen = regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(screen, "")
	screen = regexp.MustCompile(`<?[0-9]+ms`).ReplaceAllString(screen, "0ms")
	screen = regexp.MustCompile(`[0-9]+`).ReplaceAllString(screen, "0")

	var lines []string

	for _, line := range strings.Split(screen, "\n") {
		line = strings.Join(strings.Fields(line), " ")
		if line != "" && !strings.HasPrefix(line, "0:0:0.0 agent") {
			lines = append(lines, line)
		}
	}

	return strings.Join(lines, "\n")
}

func TestTheViewNeedsATerminal(t *testing.T) {
	for _, args := range [][]string{{"tui"}, {"lab", "--tui"}} {
		cmd := exec.CommandContext(t.Context(), "bmctl", args...)
		cmd.Env = append(os.Environ(), asBmctl+"=1", "HOME="+t.TempDir())

		text, err := cmd.CombinedOutput()
		if code := exitCode(t, err); code != 2 || !strings.Contains(string(text), "the view needs a terminal") {
			t.Errorf("%v: exit code %d, %s", args, code, text)
		}
	}
}
