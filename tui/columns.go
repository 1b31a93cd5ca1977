package tui

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// column is one column of the table.
type column struct {
	key  sortKey
	head string
	// natural is the width that its texts need, floor the least it may have.
	natural, floor int
}

const (
	gutter    = 3 // cursor, mark and a space
	gap       = 2 // between columns
	barWidth  = 7 // of the stage's bar
	eventLess = 24
	shortID   = 7 // of a machine without a name
)

// cell is a text with its role.
type cell struct {
	text string
	role role
}

// cellOf is the text of a machine in the column.
func (m *Model) cellOf(key sortKey, r *row) cell {
	switch key {
	case byMachine:
		return m.nameCell(r)
	case byPower:
		return m.powerCell(r)
	case byStage:
		return m.stageCell(r)
	case byStatus:
		return m.statusCell(r)
	case byCluster:
		return m.omniCell(r.Cluster)
	case byTalos:
		return m.omniCell(r.Talos)
	case byBMC:
		return bmcCell(r)
	case byEvent:
		return cell{cmp.Or(r.LastEvent, "-"), plain}
	default:
		return cell{since(r.LastEventAt, m.now), faint}
	}
}

func (m *Model) nameCell(r *row) cell {
	if r.named() {
		return cell{r.Name, plain}
	}

	return cell{cmp.Or(cut(r.ID, shortID, m.theme.ellipsis), "?"), plain}
}

func (m *Model) powerCell(r *row) cell {
	switch r.Power {
	case "on":
		return cell{m.theme.on + " on", good}
	case "off":
		return cell{m.theme.off + " off", faint}
	case "":
		return cell{"?", warn}
	default:
		return cell{strings.TrimSuffix("? "+since(r.PowerAt, m.now), " -"), warn}
	}
}

func (m *Model) stageCell(r *row) cell {
	done := slices.Index(Stages(), r.Stage) + 1
	if done == 0 {
		return cell{cmp.Or(r.Stage, "-"), faint}
	}

	bar := strings.Repeat(m.theme.full, done) + strings.Repeat(m.theme.empty, barWidth-done)

	return cell{bar + " " + r.Stage, accent}
}

func (m *Model) statusCell(r *row) cell {
	c := cell{cmp.Or(r.Status, "-"), plain}

	switch r.Status {
	case "pending":
		c = cell{"PENDING", warn} // it waits for a person
	case "error":
		c.role = bad
	case "ready", "running":
		c.role = good
	case "booting", "wiping", "accepted":
		c.role = accent
	case "rejected", "cordoned", "removing", "off-requested":
		c.role = faint
	}

	return m.stale(c)
}

func (m *Model) omniCell(text string) cell {
	if text == "" {
		return cell{"-", faint}
	}

	return m.stale(cell{text, plain})
}

// stale marks what cannot be known to be true any more.
func (m *Model) stale(c cell) cell {
	if !m.health.OmniDown && m.failure == nil {
		return c
	}

	return cell{c.text + "~", faint}
}

func bmcCell(r *row) cell {
	switch {
	case r.BMC.Error != "" && r.BMC.Latency == 0:
		return cell{"no answer", warn}
	case r.BMC.Protocol == "" && r.BMC.Address == "":
		return cell{"unknown", faint}
	case r.BMC.Latency == 0:
		return cell{cmp.Or(r.BMC.Protocol, "?"), plain}
	default:
		return cell{fmt.Sprintf("%-7s %5s", cmp.Or(r.BMC.Protocol, "?"), latency(r.BMC.Latency)), plain}
	}
}

func latency(d time.Duration) string {
	if d < time.Millisecond {
		return "<1ms"
	}

	if d < 10*time.Second {
		return itoa(int(d.Milliseconds())) + "ms"
	}

	return itoa(int(d/time.Second)) + "s"
}

// measure finds how wide the columns want to be for the machines shown.
func (m *Model) measure() {
	m.columns = []column{
		{byMachine, "MACHINE", 7, 7}, {byPower, "POWER", 6, 5}, {byStage, "STAGE", barWidth + 9, 8}, {byStatus, "STATUS", 8, 6},
		{byCluster, "CLUSTER", 7, 7}, {byTalos, "TALOS", 7, 7}, {byBMC, "BMC", 13, 9}, {byEvent, "LAST EVENT", 0, 10}, {byAge, "AGE", 4, 4},
	}
	caps := map[sortKey]int{byMachine: 28, byStatus: 14, byCluster: 20, byTalos: 16}

	for i := range m.columns {
		c := &m.columns[i]

		limit, varies := caps[c.key]
		if !varies {
			continue
		}

		for _, r := range m.shown {
			if c.natural >= limit {
				break
			}

			c.natural = min(limit, max(c.natural, width(m.cellOf(c.key, r).text)))
		}
	}
}

// placed is a column with the place it got.
type placed struct {
	column
	x, w int
}

// place gives the columns their places on w cells. Too wide, they fall away in
// this order: TALOS, CLUSTER, BMC, AGE; then the stage loses its bar and the
// machine's name is shortened. LAST EVENT has what is left.
func place(columns []column, w int) []placed {
	columns = slices.Clone(columns)

	for _, key := range []sortKey{byTalos, byCluster, byBMC, byAge} {
		if rest(columns, w) >= eventLess {
			break
		}

		columns = slices.DeleteFunc(columns, func(c column) bool { return c.key == key })
	}

	for _, key := range []sortKey{byMachine, byStage, byStatus, byPower} {
		i := slices.IndexFunc(columns, func(c column) bool { return c.key == key })
		if short := eventLess - rest(columns, w); short > 0 && i >= 0 {
			columns[i].natural = max(columns[i].floor, columns[i].natural-short)
		}
	}

	var result []placed

	x, left := gutter, rest(columns, w)
	for _, c := range columns {
		if c.key == byEvent {
			c.natural = max(0, left)
		}

		if c.natural = min(c.natural, w-x); c.natural > 0 {
			result = append(result, placed{c, x, c.natural})
		}

		x += c.natural + gap
	}

	return result
}

// rest is what the columns leave to LAST EVENT.
func rest(columns []column, w int) int {
	for _, c := range columns {
		if c.key != byEvent {
			w -= c.natural + gap
		}
	}

	return w - gutter
}
