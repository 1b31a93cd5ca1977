package tui

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// TestWhatNobodyToldIsUnknown looks at the details of a machine of which the
// inventory alone is known: "no" would be a claim.
func TestWhatNobodyToldIsUnknown(t *testing.T) {
	s := &site{snapshot: Snapshot{Health: Health{Source: "inventory"}, Rows: []Row{{ID: "r1n01", Name: "r1n01", Power: "on", PowerAt: noon}}}}
	view := strings.Join(strings.Fields(press(opened(s, Options{Plain: true}, 80, 40), "1").View()), " ")

	for _, fact := range []string{"status", "held", "stage", "cluster", "talos", "next boot", "agent", "accepted", "ready", "installed", "cordoned", "serial", "mac", "last event"} {
		if !strings.Contains(view, fact+" unknown") {
			t.Errorf("%s is not unknown:\n%s", fact, view)
		}
	}

	for key, want := range map[string]string{"2": "boots are seen by bmctl serve, which does not run", "3": "events come from bmctl serve, which does not run"} {
		if problem := lacks(press(opened(s, Options{Plain: true}, 80, 40), key), want); problem != "" {
			t.Error(problem)
		}
	}
}

func TestASilentBMCIsNeitherOnNorOff(t *testing.T) {
	for name, test := range map[string]struct {
		row  Row
		want []string
	}{
		"silent for a while": {
			Row{Power: "unknown", LastPower: "on", PowerAt: noon.Add(-6 * time.Minute), BMC: BMC{Error: "no answer in 5s"}},
			[]string{"? 6m", "power unknown; was on 6m ago", "bmc error no answer in 5s", "no answer"},
		},
		"never read":        {Row{Power: "unknown"}, []string{"r1n01 ? ", "power unknown"}},
		"nothing":           {Row{}, []string{"r1n01 ? ", "power unknown"}},
		"an odd word":       {Row{Power: "standby", PowerAt: noon.Add(-time.Hour)}, []string{"? 1h", "power standby, read 1h ago"}},
		"read a moment ago": {Row{Power: "off", PowerAt: noon}, []string{"○ off", "power off, read 0s ago"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.row.ID, test.row.Name, test.row.Status = "x", "r1n01", "ready"
			m := press(opened(&site{snapshot: Snapshot{Rows: []Row{test.row}}}, Options{Plain: true}, 120, 40), "1")

			for _, text := range test.want {
				if problem := lacks(m, text); problem != "" {
					t.Error(problem)
				}
			}
		})
	}
}

// TestEventsThatBreakOff are said while they are waited for, and hide no other
// notice for longer.
func TestEventsThatBreakOff(t *testing.T) {
	s := &site{snapshot: fleet()}
	s.snapshot.Health.Notice = "serve does not answer: power only"
	m := opened(s, Options{Plain: true}, 120, 30)
	m = feed(m, eventsMsg{err: errors.New("the stream broke\x1b[2J"), retryAt: noon.Add(4 * time.Second)})

	if problem := lacks(feed(m, tickMsg(noon.Add(time.Second))), `events broke off: the stream broke\x1b[2J (retry in 3s)`); problem != "" {
		t.Error(problem)
	}

	if problem := lacks(feed(m, tickMsg(noon.Add(4*time.Second))), "serve does not answer: power only"); problem != "" {
		t.Error(problem)
	}

	if m = feed(m, eventsMsg{events: bootEvents()[:1]}); strings.Contains(m.View(), "broke off") {
		t.Errorf("events come again:\n%s", m.View())
	}
}

// TestTheOldestEventsAreDroppedAndCounted fills the ring with another machine's
// events.
func TestTheOldestEventsAreDroppedAndCounted(t *testing.T) {
	m := opened(&site{snapshot: fleet(), events: bootEvents()}, Options{Plain: true}, 120, 30)

	var noise []Event
	for i := range ringLimit {
		noise = append(noise, Event{At: noon, MachineID: fleet().Rows[0].ID, Type: "power", Text: fmt.Sprint("reading ", i)})
	}

	m = press(feed(m, eventsMsg{events: noise[:1000]}), "j", "j")
	m = feed(m, eventsMsg{events: noise[1000:]})

	if len(m.events.items) != ringLimit || m.events.dropped != len(bootEvents()) {
		t.Errorf("%d events are kept and %d dropped", len(m.events.items), m.events.dropped)
	}

	if problem := lacks(m, "no boot among the newest events; 10 older ones are dropped"); problem != "" {
		t.Error(problem)
	}

	if problem := lacks(press(m, "3"), "10 older events are dropped"); problem != "" {
		t.Error(problem)
	}
}

