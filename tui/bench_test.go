package tui

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

const many = 10000

// crowd is a site of many machines.
func crowd() *site {
	s := &site{snapshot: Snapshot{At: noon, Health: fleet().Health}}

	for i := range many {
		r := fleet().Rows[i%9]
		r.ID = fmt.Sprintf("%08x-7a1e-4b02-9f3c-1b5d3c9be6f1", uint32(i)*2654435761)
		r.Name = fmt.Sprintf("rack%dn%02d", i/42, i%42)
		s.snapshot.Rows = append(s.snapshot.Rows, r)
	}

	return s
}

// updates are the messages whose update and frame must not be felt.
func updates(s *site) map[string]tea.Msg {
	return map[string]tea.Msg{
		"snapshot": arrived(s.snapshot, nil, noon), "key": keyMsg("j"), "end": keyMsg("G"), "sort": keyMsg("s"), "select all": keyMsg("*"),
		"tick": tickMsg(noon.Add(time.Second)), "events": eventsMsg{events: bootEvents()}, "power": keyMsg("p"),
	}
}

// BenchmarkUpdateAndFrame is one message among 10,000 machines and the screen
// after it.
func BenchmarkUpdateAndFrame(b *testing.B) {
	s := crowd()

	for name, msg := range updates(s) {
		for _, how := range []string{"", " filtered", " all selected"} {
			b.Run(name+how, func(b *testing.B) {
				m := opened(s, Options{}, 200, 60)

				switch how {
				case " filtered":
					m = press(m, append(append([]string{"/"}, typed("n1")...), "enter")...)
				case " all selected":
					m = press(m, "*")
				}

				before := processorTime(b)

				for b.Loop() {
					next, _ := m.Update(msg)
					_ = next.View()
				}

				b.ReportMetric(float64(processorTime(b)-before)/float64(time.Millisecond)/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

// processorTime is what the process has used of the processors: unlike the time
// that passes it does not tell of what else they do.
func processorTime(b *testing.B) time.Duration {
	b.Helper()

	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}

	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func TestManyMachinesCanBeLeft(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()

	if msg := follow(ctx, crowd())(); msg != nil {
		t.Errorf("after the end there is still %v", msg)
	}
}
