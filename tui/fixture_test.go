package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// noon is the time of all views in tests.
var noon = time.Date(2026, 3, 4, 14, 2, 11, 0, time.UTC)

// site is a Source that is told what to say and remembers what it was told to
// do.
type site struct {
	mu       sync.Mutex
	snapshot Snapshot
	err      error
	events   []Event
	broken   error             // ends Events
	fails    map[string]string // results by id
	done     []string          // "verb id,id"
	lines    []string          // of Run
	console  []string
}

func (s *site) Snapshot(context.Context) (Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.snapshot, s.err
}

func (s *site) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for _, e := range s.events {
			if !yield(e, nil) {
				return
			}
		}

		if s.broken != nil {
			yield(Event{}, s.broken)

			return
		}

		<-ctx.Done()
	}
}

func (s *site) Do(_ context.Context, verb Verb, ids ...string) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		s.mu.Lock()
		s.done = append(s.done, string(verb)+" "+strings.Join(ids, ","))
		s.mu.Unlock()

		for _, id := range ids {
			result := Result{ID: id, Text: string(verb) + " ok"}
			if text := s.fails[id]; text != "" {
				result = Result{ID: id, Err: errors.New(text)}
			}

			if !yield(result) {
				return
			}
		}
	}
}

func (s *site) acts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	return slices.Clone(s.done)
}

// Filter knows words and one key=value.
func (s *site) Filter(expr string) (func(Row) bool, error) {
	if strings.HasPrefix(expr, "=") {
		return nil, fmt.Errorf("%q has no key", expr)
	}

	key, value, isPair := strings.Cut(expr, "=")

	return func(r Row) bool {
		if isPair {
			return r.Labels[key] == value || key == "power" && r.Power == value
		}

		return strings.Contains(r.Name+" "+r.ID+" "+r.Status, expr)
	}, nil
}

func (s *site) Equivalent(verb Verb, ids ...string) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = firstBlock(id)

		for _, r := range s.snapshot.Rows {
			if r.ID == id && r.Name != "" {
				names[i] = r.Name
			}
		}
	}

	return "bmctl " + string(verb) + " " + strings.Join(names, " ")
}

func (s *site) Run(_ context.Context, line string) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()

		_ = yield(Result{Text: "first line of " + line}) && yield(Result{Text: "second line"})
	}
}

func (s *site) Console(string) *exec.Cmd {
	s.mu.Lock()
	defer s.mu.Unlock()

	if len(s.console) == 0 {
		return nil
	}

	cmd := exec.Command(s.console[0], s.console[1:]...)
	cmd.Stderr = &bytes.Buffer{}

	return cmd
}

// machine is a Row of the fleet; change may be nil.
func machine(i int, change func(*Row)) Row {
	r := Row{
		ID: fmt.Sprintf("%08x-7a1e-4b02-9f3c-1b5d3c9be6f1", 0x11a00000+i), Name: fmt.Sprintf("r1n%02d", i),
		Power: "on", PowerAt: noon.Add(-9 * time.Second), Status: "running", Reason: "installed and wanted on", Cluster: "prod", Role: "worker", Talos: "v1.13.7",
		BMC:       BMC{Protocol: "redfish", Address: fmt.Sprintf("10.0.3.%d", i), Latency: time.Duration(10+i) * time.Millisecond},
		LastEvent: "booted from disk", LastEventAt: noon.Add(-12 * 24 * time.Hour), Labels: map[string]string{"rack": "r1"},
		Accepted: true, ReadyToUse: true, Installed: true, MAC: fmt.Sprintf("3c:ec:ef:12:34:%02x", i), Address: fmt.Sprintf("10.0.2.%d", 100+i),
		Serial: fmt.Sprintf("A12345%02d", i), FirstSeen: noon.Add(-40 * 24 * time.Hour), BootDecision: "disk", BootReason: "installed",
	}
	if change != nil {
		change(&r)
	}

	return r
}

func off(r *Row) {
	r.Power, r.Status, r.Reason, r.Cluster, r.Talos, r.Installed = "off", "ready", "wiped, waits for a cluster", "", "", false
	r.BMC.Protocol, r.LastEvent, r.LastEventAt = "ipmi", "powered off, idle", noon.Add(-3*time.Hour)
	r.BootDecision, r.BootReason = "agent", "not allocated"
}

// fleet is 42 machines, the first ones in every state.
func fleet() Snapshot {
	rows := []Row{
		machine(1, nil),
		machine(2, func(r *Row) {
			r.Stage, r.Status, r.Reason = "script", "booting", "allocated to prod, not installed"
			r.BMC.Protocol, r.LastEvent, r.LastEventAt = "ipmi", "script: talos", noon.Add(-2*time.Second)
			r.Installed, r.BootDecision, r.BootReason = false, "talos", "allocated to prod, not installed"
		}),
		machine(3, off), machine(4, off), machine(5, off),
		machine(6, func(r *Row) {
			r.ID, r.Name, r.Stage, r.Status, r.Reason = "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1", "9c41e0aa", "agent", "pending", "waits to be accepted"
			r.BMC, r.Cluster, r.Talos, r.LastEvent, r.LastEventAt = BMC{}, "", "", "first seen", noon.Add(-31*time.Second)
			r.Accepted, r.ReadyToUse, r.Installed, r.FirstSeen = false, false, false, noon.Add(-31*time.Second)
			r.Cannot = map[Verb]string{PowerOn: "not in the inventory", PowerOff: "not in the inventory"}
		}),
		machine(7, func(r *Row) {
			r.Power, r.PowerAt, r.Status, r.Reason = "unknown", noon.Add(-6*time.Minute), "error", "bmc: no answer in 5s"
			r.BMC.Latency, r.BMC.Error, r.LastEvent, r.LastEventAt = 0, "no answer in 5s", "bmc: no answer in 5s", noon.Add(-2*time.Hour)
		}),
		machine(8, func(r *Row) {
			r.Stage, r.Status, r.Reason, r.Cluster, r.Talos = "agent", "wiping", "wiping for 41s", "", ""
			r.LastEvent, r.LastEventAt = "wiping", noon.Add(-41*time.Second)
		}),
		machine(9, func(r *Row) {
			r.Stage, r.Status, r.LastEvent, r.LastEventAt = "kernel", "booting", "kernel", noon.Add(-8*time.Second)
		}),
	}
	for i := 10; i <= 42; i++ {
		rows = append(rows, machine(i, nil))
	}

	return Snapshot{At: noon, Rows: rows, Health: Health{Source: "serve", Omni: "omni.example.com", Serve: "10.0.2.5"}}
}