// TestNoMachines says what to do about it.
func TestNoMachines(t *testing.T) {
	s := &site{snapshot: Snapshot{Health: fleet().Health}}
	m := opened(s, Options{Plain: true}, 100, 30)

	if problem := lacks(m, "no machines yet: one appears here when it first boots from the network"); problem != "" {
		t.Error(problem)
	}

	for _, keys := range [][]string{{"p"}, {"b"}, {"a"}, {"x"}, {"C"}, {"c"}} {
		if problem := lacks(press(m, keys...), "no machine is chosen"); problem != "" {
			t.Error(problem)
		}
	}

	for _, key := range []string{"enter", "tab", "1", "space", "v", "*", "n", "N", "G", "s", "S", "y", "ctrl+d"} {
		if after := press(m, key); after.modal != nil || after.at() != nil || after.open {
			t.Errorf("%s among no machines opens %v", key, after.modal)
		}
	}
}

// TestHelpScrollsWhereItDoesNotFit goes to its end and back, and leaves by any
// other key.
func TestHelpScrollsWhereItDoesNotFit(t *testing.T) {
	m := press(opened(&site{snapshot: fleet()}, Options{Plain: true}, 60, 15), "?")

	for _, step := range []struct{ key, shows, hides string }{
		{"", "k ↑ up", "q quit"},
		{"G", "q quit", "k ↑ up"},
		{"j", "q quit", "k ↑ up"},
		{"g", "k ↑ up", "q quit"},
		{"ctrl+d", "half a page down", "k ↑ up"},
		{"ctrl+u", "k ↑ up", "q quit"},
	} {
		if step.key != "" {
			m = press(m, step.key)
		}

		view := strings.Join(strings.Fields(m.View()), " ")
		if !strings.Contains(view, step.shows) || strings.Contains(view, step.hides+" ") || !strings.Contains(view, "j k scroll") {
			t.Errorf("after %q:\n%s", step.key, m.View())
		}
	}

	for _, key := range []string{"?", "q", "esc", "x"} {
		if after, cmd := m.Update(keyMsg(key)); after.(Model).modal != nil || cmd != nil {
			t.Errorf("%s does not end the help alone", key)
		}
	}

	whole := press(opened(&site{snapshot: fleet()}, Options{Plain: true}, 80, 24), "?")
	if after := press(whole, "j"); after.modal != nil {
		t.Error("help that is whole scrolls")
	}
}

func TestAnEmptyLineShowsAnExample(t *testing.T) {
	m := opened(&site{snapshot: fleet()}, Options{Plain: true}, 80, 24)
	if problem := lacks(press(m, "/"), "filter: ▏ words, or status!=running power=off rack=r1 age>1h"); problem != "" {
		t.Error(problem)
	}

	if after := press(m, "/", "x"); strings.Contains(after.View(), "age>1h") {
		t.Errorf("the example is still there:\n%s", after.View())
	}

	if problem := lacks(press(m, ":"), ": bmctl ▏ machines get r1n02"); problem != "" {
		t.Error(problem)
	}
}

// TestTheHeaderGivesWay keeps what matters most on a narrow screen.
func TestTheHeaderGivesWay(t *testing.T) {
	s := &site{snapshot: fleet()}

	for w, want := range map[int][]string{
		120: {"omni omni.example.com", "serve 10.0.2.5", "42 machines: 36 on  3 off  2 booting  1 ?", "1 waits for accept", "14:02:11"},
		80:  {"42: 36 on 3 off 2 boot 1 ?", "1 waits for accept", "14:02:11"},
		60:  {"42: 36 on 3 off 2 boot 1 ?", "1 waits for accept"},
	} {
		head, _, _ := strings.Cut(opened(s, Options{Plain: true}, w, 20).View(), "\n")
		for _, text := range want {
			if !strings.Contains(head, text) {
				t.Errorf("at %d cells the head lacks %q: %q", w, text, head)
			}
		}
	}

	s.snapshot.Health.OmniDown, s.snapshot.Health.OmniSince = true, noon.Add(-time.Hour)
	s.snapshot.Health.OmniError = "connection refused"

	head, _, _ := strings.Cut(opened(s, Options{Plain: true}, 60, 20).View(), "\n")
	if !strings.Contains(head, "omni UNREACHABLE 1h0m0s") {
		t.Errorf("at 60 cells without Omni: %q", head)
	}
}

// TestBeforeTheFirstSnapshot nothing is claimed, and the spinner turns unless
// nothing is to move.
func TestBeforeTheFirstSnapshot(t *testing.T) {
	for _, still := range []bool{false, true} {
		m, err := New(t.Context(), &site{}, Options{Plain: true, ReducedMotion: still}, noon)
		if err != nil {
			t.Fatal(err)
		}

		m = feed(m, tea.WindowSizeMsg{Width: 80, Height: 24})
		first := m.spinner()

		if problem := lacks(m, first+" asking for the machines"); problem != "" || strings.Contains(m.View(), "no machines yet") {
			t.Errorf("%s\n%s", problem, m.View())
		}

		later := feed(m, tickMsg(noon.Add(time.Second)))
		if next := later.spinner(); (next == first) != still {
			t.Errorf("the spinner goes from %q to %q, reduced motion: %t", first, next, still)
		}

		if problem := lacks(feed(m, arrived(Snapshot{}, errors.New("nothing answers"), noon)), "source AWAY 0s"); problem != "" {
			t.Error(problem)
		}
	}
}
