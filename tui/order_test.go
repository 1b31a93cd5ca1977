package tui

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestEveryColumnSorts presses s until the column is the one, and looks at the
// order, both ways.
func TestEveryColumnSorts(t *testing.T) {
	rows := []Row{
		{ID: "1", Name: "r1n2", Power: "on", Stage: "script", Status: "booting", Cluster: "b", Talos: "v1.9.0", BMC: BMC{Latency: 3}, LastEvent: "c", LastEventAt: noon.Add(-time.Hour)},
		{ID: "2", Name: "r1n10", Power: "off", Stage: "agent", Status: "ready", Cluster: "a", Talos: "v1.13.7", BMC: BMC{Latency: 9}, LastEvent: "b", LastEventAt: noon},
		{ID: "3", Name: "r1n9", Power: "unknown", Status: "error", Cluster: "c", Talos: "v1.10.0", BMC: BMC{Latency: 1}, LastEvent: "a", LastEventAt: noon.Add(-time.Minute)},
	}

	for presses, want := range []string{
		"r1n2 r1n9 r1n10", // MACHINE: numbers by their value
		"r1n10 r1n2 r1n9", // POWER: off, on, unknown
		"r1n10 r1n2 r1n9", // STAGE: the furthest first
		"r1n9 r1n2 r1n10", // STATUS: what wants a person first
		"r1n10 r1n2 r1n9", // CLUSTER
		"r1n2 r1n9 r1n10", // TALOS: versions by their value
		"r1n10 r1n2 r1n9", // BMC: the slowest first
		"r1n9 r1n10 r1n2", // LAST EVENT
		"r1n10 r1n9 r1n2", // AGE: the newest first
		"r1n2 r1n9 r1n10", // MACHINE again
	} {
		m := opened(&site{snapshot: Snapshot{Rows: slices.Clone(rows)}}, Options{Plain: true}, 120, 30)

		for range presses {
			m = press(m, "s")
		}

		if got := names(m); got != want {
			t.Errorf("sorted by %v: %s, want %s", m.sort, got, want)
		}

		back := strings.Fields(want)
		slices.Reverse(back)

		if m = press(m, "S"); names(m) != strings.Join(back, " ") {
			t.Errorf("reversed: %s, want %v", names(m), back)
		}

		if presses > 0 && !strings.Contains(m.View(), "sorted by "+strings.ToLower(m.columns[m.sort].head)+", reversed") {
			t.Errorf("the order is not said:\n%s", m.View())
		}
	}
}

func names(m Model) string {
	var all []string
	for _, r := range m.shown {
		all = append(all, r.name())
	}

	return strings.Join(all, " ")
}

// TestStatusWordsAreOrderedByTheirUrgency, and words that nobody knows last.
func TestStatusWordsAreOrderedByTheirUrgency(t *testing.T) {
	words := []string{"error", "pending", "removing", "wiping", "accepted", "booting", "off-requested", "cordoned", "rejected", "ready", "running", "whatever"}

	var rows []Row
	for i, word := range words {
		rows = append(rows, Row{ID: itoa(i), Name: fmt.Sprintf("m%02d", len(words)-i), Status: word})
	}

	m := press(opened(&site{snapshot: Snapshot{Rows: rows}}, Options{Plain: true}, 120, 40), "s", "s", "s")

	for i, r := range m.shown {
		if r.Status != words[i] {
			t.Errorf("place %d has %s, want %s", i, r.Status, words[i])
		}
	}
}

