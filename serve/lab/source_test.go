package lab_test

import (
	"testing"
	"time"

	"github.com/bmctl/bmctl/serve/lab"
)

// TestSourceKnownAfterRestart: a machine asks for its script before Omni knows it,
// and joins; when serve is killed then, its agent is still known by its address.
func TestSourceKnownAfterRestart(t *testing.T) {
	l := start(t, lab.Config{Machines: 1, Speed: 4, MinRebootInterval: time.Second, ServeFlags: []string{"--agent-source-check=enforce"}})
	m := l.Machines()[0]

	eventually(t, l, "its agent is there", func() bool { return view(t, l, m).Stage == "agent" })
	l.KillServe()
	must(t, l.StartServe(t.Context()))
	eventually(t, l, "its agent is there again", func() bool { return view(t, l, m).Stage == "agent" })
}
