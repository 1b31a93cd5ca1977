package tui

import (
	"fmt"
	"strings"
	"testing"
)

// chosenVerb is how a verb is reached by keys, on a machine that can have it.
type chosenVerb struct {
	verb Verb
	keys []string
	on   func(*Row)
	says []string // in the confirmation, beside the machine and the command
}

func chosenVerbs() []chosenVerb {
	const cut = "Power is cut at once; the OS is not asked. Soft shutdown: s"

	ready := func(r *Row) { off(r); r.Cluster = "" }
	pending := func(r *Row) { r.Accepted, r.Status, r.Cluster = false, "pending", "" }

	controls := func(r *Row) { r.Role = "control plane" }
	roleless := func(r *Row) { r.Role = "" }

	return []chosenVerb{
		{PowerOn, []string{"p", "o"}, ready, []string{"Power on", "serve switches a ready machine off again"}},
		{PowerOff, []string{"p", "f"}, nil, []string{"Power off", cut, "in cluster prod (worker)   <- in use"}},
		{PowerOff, []string{"p", "f"}, controls, []string{"in cluster prod (control plane)   <- in use"}},
		{PowerOff, []string{"p", "f"}, roleless, []string{"in cluster prod   <- in use"}},
		{PowerSoft, []string{"p", "s"}, nil, []string{"Shut down", "it may refuse", "<- in use"}},
		{PowerCycle, []string{"p", "c"}, nil, []string{"Power cycle", cut, "<- in use"}},
		{PowerReset, []string{"p", "r"}, nil, []string{"Reset", "It starts anew at once", "<- in use"}},
		{BootPXE, []string{"b", "p"}, nil, []string{"Boot next from the network:", "Holds for the next boot only."}},
		{BootDisk, []string{"b", "d"}, nil, []string{"Boot next from disk:", "Holds for the next boot only."}},
		{BootBIOS, []string{"b", "b"}, nil, []string{"firmware setup", "The setup waits for a person."}},
		{BootNone, []string{"b", "n"}, nil, []string{"Clear the boot override", "The firmware's own order holds."}},
		{Accept, []string{"a"}, pending, []string{"Accept", "ALL DISKS", "Type 11a00001 to accept"}},
		{Reject, []string{"x"}, pending, []string{"Reject", "It can still be accepted later."}},
		{Cordon, []string{"C"}, nil, []string{"Cordon", "until it is uncordoned"}},
		{Uncordon, []string{"C"}, func(r *Row) { r.Cordoned = true }, []string{"Uncordon", "acts on it again"}},
	}
}

// confirming is the view of one machine with the verb's confirmation open.
func confirming(c chosenVerb) (Model, *site) {
	s := &site{snapshot: Snapshot{At: noon, Rows: []Row{machine(1, c.on)}, Health: fleet().Health}}

	return press(opened(s, Options{Plain: true}, 100, 30), c.keys...), s
}

// TestEveryConfirmation asks before every verb, says what is to be known and the
// equivalent command, does nothing by enter, esc or q, and the verb alone by what
// it asks for.
func TestEveryConfirmation(t *testing.T) {
	for _, c := range chosenVerbs() {
		t.Run(string(c.verb), func(t *testing.T) {
			m, s := confirming(c)

			for _, text := range append(c.says, "r1n01", "equivalent: bmctl "+string(c.verb)+" r1n01") {
				if problem := lacks(m, text); problem != "" {
					t.Error(problem)
				}
			}

			for _, keys := range [][]string{{"enter"}, {"esc"}, {"q"}, {"tab", "tab", "enter"}} {
				m, s := confirming(c)
				if c.verb == Accept && keys[0] == "q" {
					keys = []string{"q", "esc"} // a letter is typed there
				}

				if m = press(m, keys...); len(s.acts()) > 0 || m.modal != nil {
					t.Errorf("%v did %v, and leaves %v open", keys, s.acts(), m.modal)
				}

				if problem := lacks(m, "not confirmed: nothing was done"); problem != "" {
					t.Error(problem)
				}
			}

			sure := []string{"y"}
			if c.verb == Accept {
				sure = append(typed("11a00001"), "enter")
			}

			m = press(m, sure...)
			if got := strings.Join(s.acts(), "; "); got != string(c.verb)+" "+s.snapshot.Rows[0].ID {
				t.Errorf("confirmed, it did %q", got)
			}

			if problem := lacks(press(m, "L"), "bmctl "+string(c.verb)+" r1n01 14:02:11 r1n01 "+string(c.verb)+" ok"); problem != "" {
				t.Error(problem)
			}
		})
	}
}

// TestEveryKeyThatCannotBeUsed says why, where all verbs are out of reach.
func TestEveryKeyThatCannotBeUsed(t *testing.T) {
	for _, c := range append(chosenVerbs(), chosenVerb{verb: Console, keys: []string{"c"}}) {
		t.Run(string(c.verb), func(t *testing.T) {
			why := "because of " + string(c.verb)
			s := &site{snapshot: Snapshot{Rows: []Row{machine(1, c.on)}, Health: fleet().Health}, console: []string{"true"}}
			s.snapshot.Rows[0].Cannot = map[Verb]string{c.verb: why}

			m := press(opened(s, Options{Plain: true}, 100, 30), c.keys...)
			if problem := lacks(m, "r1n01: "+why); problem != "" || m.modal != nil || len(s.acts()) > 0 {
				t.Errorf("%v is open, did %v; %s", m.modal, s.acts(), problem)
			}
		})
	}
}