// bootEvents are a boot of r1n02, and one of its loader's older attempts.
func bootEvents() []Event {
	id := fleet().Rows[1].ID
	at := func(clock string) time.Time {
		t, err := time.Parse("15:04:05.000", clock)
		if err != nil {
			panic(err)
		}

		return time.Date(2026, 3, 4, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	}

	const nic = "3c:ec:ef:12:34:02"

	address := fleet().Rows[1].Address

	return []Event{
		{At: at("13:40:00.000"), MAC: nic, Interface: "eno1", Arch: "amd64", Type: "discover", Text: "discover ipxe.efi", File: "ipxe.efi", Reason: "UEFI"},
		{At: at("13:40:01.000"), MachineID: id, MAC: nic, Address: address, Type: "script", Text: "script: wait", Decision: "wait", Reason: "Omni's list is not complete yet"},
		{At: at("13:40:16.000"), MachineID: id, MAC: nic, Address: address, Type: "script", Text: "script: wait", Decision: "wait", Reason: "Omni's list is not complete yet"},
		{At: at("14:01:57.000"), MachineID: id, Type: "power", Text: "boot override: pxe, once", Reason: "allocated to prod, not installed"},
		{At: at("14:01:58.000"), MachineID: id, Type: "power", Text: "power cycle", Reason: "allocated to prod, not installed"},
		{
			At: at("14:02:03.114"), MAC: nic, Interface: "eno1", Arch: "amd64", Type: "discover", Text: "discover ipxe.efi", File: "ipxe.efi",
			Reason: "UEFI: two phases, it asks the ProxyDHCP port next",
		},
		{
			At: at("14:02:03.530"), MAC: nic, Address: address, Interface: "eno1", Arch: "amd64", Type: "request", Text: "request ipxe.efi", File: "ipxe.efi",
			Reason: "UEFI asked for its file",
		},
		{
			At: at("14:02:05.871"), MAC: nic, Address: address, Arch: "amd64", Type: "loader", Text: "loader ipxe.efi", File: "ipxe.efi",
			Bytes: 1048576, Duration: 181 * time.Millisecond,
		},
		{
			At: at("14:02:06.100"), MAC: nic, Interface: "eno1", Arch: "amd64", Type: "discover",
			Text: "discover http://10.0.2.5:50042/ipxe/init.ipxe", File: "http://10.0.2.5:50042/ipxe/init.ipxe", Reason: "iPXE",
		},
		{
			At: at("14:02:09.402"), MachineID: id, MAC: nic, Address: address, Arch: "amd64", Type: "script", Text: "script: talos", Decision: "talos",
			Reason: "allocated to prod, not installed",
		},
	}
}

// opened is the view of a site after its first snapshot and events, without a
// program around it.
func opened(s *site, opts Options, w, h int) Model {
	m, err := New(context.Background(), s, opts, noon)
	if err != nil {
		panic(err)
	}

	m = feed(m, tea.WindowSizeMsg{Width: w, Height: h})
	if len(s.events) > 0 {
		m = feed(m, eventsMsg{events: s.events})
	}

	return feed(m, arrived(s.snapshot, s.err, noon))
}

// feed passes a message through Update and drops its command.
func feed(m Model, msg tea.Msg) Model {
	next, _ := m.Update(msg)

	return next.(Model)
}

// press types keys by their names; what they begin runs to its end.
func press(m Model, keys ...string) Model {
	for _, name := range keys {
		next, cmd := m.Update(keyMsg(name))
		m = settleJobs(next.(Model), cmd)
	}

	return m
}

// settleJobs runs the commands of a job, and no others: clocks would wait.
func settleJobs(m Model, cmd tea.Cmd) Model {
	for cmd != nil && len(m.jobs) > 0 {
		next, more := m.Update(cmd())
		m, cmd = next.(Model), more
	}

	return m
}

func keyMsg(name string) tea.KeyMsg {
	special := map[string]tea.KeyType{
		"enter": tea.KeyEnter, "esc": tea.KeyEsc, "tab": tea.KeyTab, "up": tea.KeyUp, "down": tea.KeyDown, "space": tea.KeySpace,
		"ctrl+c": tea.KeyCtrlC, "ctrl+d": tea.KeyCtrlD, "ctrl+u": tea.KeyCtrlU, "backspace": tea.KeyBackspace, "left": tea.KeyLeft,
		"right": tea.KeyRight, "home": tea.KeyHome, "end": tea.KeyEnd, "ctrl+w": tea.KeyCtrlW,
	}

	if kind, ok := special[name]; ok {
		if kind == tea.KeySpace {
			return tea.KeyMsg{Type: kind, Runes: []rune{' '}}
		}

		return tea.KeyMsg{Type: kind}
	}

	return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(name), Paste: len([]rune(name)) > 1}
}

// typed is a text as single keys.
func typed(text string) []string { return strings.Split(text, "") }
