package lab_test

import (
	"testing"
	"time"

	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/lab"
)

// BenchmarkReaction measures how soon serve acts: from an acceptance in Omni to
// the call that wipes (the BMC set-up lies in between), and from an allocation to
// the power on that reaches the BMC. Each round is a machine's life.
func BenchmarkReaction(b *testing.B) {
	const wipe = 50 * time.Millisecond

	var accepted, allocated time.Duration

	for range b.N {
		l := start(b, lab.Config{Machines: 1, MinRebootInterval: time.Second, Wipe: wipe, POST: 50 * time.Millisecond})
		m := l.Machines()[0]

		eventually(b, l, "its agent is there", func() bool { return view(b, l, m).Stage == "agent" })

		begun := time.Now()
		if err := l.Omni().Accept(m.UUID); err != nil {
			b.Fatal(err)
		}

		settled(b, l, m)

		accepted += m.Wipes()[0].Sub(begun) - wipe
		begun = time.Now()

		if err := l.Omni().Allocate(m.UUID, "prod", "1.13.5", nil); err != nil {
			b.Fatal(err)
		}

		eventually(b, l, "switched on", func() bool { return count(m, bmcsim.ActOn) == 2 })

		acts := m.BMC.Acts()
		allocated += acts[len(acts)-1].At.Sub(begun)
	}

	b.ReportMetric(float64(accepted.Milliseconds())/float64(b.N), "ms/accepted-to-wipe")
	b.ReportMetric(float64(allocated.Milliseconds())/float64(b.N), "ms/allocated-to-power-on")
}