// TestTheNextKeyBelongsToTheMenu although nothing in it can be had: p and c must
// not open a console.
func TestTheNextKeyBelongsToTheMenu(t *testing.T) {
	s := &site{snapshot: Snapshot{Rows: []Row{machine(1, nil)}, Health: fleet().Health}, console: []string{"true"}}
	s.snapshot.Cannot = map[Verb]string{}

	for _, verb := range powerVerbs() {
		s.snapshot.Cannot[verb] = "the BMC is on fire"
	}

	m := press(opened(s, Options{Plain: true}, 100, 30), "p")
	for _, text := range []string{"power: the BMC is on fire", "power r1n01: o on"} {
		if problem := lacks(m, text); problem != "" {
			t.Error(problem)
		}
	}

	m, cmd := m.onKey(keyMsg("c"))
	if problem := lacks(m, "power cycle: the BMC is on fire"); problem != "" || cmd != nil || m.modal != nil {
		t.Errorf("%v is open, a command: %t; %s", m.modal, cmd != nil, problem)
	}
}

// TestAKeyThatCannotBeUsedIsFaint looks at the styles of the last line.
func TestAKeyThatCannotBeUsedIsFaint(t *testing.T) {
	s := &site{snapshot: Snapshot{Rows: []Row{machine(1, nil)}, Health: fleet().Health}, console: []string{"true"}}
	foot := func() string {
		lines := strings.Split(opened(s, Options{}, 120, 30).View(), "\n")

		return lines[len(lines)-1]
	}

	faintKey := opened(s, Options{}, 120, 30).theme.in(faint, "c console")
	if strings.Contains(foot(), faintKey) || !strings.Contains(withoutStyles(foot()), "c console") {
		t.Errorf("a console that can be had: %q", foot())
	}

	s.snapshot.Rows[0].Cannot = map[Verb]string{Console: "no serial over LAN"}
	if !strings.Contains(foot(), faintKey) {
		t.Errorf("a console that cannot be had: %q", foot())
	}

	pane := press(opened(s, Options{Plain: true}, 120, 30), "4")
	if problem := lacks(pane, "no serial over LAN"); problem != "" {
		t.Error(problem)
	}
}

func TestSomeOfTheChosenAreLeftOut(t *testing.T) {
	s := &site{snapshot: fleet()}
	m := press(opened(s, Options{Plain: true}, 100, 40), append(append([]string{"/"}, typed("r1n0")...), "enter", "*", "p", "c")...)

	for _, text := range []string{
		"Power cycle 5 machines", "left out: r1n03: it is off: power it on", "left out: r1n05: it is off", "They take their turns",
		"equivalent: bmctl power cycle r1n01 r1n02 r1n07 r1n08 r1n09",
	} {
		if problem := lacks(m, text); problem != "" {
			t.Error(problem)
		}
	}

	if m = press(m, "y"); len(s.acts()) != 1 || strings.Count(s.acts()[0], ",") != 4 {
		t.Errorf("did %v", s.acts())
	}

	m = press(m, "esc", "esc", "*", "p", "c")
	if problem := lacks(m, "Power cycle 39 machines"); problem != "" {
		t.Error(problem)
	}
}

func TestAHiddenMachineIsNamed(t *testing.T) {
	s := &site{snapshot: fleet()}
	keys := append(append([]string{"j", "space", "/"}, typed("r1n02")...), "enter", "p", "r")

	if problem := lacks(press(opened(s, Options{Plain: true}, 100, 30), keys...), "in cluster prod (worker) <- in use hidden by the filter"); problem != "" {
		t.Error(problem)
	}
}

// TestWhatIsKnownBeforeAccepting shows what is known of the machine whose disks are
// to be erased, and what is not.
func TestWhatIsKnownBeforeAccepting(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Row)
		says   []string
	}{
		"all": {func(*Row) {}, []string{
			"11a00001-7a1e-4b02-9f3c-1b5d3c9be6f1", "r1n01 S/N A1234501", "first seen 40d ago from 10.0.2.101 (mac 3c:ec:ef:12:34:01)", "bmc redfish 10.0.3.1", "disks: unknown",
		}},
		"nothing": {func(r *Row) { *r = Row{ID: r.ID} }, []string{
			"no name in the inventory S/N unknown", "first seen: unknown, from unknown (mac unknown)", "bmc unknown",
		}},
		"rejected": {func(r *Row) { r.Status = "rejected" }, []string{"it was rejected before"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := confirming(chosenVerb{verb: Accept, keys: []string{"a"}, on: func(r *Row) { r.Accepted = false; test.change(r) }})

			for _, text := range test.says {
				if problem := lacks(m, text); problem != "" {
					t.Error(problem)
				}
			}
		})
	}
}

// TestAnUnknownVerb cannot come from a key; from nowhere else either.
func TestAnUnknownVerb(t *testing.T) {
	if d := Verb("explode").deed(); fmt.Sprint(d.word, d.title, d.cuts) != "explodeexplodefalse" {
		t.Errorf("an unknown verb is %+v", d)
	}
}
