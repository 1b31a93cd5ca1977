package tui

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"iter"
	"os/exec"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// TestTwoActsAtATime keeps their results apart.
func TestTwoActsAtATime(t *testing.T) {
	s := &site{snapshot: fleet()}
	m := opened(s, Options{Plain: true}, 120, 30)
	ids := []string{fleet().Rows[0].ID, fleet().Rows[1].ID}

	results := func(texts ...string) func() iter.Seq[Result] {
		return func() iter.Seq[Result] {
			return func(yield func(Result) bool) {
				for i, text := range texts {
					if !yield(Result{ID: ids[i], Text: text}) {
						return
					}
				}
			}
		}
	}

	m, first := m.begin("one", 2, results("a", "b"))
	m, second := m.begin("two", 2, results("c", "d"))
	take := func(cmd tea.Cmd) tea.Cmd {
		next, more := m.Update(cmd())
		m = next.(Model)

		return more
	}

	second = take(second)
	first = take(first)

	if problem := lacks(m, "r1n01 a"); problem != "" {
		t.Error(problem)
	}

	if problem := lacks(m, "two: 1 of 2"); problem != "" {
		t.Error(problem)
	}

	second = take(second)
	take(second)

	if problem := lacks(m, "two: 2 done"); problem != "" || len(m.jobs) != 1 {
		t.Errorf("%d jobs are left; %s", len(m.jobs), problem)
	}

	first = take(first)
	take(first)

	if problem := lacks(m, "one: 2 done"); problem != "" || len(m.jobs) != 0 {
		t.Errorf("%d jobs are left; %s", len(m.jobs), problem)
	}

	if m = m.onDone(doneMsg{99}); len(m.jobs) != 0 {
		t.Error("the end of what never began begins something")
	}
}

// TestWhatACommandSaysIsHarmless: its output goes to the log as it is, but for
// what a terminal would obey.
func TestWhatACommandSaysIsHarmless(t *testing.T) {
	m := opened(&site{snapshot: fleet()}, Options{Plain: true}, 120, 30)

	for _, text := range []string{"NAME\tPOWER", "\x1b[2J\x1b]0;title\adone", "日本語", strings.Repeat("long ", 100)} {
		m = feed(m, resultMsg{job: 1, result: Result{Text: text}})
	}

	m = press(m, "L")
	for _, text := range []string{"NAME    POWER", `\x1b[2J\x1b]0;title\x07done`, "日本語", "long long long"} {
		if problem := lacks(m, text); problem != "" {
			t.Error(problem)
		}
	}

	if problem := misfit(m.View(), 120, 30); problem != "" {
		t.Error(problem)
	}
}

// TestAResultOfAMachineThatIsGone names it by the start of its id.
func TestAResultOfAMachineThatIsGone(t *testing.T) {
	m := feed(opened(&site{snapshot: fleet()}, Options{Plain: true}, 120, 30), resultMsg{result: Result{ID: "deadbeef-1\x1b", Err: errors.New("gone\nfor good")}})
	if problem := lacks(m, "deadbeef gone for good"); problem != "" {
		t.Error(problem)
	}
}

func TestANoticeDoesNotLastForEver(t *testing.T) {
	m := press(opened(&site{snapshot: fleet()}, Options{Plain: true}, 120, 30), "j", "a")
	const said = "it is accepted already"

	if problem := lacks(feed(m, tickMsg(noon.Add(noticeLasts))), said); problem != "" {
		t.Error(problem)
	}

	if later := feed(m, tickMsg(noon.Add(noticeLasts+time.Second))); strings.Contains(later.View(), said) {
		t.Errorf("it is still there:\n%s", later.View())
	}
}

