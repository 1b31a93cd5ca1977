package soak_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// holdings is what serve holds on to, and what it has the BMCs hold.
type holdings struct {
	goroutines, descriptors int
	heap, resident          int // bytes
	sessions                int
}

// String tells them in one line.
func (h holdings) String() string {
	const mib = 1 << 20

	return fmt.Sprintf("%d goroutines, %d descriptors, %d MiB heap, %d MiB resident, %d BMC sessions",
		h.goroutines, h.descriptors, h.heap/mib, h.resident/mib, h.sessions)
}

// sessionsEnd is how long a BMC keeps a session that nobody uses: IPMI 2.0,
// section 6.12.15, 60 s; its simulation looks every few seconds.
const sessionsEnd = 75 * time.Second

// measure reads what serve holds once that has become steady: what ends by itself
// has had the time for it.
func (f *fleet) measure(metrics string) holdings {
	f.t.Helper()

	var h holdings

	for begun := time.Now(); time.Since(begun) < sessionsEnd; time.Sleep(2 * time.Second) {
		f.get(metrics, "/debug/pprof/heap?gc=1", func(string) {})

		now := f.read(metrics)
		if steady := now.sessions <= len(f.lab.Machines()) && now.goroutines == h.goroutines && now.descriptors == h.descriptors; steady {
			h = now

			break
		}

		h = now
	}

	f.t.Logf("serve holds %s", h)

	return h
}

func (f *fleet) read(metrics string) holdings {
	var h holdings

	numbers := map[string]*int{
		"go_goroutines": &h.goroutines, "process_open_fds": &h.descriptors,
		"go_memstats_heap_alloc_bytes": &h.heap, "process_resident_memory_bytes": &h.resident,
	}

	f.get(metrics, "/metrics", func(line string) {
		name, value, _ := strings.Cut(line, " ")
		if number := numbers[name]; number != nil {
			parsed, err := strconv.ParseFloat(value, 64)
			f.must(err)

			*number = int(parsed)
		}
	})

	for _, m := range f.lab.Machines() {
		h.sessions += m.BMC.Sessions()
	}

	return h
}

func (f *fleet) get(host, path string, each func(line string)) {
	f.t.Helper()

	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, nil)
	f.must(err)

	response, err := http.DefaultClient.Do(request)
	f.must(err)

	defer response.Body.Close() //nolint:errcheck // read only

	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)

	for lines.Scan() {
		each(lines.Text())
	}
}

// compare demands that serve holds no more than before, but for what varies by
// chance and the events that it keeps. A Redfish service has no word for a client
// that was killed: its session lasts for half an hour.
func (f *fleet) compare(before, after holdings, kills int) {
	f.t.Helper()

	const mib = 1 << 20

	for _, row := range []struct {
		what            string
		was, is, leeway int
	}{
		{"goroutines", before.goroutines, after.goroutines, len(f.lab.Machines())/2 + 10},
		{"descriptors", before.descriptors, after.descriptors, 12},
		{"bytes of heap", before.heap, after.heap, before.heap/2 + 8*mib},
		{"bytes of memory", before.resident, after.resident, before.resident/2 + 48*mib},
		{"BMC sessions", before.sessions, after.sessions, kills},
	} {
		if row.is > row.was+row.leeway {
			f.t.Errorf("serve holds %d %s, before the storm %d", row.is, row.what, row.was)
		}
	}
}
