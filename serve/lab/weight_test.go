package lab_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/serve/lab"
	"github.com/bmctl/bmctl/serve/localapi"
)

// benchServe names the bmctl whose serve is measured; where it is empty, what
// takes minutes and the whole machine does not run.
const benchServe = "BMCTL_BENCH_SERVE"

// benchProfiles names a directory for the profiles of what is measured; they are
// taken after the measurement.
const benchProfiles = "BMCTL_BENCH_PROFILES"

// profiles are those of a serve whose metrics are at addr.
type profiles struct{ dir, addr string }

// flags are the flags that have serve offer its profiles.
func (p *profiles) flags(t *testing.T) []string {
	t.Helper()

	if p.dir == "" {
		return nil
	}

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	p.addr = free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}

	return []string{"--metrics-address=" + p.addr}
}

// save writes the profiles of a serve with n machines; that of the CPU is taken
// over the time.
func (p *profiles) save(t *testing.T, n int, over time.Duration) {
	t.Helper()

	if p.dir == "" {
		return
	}

	for _, name := range []string{"heap", "goroutine", fmt.Sprintf("profile?seconds=%.0f", over.Seconds())} {
		resp, err := http.Get("http://" + p.addr + "/debug/pprof/" + name)
		if err != nil {
			t.Fatal(err)
		}

		profile, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", name, resp.Status, err)
		}

		kind, _, _ := strings.Cut(name, "?")
		if err := os.WriteFile(filepath.Join(p.dir, fmt.Sprintf("%s-%d.pprof", kind, n)), profile, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// fleet is a lab of n machines that are ready and off, half of them with
// Redfish BMCs, around the bmctl that is measured, with serve's defaults for
// everything that weighs.
func fleet(t *testing.T, n int, flags ...string) *lab.Lab {
	t.Helper()

	exe := os.Getenv(benchServe)
	if exe == "" {
		t.Skip("set " + benchServe + " to the bmctl to measure, or: make bench-serve")
	}

	return startAlone(t, lab.Config{
		Machines: n, Redfish: n / 2, Settled: true, Exe: exe,
		ServeFlags: append([]string{"--poll-interval=30s", "--poll-timeout=5s"}, flags...),
	})
}

// TestWeight measures memory and CPU of serve while it polls 100, 1,000 and
// 10,000 machines to which nothing happens, over windows of one poll of each.
func TestWeight(t *testing.T) {
	const window = 30 * time.Second

	windows := 7
	if testing.Short() {
		windows = 2
	}

	for _, n := range []int{100, 1000, 10_000} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			profiled := profiles{dir: os.Getenv(benchProfiles)}
			l := fleet(t, n, profiled.flags(t)...)
			pid := served(t, l).PID

			within(t, l, 20*time.Minute, "all are ready and polled", allPolled(l))
			rest(t, 2*window)

			var memory, share []float64

			for range windows {
				before := cpuTime(t, pid)
				begun := time.Now()

				rest(t, window)

				share = append(share, float64(cpuTime(t, pid)-before)/float64(time.Since(begun)))
				memory = append(memory, float64(residentMemory(t, pid))/1e6)
			}

			profiled.save(t, n, window)

			fmt.Printf("| %d | %.0f MB (%s) | %.1f %% of a core (%s) | %s |\n", n,
				median(memory), spread(memory, "%.0f"), 100*median(share), spread(scaled(share, 100), "%.1f"), loadAverage(t))
		})
	}
}

func served(t *testing.T, l *lab.Lab) localapi.Health {
	t.Helper()

	client := localapi.Dial(l.SocketPath())
	defer client.Close()

	health, err := client.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	return health
}

// allPolled tells, called again and again, whether every machine has been reported
// to be ready and serve has had a session with its BMC.
func allPolled(l *lab.Lab) func() bool {
	missing := slices.Clone(l.Machines())

	return func() bool {
		missing = slices.DeleteFunc(missing, func(m *lab.Machine) bool { return m.BMC.Sessions() > 0 && ready(l, m) })

		return len(missing) == 0
	}
}

// rest lets time pass: here it is what is measured.
func rest(t *testing.T, d time.Duration) {
	t.Helper()

	select {
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	case <-time.After(d):
	}
}

// residentMemory is VmRSS of the process, in bytes (proc_pid_status(5)).
func residentMemory(t *testing.T, pid int) int64 {
	t.Helper()

	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}

	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); fields[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}

			return kib << 10
		}
	}

	t.Fatal(errors.New("no VmRSS in the status of serve"))

	return 0
}

// cpuTime is what the process has used of the CPUs, as user and in the kernel
// (proc_pid_stat(5), fields 14 and 15; a tick is 10 ms on every Linux).
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()

	const tick = 10 * time.Millisecond

	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}

	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // the third field is the first

	var ticks int64

	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			t.Fatal(err)
		}

		ticks += n
	}

	return time.Duration(ticks) * tick
}

func loadAverage(t *testing.T) string {
	t.Helper()

	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}

	return strings.Fields(string(text))[1]
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile is the value that so large a part of the values does not exceed.
func quantile(values []float64, part float64) float64 {
	sorted := slices.Sorted(slices.Values(values))

	return sorted[int(part*float64(len(sorted)-1)+0.5)]
}

// spread is the least and the greatest of the values.
func spread(values []float64, format string) string {
	return fmt.Sprintf(format+" to "+format, slices.Min(values), slices.Max(values))
}

func scaled(values []float64, by float64) []float64 {
	product := make([]float64, len(values))
	for i, v := range values {
		product[i] = by * v
	}

	return product
}
