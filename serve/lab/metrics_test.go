package lab_test

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/serve/lab"
)

// TestMetricsOfALab: the gauges of machines, agents and BMCs count what the lab's
// machines are, before and after two of three are accepted, and the age of what is
// known is that of Omni's last word.
func TestMetricsOfALab(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second, Machines: 3, ServeFlags: []string{"--metrics-address=" + addr}})
	become := func(what string, want map[string]float64) {
		t.Helper()

		var got map[string]float64

		defer func() {
			if t.Failed() {
				t.Logf("%s: got %v, want %v", what, got, want)
			}
		}()

		eventually(t, l, what, func() bool {
			got = scrape(t, addr, slices.Collect(maps.Keys(want))...)

			return maps.Equal(got, want)
		})
	}

	pending, ready := `bmctl_machines{status="pending"}`, `bmctl_machines{status="ready"}`
	become("three agents wait", map[string]float64{"bmctl_agents": 3, pending: 3, "bmctl_acting": 1})

	for _, m := range l.Machines()[:2] {
		must(t, l.Omni().Accept(m.UUID))
	}

	for _, m := range l.Machines()[:2] {
		settled(t, l, m)
	}

	become("two are ready and off, one waits", map[string]float64{"bmctl_agents": 1, pending: 1, ready: 2, "bmctl_bmc_failing": 0, "bmctl_acting": 1})

	latency := `bmctl_bmc_latency_seconds{machine="` + l.Machines()[0].UUID + `"}`
	if got := scrape(t, addr, latency)[latency]; got <= 0 || got > 60 {
		t.Errorf("%s is %v", latency, got)
	}

	ages(t, l, addr)
}

// ages: without Omni the age grows with the time; the first word after it is back
// is younger than that.
func ages(t *testing.T, l *lab.Lab, addr string) {
	t.Helper()

	const name = "bmctl_omni_age_seconds"

	must(t, l.StopOmni())

	away := time.Now()

	eventually(t, l, "an age of seconds", func() bool { // a word that was on its way may have come after the stop
		gone := time.Since(away).Seconds()

		return gone > 2 && scrape(t, addr, name)[name] >= gone/2
	})
	must(t, l.StartOmni())

	back := time.Now()

	within(t, l, time.Minute, "a word of Omni", func() bool {
		age, there := scrape(t, addr, name)[name]

		return there && age < time.Since(back).Seconds()
	})
}

// scrape reads the named values, as Prometheus' text format has them; what is not
// there is absent.
func scrape(t *testing.T, addr string, names ...string) map[string]float64 {
	t.Helper()

	got := map[string]float64{}

	for line := range strings.Lines(fetch(t, http.DefaultClient, "http://"+addr+"/metrics")) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !slices.Contains(names, name) {
			continue
		}

		value, err := strconv.ParseFloat(text, 64)
		must(t, err)

		got[name] = value
	}

	return got
}
