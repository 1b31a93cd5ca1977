package lab_test

import (
	"testing"
	"time"

	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/lab"
)

// BenchmarkReaction measures how soon serve acts, medians over the rounds. Each
// round is a machine's life.
//
//   - accepted-to-wipe: from an acceptance in Omni, of a machine whose agent is
//     there, to the call that wipes; the BMC set-up lies in between.
//   - allocated-to-power-on: from an allocation in Omni to the power on that
//     reaches the BMC, the boot override set before.
//   - agent-to-wipe: from the agent's connection, of a machine that left its
//     cluster, to the call that wipes.
func BenchmarkReaction(b *testing.B) {
	const wipe = 500 * time.Millisecond

	var accepted, allocated, connected []float64

	for range b.N {
		l := start(b, lab.Config{Machines: 1, MinRebootInterval: time.Second, Wipe: wipe, POST: 50 * time.Millisecond, Install: 50 * time.Millisecond})
		m := l.Machines()[0]

		eventually(b, l, "its agent is there", func() bool { return view(b, l, m).Stage == "agent" })

		begun := time.Now()
		if err := l.Omni().Accept(m.UUID); err != nil {
			b.Fatal(err)
		}

		settled(b, l, m)

		accepted = append(accepted, milliseconds(m.Wipes()[0].Sub(begun)-wipe))
		begun = time.Now()

		if err := l.Omni().Allocate(m.UUID, "prod", "1.13.5", nil); err != nil {
			b.Fatal(err)
		}

		eventually(b, l, "switched on", func() bool { return count(m, bmcsim.ActOn) == 2 })

		acts := m.BMC.Acts()
		allocated = append(allocated, milliseconds(acts[len(acts)-1].At.Sub(begun)))

		eventually(b, l, "installed", func() bool {
			status, err := l.Status(m)

			return err == nil && status.TypedSpec().Value.Installed
		})

		if err := l.Omni().Deallocate(m.UUID); err != nil {
			b.Fatal(err)
		}

		var since time.Time

		eventually(b, l, "its agent is there again", func() bool { since = view(b, l, m).AgentSince; return !since.IsZero() })
		eventually(b, l, "wiped again", func() bool { return len(m.Wipes()) == 2 })

		connected = append(connected, milliseconds(m.Wipes()[1].Sub(since)-wipe))
	}

	b.ReportMetric(median(accepted), "ms/accepted-to-wipe")
	b.ReportMetric(median(allocated), "ms/allocated-to-power-on")
	b.ReportMetric(median(connected), "ms/agent-to-wipe")
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
