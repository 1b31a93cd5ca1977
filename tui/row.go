package tui

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// row is a machine whose texts are harmless; raw is the id as the Source knows
// it.
type row struct {
	Row
	raw  string
	sort string // the name, so that r1n9 stands before r1n10
}

func newRow(r Row) row {
	raw := r.ID

	for _, text := range []*string{
		&r.ID, &r.Name, &r.Power, &r.LastPower, &r.Stage, &r.Status, &r.Reason, &r.Cluster, &r.Role, &r.Talos, &r.BMC.Protocol, &r.BMC.Address, &r.BMC.Error,
		&r.LastEvent, &r.Held, &r.MAC, &r.Address, &r.Serial, &r.BootDecision, &r.BootReason,
	} {
		*text = clean(*text)
	}

	n := row{Row: r, raw: raw}
	n.sort = natural(n.name())

	return n
}

// name is what people call the machine.
func (r *row) name() string { return cmp.Or(r.Name, firstBlock(r.ID), "?") }

// named tells whether it has a name of its own.
func (r *row) named() bool { return r.Name != "" && r.Name != firstBlock(r.ID) }

// booting tells whether the machine is on its way up.
func (r *row) booting() bool {
	return r.Power == "on" && (r.Status == "booting" || r.Stage != "" && r.Stage != "agent")
}

// natural is a key whose order is people's: numbers by their value.
func natural(name string) string {
	var b strings.Builder

	for i := 0; i < len(name); {
		end := i
		for end < len(name) && name[end] >= '0' && name[end] <= '9' {
			end++
		}

		if end == i {
			b.WriteByte(name[i])
			i++

			continue
		}

		digits := strings.TrimLeft(name[i:end], "0")
		b.WriteByte('0' + byte(min(len(digits), 'z'-'0'))) // longer is larger
		b.WriteString(digits)
		i = end
	}

	return b.String()
}

// Stages are the steps of a network boot in their order.
func Stages() []string {
	return []string{"discover", "request", "loader", "script", "kernel", "initrd", "agent"}
}

// sortKey is what the table is ordered by: a column.
type sortKey int

const (
	byMachine sortKey = iota
	byPower
	byStage
	byStatus
	byCluster
	byTalos
	byBMC
	byEvent
	byAge
	sortKeys // their number
)

// compare orders by the key alone.
func (k sortKey) compare(a, b *row) int {
	switch k {
	case byPower:
		return cmp.Compare(a.Power, b.Power)
	case byStage:
		return cmp.Compare(slices.Index(Stages(), b.Stage), slices.Index(Stages(), a.Stage)) // the furthest first
	case byStatus:
		return cmp.Compare(urgency(a.Status), urgency(b.Status))
	case byCluster:
		return cmp.Compare(a.Cluster, b.Cluster)
	case byTalos:
		return cmp.Compare(natural(a.Talos), natural(b.Talos))
	case byBMC:
		return cmp.Compare(b.BMC.Latency, a.BMC.Latency) // the slowest first
	case byEvent:
		return cmp.Compare(a.LastEvent, b.LastEvent)
	case byAge:
		return b.LastEventAt.Compare(a.LastEventAt) // the newest first
	default:
		return 0
	}
}

// urgency orders the status words by how much they want a person.
func urgency(status string) int {
	words := []string{"error", "pending", "removing", "wiping", "accepted", "booting", "off-requested", "cordoned", "rejected", "ready", "running"}
	if i := slices.Index(words, status); i >= 0 {
		return i
	}

	return len(words)
}

// order sorts the rows; machines that the key holds equal stand by name, then id.
func order(rows []*row, key sortKey, reverse bool) {
	slices.SortFunc(rows, func(a, b *row) int {
		c := cmp.Or(key.compare(a, b), strings.Compare(a.sort, b.sort), strings.Compare(a.raw, b.raw))
		if reverse {
			return -c
		}

		return c
	})
}

// age is a duration as tables have it: 41s, 6m, 3h, 12d.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		return itoa(int(d/time.Minute)) + "m"
	case d < 48*time.Hour:
		return itoa(int(d/time.Hour)) + "h"
	default:
		return itoa(int(d/(24*time.Hour))) + "d"
	}
}

// since is the age of a moment; "-" where it is not known.
func since(at, now time.Time) string {
	if at.IsZero() {
		return "-"
	}

	return age(now.Sub(at))
}

// took is how long something lasted: 181 ms, 5.8 s, 2m14s.
func took(d time.Duration) string {
	switch {
	case d <= 0:
		return "0 ms"
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return itoa(int(d.Milliseconds())) + " ms"
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	default:
		return d.Truncate(time.Second).String()
	}
}

// size is a number of bytes: 512 B, 1.0 MiB, 87 MiB.
func size(bytes int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	n, unit := float64(max(0, bytes)), 0

	for n >= 1024 && unit < len(units)-1 {
		n, unit = n/1024, unit+1
	}

	return strconv.FormatFloat(n, 'f', one(unit > 0 && n < 10), 64) + " " + units[unit]
}

// clusterAndRole is the cluster, and what the machine is there: "prod (worker)".
func (r *row) clusterAndRole() string {
	if r.Cluster == "" || r.Role == "" {
		return r.Cluster
	}

	return r.Cluster + " (" + r.Role + ")"
}
