package tui

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/exp/teatest"
)

// begin runs the whole program around the view of a site.
func begin(t *testing.T, s *site, opts Options) *teatest.TestModel {
	t.Helper()

	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)

	opts.Plain = true
	m, err := New(ctx, s, opts, noon)
	if err != nil {
		t.Fatal(err)
	}

	return teatest.NewTestModel(t, m, teatest.WithInitialTermSize(120, 30))
}

// sees waits until the texts have been drawn, in one go or several.
func sees(t *testing.T, program *teatest.TestModel, texts ...string) {
	t.Helper()

	teatest.WaitFor(t, program.Output(), func(drawn []byte) bool {
		for _, text := range texts {
			if !bytes.Contains(drawn, []byte(text)) {
				return false
			}
		}

		return true
	}, teatest.WithDuration(20*time.Second))
}

func types(program *teatest.TestModel, keys ...string) {
	for _, name := range keys {
		program.Send(keyMsg(name))
	}
}

func ends(t *testing.T, program *teatest.TestModel) Model {
	t.Helper()
	types(program, "q")
	program.WaitFinished(t, teatest.WithFinalTimeout(20*time.Second))

	return program.FinalModel(t).(Model)
}

func TestProgramShowsFiltersAndLeaves(t *testing.T) {
	program := begin(t, &site{snapshot: fleet(), events: bootEvents()}, Options{})
	sees(t, program, "42 machines", "r1n02")
	types(program, "j", "j")
	sees(t, program, "Boot attempt #2")
	types(program, append(append([]string{"/"}, typed("power=off")...), "enter")...)
	sees(t, program, "3 of 42 shown")

	if m := ends(t, program); len(m.shown) != 3 || len(m.events.items) != len(bootEvents()) {
		t.Errorf("%d shown, %d events", len(m.shown), len(m.events.items))
	}
}

func TestProgramCyclesAfterAConfirmation(t *testing.T) {
	s := &site{snapshot: fleet()}
	program := begin(t, s, Options{})
	sees(t, program, "r1n02")
	types(program, "j", "p", "c")
	sees(t, program, "Power cycle r1n01", "equivalent: bmctl power cycle r1n01")
	types(program, "enter")
	sees(t, program, "nothing was done")
	types(program, "p", "c", "y")
	sees(t, program, "power cycle ok")
	ends(t, program)

	if acts := s.acts(); len(acts) != 1 || !strings.HasPrefix(acts[0], "power cycle ") {
		t.Errorf("did %v", acts)
	}
}

func TestProgramRunsCommandsAndConsoles(t *testing.T) {
	s := &site{snapshot: fleet(), console: []string{"sh", "-c", "echo no serial console >&2; exit 1"}}
	program := begin(t, s, Options{})
	sees(t, program, "r1n02")
	types(program, append(append([]string{":"}, typed("machines")...), "enter")...)
	sees(t, program, "first line of machines")
	types(program, "c")
	sees(t, program, "console: no serial console")

	s.mu.Lock()
	s.console = []string{"true"}
	s.mu.Unlock()

	types(program, "c")
	sees(t, program, "console closed")
	ends(t, program)
}

func TestProgramGoesOnWhenTheSourceBreaks(t *testing.T) {
	s := &site{err: errors.New("nothing answers"), broken: errors.New("the stream broke")}
	program := begin(t, s, Options{Refresh: 50 * time.Millisecond})
	sees(t, program, "source AWAY", "nothing answers")

	s.mu.Lock()
	s.err, s.snapshot = nil, fleet()
	s.mu.Unlock()

	sees(t, program, "42 machines", "events broke off: the stream broke")
	ends(t, program)
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	reader, writer := io.Pipe()

	defer writer.Close() //nolint:errcheck // a pipe

	ended := make(chan error, 1)
	out := &watched{shown: make(chan struct{})}

	go func() { ended <- Run(ctx, &site{snapshot: fleet()}, Options{}, reader, out) }()

	<-out.shown
	cancel()

	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the end of the context is an error: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on after its context")
	}

	if text := out.String(); !strings.Contains(text, "\x1b[?1049l") || !strings.Contains(text, "\x1b[?25h") {
		t.Errorf("the terminal is not restored: %q", text)
	}
}

// watched is an output that tells when something is written.
type watched struct {
	bytes.Buffer
	shown chan struct{}
	done  bool
}

func (w *watched) Write(p []byte) (int, error) {
	if !w.done {
		w.done = true
		close(w.shown)
	}

	return w.Buffer.Write(p)
}

func TestUnknownThemeIsRefused(t *testing.T) {
	if _, err := New(context.Background(), &site{}, Options{Theme: "pink"}, noon); err == nil || !strings.Contains(err.Error(), "pink") {
		t.Errorf("theme pink: %v", err)
	}
}

var _ tea.Model = Model{}
