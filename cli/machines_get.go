package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
)

func labelSet(set map[string]string) labels.Set { return labels.Set(set) }

// describe writes all that is known of the machines, a line for each fact. What
// is not known is said to be so.
func (a *app) describe(machines []localapi.Machine) error {
	var text strings.Builder

	for i, m := range machines {
		if i > 0 {
			text.WriteString("\n")
		}

		for _, fact := range machineFacts(m, time.Now()) {
			fmt.Fprintf(&text, "%-14s %s\n", fact[0], out.Clean(cmp.Or(fact[1], "unknown")))
		}
	}

	_, err := fmt.Fprint(a.stdout, text.String())

	return err
}

func machineFacts(m localapi.Machine, now time.Time) [][2]string {
	return [][2]string{
		{"machine", m.Name},
		{"id", m.ID},
		{"status", m.Status},
		{"reason", m.Reason},
		{"held", cmp.Or(m.Held, "no")},
		{"power", since(m.Power, m.PowerAt, now)},
		{"stage", cmp.Or(m.Stage, "none")},
		{"boot attempt", bootAttempt(m.BootAttempt)},
		{"cluster", cmp.Or(m.Cluster, "none")},
		{"role", cmp.Or(m.Role, "none")},
		{"talos", cmp.Or(m.TalosVersion, "none wanted")},
		{"accepted", yesNo(m.Accepted)},
		{"ready to use", yesNo(m.ReadyToUse)},
		{"installed", yesNo(m.Installed)},
		{"cordoned", yesNo(m.Cordoned)},
		{"next boot", m.BootDecision},
		{"because", m.BootReason},
		{"bmc", strings.TrimSpace(m.BMC.Protocol + " " + m.BMC.Address)},
		{"bmc latency", latency(m.BMC.LatencySeconds)},
		{"bmc error", cmp.Or(m.BMC.Error, "none")},
		{"model", strings.TrimSpace(m.Vendor + " " + m.Model)},
		{"serial", m.Serial},
		{"mac", m.MAC},
		{"address", m.Address},
		{"first seen", since("", m.FirstSeen, now)},
		{"agent", agentSince(m, now)},
		{"last event", since(m.LastEvent.Text, m.LastEvent.At, now)},
		{"labels", cmp.Or(labelText(m.Labels), "none")},
	}
}

func since(text string, at, now time.Time) string {
	if at.IsZero() {
		return text
	}

	return strings.TrimSpace(fmt.Sprintf("%s %s ago (%s)", text, out.Age(now.Sub(at)), at.UTC().Format(time.RFC3339)))
}

func agentSince(m localapi.Machine, now time.Time) string {
	if m.AgentSince.IsZero() {
		return "not connected"
	}

	return since("connected", m.AgentSince, now)
}

func latency(seconds float64) string {
	if seconds == 0 {
		return ""
	}

	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond).String()
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}

	return "no"
}

func labelText(set map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(set)) {
		pairs = append(pairs, key+"="+set[key])
	}

	return strings.Join(pairs, ",")
}

// bootAttempt is how often the machine booted from the network since serve started.
func bootAttempt(number int) string {
	if number == 0 {
		return "none"
	}

	return fmt.Sprintf("#%d", number)
}