// TestCopy tells the clipboard the id as the Source knows it, and says when that
// fails.
func TestCopy(t *testing.T) {
	var copied string

	fails := error(nil)
	m := opened(&site{snapshot: fleet()}, Options{Plain: true, Copy: func(text string) error { copied = text; return fails }}, 120, 30)

	m, cmd, _ := moreKey(m, keyMsg("y"))
	if msg := cmd(); msg != nil || copied != fleet().Rows[5].ID {
		t.Errorf("copied %q, then %v", copied, msg)
	}

	fails = errors.New("no clipboard")
	if problem := lacks(feed(m, cmd()), "copy: no clipboard"); problem != "" {
		t.Error(problem)
	}

	if problem := lacks(press(opened(&site{snapshot: fleet()}, Options{Plain: true}, 120, 30), "y"), "there is nothing to copy, or nowhere to"); problem != "" {
		t.Error(problem)
	}

	var terminal bytes.Buffer
	if err := askTerminalToCopy(&terminal, copied); err != nil || terminal.String() != "\x1b]52;c;"+base64.StdEncoding.EncodeToString([]byte(copied))+"\a" {
		t.Errorf("the terminal gets %q, %v", terminal.String(), err)
	}

	_, broken := io.Pipe()
	_ = broken.Close()

	if err := askTerminalToCopy(broken, copied); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a terminal that is gone: %v", err)
	}
}

// TestWhyAConsoleEnded is its first line, else how it ended.
func TestWhyAConsoleEnded(t *testing.T) {
	ended := errors.New("exit status 1")

	for said, want := range map[string]string{"": "exit status 1", "\r\n\r\n": "exit status 1", "no answer\r\nbmctl: hint: x": "no answer"} {
		cmd := exec.Command("true")
		cmd.Stderr = bytes.NewBufferString(said)

		if got := lastWords(cmd, ended).Error(); got != want {
			t.Errorf("after %q: %q, want %q", said, got, want)
		}
	}

	if got := lastWords(exec.Command("true"), ended); !errors.Is(got, ended) {
		t.Errorf("of a program that nobody heard: %v", got)
	}
}

// TestTheConsoleKeyTwice: enter in the console's pane is the key too, and more
// than one machine has none.
func TestTheConsoleKeyTwice(t *testing.T) {
	s := &site{snapshot: fleet(), console: []string{"true"}}
	m := press(opened(s, Options{Plain: true}, 120, 30), "j", "4", "enter")

	if problem := lacks(m, "hands this terminal to bmctl console r1n01"); problem != "" {
		t.Error(problem)
	}

	if _, cmd := m.onKey(keyMsg("enter")); cmd == nil {
		t.Error("enter does not open the console")
	}

	if problem := lacks(press(m, "esc", "space", "space", "c"), "console: one machine at a time"); problem != "" {
		t.Error(problem)
	}

	if _, cmd := press(m, "esc", "space").onKey(keyMsg("c")); cmd == nil {
		t.Error("one machine that is selected has no console")
	}
}

// TestEventsOutOfOrderAreSorted by their time, and only those of the machine are
// shown; a zero time is the oldest.
func TestEventsOutOfOrderAreSorted(t *testing.T) {
	id := fleet().Rows[1].ID
	m := press(opened(&site{snapshot: fleet(), events: []Event{
		{At: noon.Add(-1 * time.Second), MachineID: id, Type: "accepted", Text: "third"},
		{At: noon.Add(-3 * time.Second), MachineID: id, Type: "accepted", Text: "first"},
		{At: noon.Add(-2 * time.Second), MachineID: id, Type: "held", Text: "second", Reason: "two hosts"},
		{At: noon.Add(-2 * time.Second), MachineID: "nobody", Type: "held", Text: "of another"},
		{Type: "wiped", MachineID: id},
	}}, Options{Plain: true}, 120, 30), "j", "j", "3")

	view := strings.Join(strings.Fields(m.View()), " ")
	if !strings.Contains(view, "accepted first 14:02:09.000 held second because: two hosts 14:02:10.000 accepted third") || strings.Contains(view, "of another") {
		t.Errorf("the events are\n%s", m.View())
	}
}