// TestTheOrderIsTheSameHoweverTheMachinesCome, for every column.
func TestTheOrderIsTheSameHoweverTheMachinesCome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := slices.Concat(fleet().Rows[:12], strangers())
		key := sortKey(rapid.IntRange(0, int(sortKeys)-1).Draw(t, "key"))
		reverse := rapid.Bool().Draw(t, "reverse")

		sorted := func(rows []Row) string {
			msg := arrived(Snapshot{Rows: rows}, nil, noon)

			shown := make([]*row, len(msg.rows))
			for i := range msg.rows {
				shown[i] = &msg.rows[i]
			}

			order(shown, key, reverse)

			ids := make([]string, len(shown))
			for i, r := range shown {
				ids[i] = r.raw
			}

			return strings.Join(ids, "|")
		}

		if a, b := sorted(slices.Clone(rows)), sorted(rapid.Permutation(rows).Draw(t, "shuffled")); a != b {
			t.Fatalf("by %d:\n%s\n%s", key, a, b)
		}
	})
}

// TestNumbersInNamesAreOrderedByValue whatever stands around them.
func TestNumbersInNamesAreOrderedByValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.IntRange(0, 1<<40).Draw(t, "a"), rapid.IntRange(0, 1<<40).Draw(t, "b")
		before := rapid.StringMatching(`[a-z-]{0,4}`).Draw(t, "before")
		x := natural(fmt.Sprintf("%s%0*d", before, rapid.IntRange(0, 15).Draw(t, "zeros"), a))
		y := natural(fmt.Sprintf("%s%0*d", before, rapid.IntRange(0, 15).Draw(t, "zeros too"), b))

		if (x < y) != (a < b) || (x == y) != (a == b) {
			t.Fatalf("%s%d and %d are ordered as %q and %q", before, a, b, x, y)
		}
	})
}

// TestColumnsFallAway, in the order of the specification, and none overlaps
// another, at every width.
func TestColumnsFallAway(t *testing.T) {
	m := opened(&site{snapshot: fleet()}, Options{Plain: true}, 200, 30)
	falls := []sortKey{byTalos, byCluster, byBMC, byAge}
	gone := -1

	for w := 200; w >= minWidth; w-- {
		places := place(m.columns, w)
		x := 0

		for _, p := range places {
			if p.x < x || p.x+p.w > w || p.w <= 0 {
				t.Fatalf("at %d cells %s lies from %d to %d", w, p.head, p.x, p.x+p.w)
			}

			x = p.x + p.w + gap
		}

		for i, key := range falls {
			there := slices.ContainsFunc(places, func(p placed) bool { return p.key == key })
			if !there && i > gone+1 {
				t.Fatalf("at %d cells %v falls away before %v", w, key, falls[gone+1])
			}

			if !there {
				gone = max(gone, i)
			} else if i <= gone {
				t.Fatalf("at %d cells %v is back", w, key)
			}
		}

		for _, key := range []sortKey{byMachine, byPower, byStage, byStatus, byEvent} {
			if !slices.ContainsFunc(places, func(p placed) bool { return p.key == key }) {
				t.Fatalf("at %d cells %v is missing", w, key)
			}
		}
	}

	if gone != len(falls)-1 {
		t.Errorf("on the narrowest screen %v is still there", falls[gone+1:])
	}
}

// TestColumnsAreAsWideAsTheirTexts up to a limit, and no wider.
func TestColumnsAreAsWideAsTheirTexts(t *testing.T) {
	for name, test := range map[string]struct {
		row  Row
		key  sortKey
		want int
	}{
		"a short name":       {Row{Name: "a"}, byMachine, 7},
		"a name":             {Row{Name: "rack-12-node-34"}, byMachine, 15},
		"an endless name":    {Row{Name: strings.Repeat("x", 300)}, byMachine, 28},
		"a wide name":        {Row{Name: "日本語日本語"}, byMachine, 12},
		"an endless status":  {Row{Status: strings.Repeat("x", 300)}, byStatus, 14},
		"an endless cluster": {Row{Cluster: strings.Repeat("x", 300)}, byCluster, 20},
	} {
		t.Run(name, func(t *testing.T) {
			m := opened(&site{snapshot: Snapshot{Rows: []Row{test.row}}}, Options{Plain: true}, 200, 30)
			if got := m.columns[test.key].natural; got != test.want {
				t.Errorf("%d cells, want %d", got, test.want)
			}
		})
	}
}
