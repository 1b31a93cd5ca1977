package tui

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// seen makes events of one machine, a second apart, of texts such as "script:
// talos"; "+6m" is a pause.
func seen(texts ...string) []Event {
	at := noon

	var events []Event

	for _, text := range texts {
		if pause, ok := strings.CutPrefix(text, "+"); ok {
			d, err := time.ParseDuration(pause)
			if err != nil {
				panic(err)
			}

			at = at.Add(d)

			continue
		}

		kind, _, _ := strings.Cut(strings.ReplaceAll(text, ":", " "), " ")
		if strings.HasPrefix(text, "boot override") {
			kind = "power"
		}

		at = at.Add(time.Second)
		events = append(events, Event{At: at, MachineID: fleet().Rows[1].ID, Type: kind, Text: text})
	}

	return events
}

// boots are the attempts as texts: the types of their steps.
func boots(all []attempt) string {
	texts := make([]string, len(all))

	for i, a := range all {
		kinds := make([]string, len(a.steps))
		for k, s := range a.steps {
			if kinds[k] = s.Type; s.times > 1 {
				kinds[k] += "x" + itoa(s.times)
			}
		}

		texts[i] = strings.Join(kinds, " ")
	}

	return strings.Join(texts, "; ")
}

func TestEventsAreTakenApartIntoBoots(t *testing.T) {
	whole := []string{"discover a", "request a", "loader a", "discover b", "script: agent", "agent connected"}

	for name, test := range map[string]struct {
		events []string
		want   string
	}{
		"nothing":                    {nil, ""},
		"nothing of a boot":          {[]string{"accepted", "held", "reading power is on"}, ""},
		"one":                        {whole, "discover request loader discover script agent"},
		"two":                        {append(slices.Clone(whole), whole...), "discover request loader discover script agent; discover request loader discover script agent"},
		"the loader's own discover":  {[]string{"discover a", "loader a", "discover b"}, "discover loader discover"},
		"a discover again and again": {[]string{"discover a", "discover a", "discover a"}, "discoverx3"},
		"told to wait":               {[]string{"script: wait", "script: wait", "script: talos"}, "scriptx2 script"},
		"power begins one":           {append(slices.Clone(whole), "power cycle", "discover a"), "discover request loader discover script agent; power discover"},
		"override and power are one": {[]string{"boot override: pxe, once", "power on", "discover a"}, "power power discover"},
		"power off begins none":      {append(slices.Clone(whole), "power off"), "discover request loader discover script agent power"},
		"the agent goes after the act that makes it go": {
			append(slices.Clone(whole), "power cycle", "agent gone", "discover a"), "discover request loader discover script agent agent; power discover",
		},
		"an agent that was never there": {[]string{"agent gone", "power on", "agent gone", "discover a"}, "power discover"},
		"an end without a beginning":    {[]string{"power off", "power off"}, ""},
		"silence":                       {[]string{"discover a", "+6m", "discover a"}, "discover; discover"},
		"a short silence":               {[]string{"discover a", "+4m", "discover a"}, "discoverx2"},
		"a wipe takes its time":         {append(slices.Clone(whole), "+2h", "wiped in 2h0m0s"), "discover request loader discover script agent wiped"},
		"assets":                        {[]string{"script: talos", "kernel vmlinuz", "initrd i", "discover a"}, "script kernel initrd; discover"},
	} {
		t.Run(name, func(t *testing.T) {
			events := seen(test.events...)
			for i := range events {
				if events[i].Type == "wiped" {
					events[i].Type = "wipe"
				}
			}

			if got := boots(attempts(events)); got != strings.ReplaceAll(test.want, "wiped", "wipe") {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestNoEventOfABootIsLost holds for events of any kind in any order.
func TestNoEventOfABootIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(rapid.Custom(anyEvent), 0, 40).Draw(t, "events")
		slices.SortStableFunc(events, func(a, b Event) int { return a.At.Compare(b.At) })

		wanted := 0
		for _, e := range events {
			known := wanted > 0 || e.Type != "power" || begins(e)
			wanted += one(bootType(e.Type) && !leaves(e) && known)
		}

		all := attempts(events)
		kept := 0

		for i, a := range all {
			if a.number != i+1 || len(a.steps) == 0 {
				t.Fatalf("attempt %d is numbered %d and has %d steps", i+1, a.number, len(a.steps))
			}

			for _, s := range a.steps {
				kept += one(!leaves(s.Event)) * s.times
			}
		}

		if kept != wanted {
			t.Fatalf("%d of %d events are kept: %s", kept, wanted, boots(all))
		}
	})
}

// TestTheBootPane looks at how each step is told, with all that it tells and
// with nothing of it.
func TestTheBootPane(t *testing.T) {
	const mac = "3c:ec:ef:12:34:02"

	for name, test := range map[string]struct {
		event Event
		want  string
	}{
		"discover": {
			Event{Type: "discover", MAC: mac, Interface: "eno1", Arch: "arm64", File: "snp-arm64.efi", Text: "discover snp-arm64.efi", Reason: "UEFI"},
			"dhcp discover eno1 3c:ec:ef:12:34:02 arm64 offered snp-arm64.efi because: UEFI",
		},
		"discover without its fields": {Event{Type: "discover", Text: "discover ipxe.efi"}, "dhcp discover offered ipxe.efi"},
		"discover with nothing":       {Event{Type: "discover"}, "dhcp discover"},
		"an offered address": {
			Event{Type: "discover", MAC: mac, File: "http://10.0.2.5/ipxe/init.ipxe"}, "dhcp discover 3c:ec:ef:12:34:02 offered init.ipxe",
		},
		"request":         {Event{Type: "request", Address: "10.0.2.7", File: "ipxe.efi"}, "pxe request 10.0.2.7 offered ipxe.efi"},
		"loader":          {Event{Type: "loader", File: "ipxe.efi", Bytes: 1035264, Duration: 41 * time.Millisecond}, "tftp ipxe.efi 1011 KiB 41 ms"},
		"loader so far":   {Event{Type: "loader", File: "ipxe.efi", Text: "loader ipxe.efi"}, "tftp ipxe.efi"},
		"script":          {Event{Type: "script", Decision: "talos", Text: "script: talos", Reason: "allocated"}, "ipxe script talos because: allocated"},
		"an older script": {Event{Type: "script", Text: "script: disk"}, "ipxe script disk"},
		"kernel": {
			Event{Type: "kernel", File: "/assets/kernel-amd64", Bytes: 18 << 20, Duration: 2500 * time.Millisecond, Reason: "from the asset cache"},
			"kernel kernel-amd64 18 MiB 2.5 s because: from the asset cache",
		},
		"initrd":  {Event{Type: "initrd", File: "initramfs.xz", Bytes: 3 << 30, Duration: 134 * time.Second}, "initrd initramfs.xz 3.0 GiB 2m14s"},
		"agent":   {Event{Type: "agent", Text: "agent connected"}, "agent connected"},
		"wiped":   {Event{Type: "wipe", Text: "wiped in 1s"}, "wipe wiped in 1s"},
		"wiping":  {Event{Type: "wipe", Text: "wipe begun"}, "wipe begun"},
		"ignored": {Event{Type: "ignored", MAC: mac, Text: "ignored", Reason: "not a network boot"}, "ignored because: not a network boot"},
	} {
		t.Run(name, func(t *testing.T) {
			test.event.MachineID, test.event.At = fleet().Rows[1].ID, noon.Add(-time.Second)

			for _, w := range []int{80, 120} {
				s := &site{snapshot: fleet(), events: []Event{test.event}}
				s.snapshot.Rows[1].Stage = "" // nothing is waited for
				m := press(opened(s, Options{Plain: true}, w, 30), "j", "j", "2", "enter")

				want := test.want
				if w < splitWidth {
					want = strings.Replace(want, "eno1 ", "", 1) // no room for it
				}

				if problem := lacks(m, "Boot attempt #1 14:02:10.000 "+want); problem != "" {
					t.Error(problem)
				}
			}
		})
	}
}

func TestWhatABootWaitsFor(t *testing.T) {
	for text, want := range map[string]string{
		"power on":       "+1s dhcp discover waiting: the firmware is starting",
		"discover a":     "+1s tftp waiting: the firmware fetches the loader",
		"loader a":       "+1s ipxe script waiting: the loader asks what to boot",
		"script: agent":  "+1s agent waiting: kernel and agent are loading",
		"script: talos":  "+1s kernel waiting: from the image factory, not seen here",
		"script: wait":   "+1s ipxe script waiting: it was told to ask again",
		"script: disk":   "",
		"kernel vmlinuz": "+1s kernel waiting: from the image factory, not seen here",
		"ignored":        "",
		"power off":      "",
	} {
		s := &site{snapshot: fleet(), events: seen(text)}
		m := press(opened(s, Options{Plain: true}, 120, 30), "j", "j")
		m = feed(m, tickMsg(noon.Add(2*time.Second)))

		if problem := lacks(m, want); problem != "" || want == "" && strings.Contains(m.View(), "waiting:") {
			t.Errorf("after %q: %s", text, problem)
		}
	}
}

func TestFirmwareOfAnotherNIC(t *testing.T) {
	id, other := fleet().Rows[1].ID, "3c:ec:ef:99:99:99"
	events := []Event{
		{At: noon.Add(-3 * time.Second), MAC: other, Type: "discover", File: "ipxe.efi"},
		{At: noon.Add(-2 * time.Second), MAC: "3c:ec:ef:77:77:77", Type: "discover", File: "of-another-machine"},
		{At: noon.Add(-time.Second), MachineID: id, MAC: other, Type: "script", Decision: "talos"},
	}
	m := press(opened(&site{snapshot: fleet(), events: events}, Options{Plain: true}, 120, 30), "j", "j")

	if problem := lacks(m, "dhcp discover 3c:ec:ef:99:99:99 offered ipxe.efi"); problem != "" {
		t.Error(problem)
	}

	if strings.Contains(m.View(), "of-another-machine") {
		t.Errorf("the boot of another machine:\n%s", m.View())
	}
}

func TestTimesAndSizes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 0: "0 ms", 300 * time.Microsecond: "<1 ms", 181 * time.Millisecond: "181 ms", 999999 * time.Microsecond: "999 ms",
		5800 * time.Millisecond: "5.8 s", 134500 * time.Millisecond: "2m14s", 3 * time.Hour: "3h0m0s",
	} {
		if got := took(d); got != want {
			t.Errorf("took(%v) = %q, want %q", d, got, want)
		}
	}

	for n, want := range map[int64]string{-1: "0 B", 0: "0 B", 512: "512 B", 1023: "1023 B", 1024: "1.0 KiB", 1035264: "1011 KiB", 1 << 20: "1.0 MiB", 200 << 20: "200 MiB", 5 << 40: "5.0 TiB", 1 << 60: "1048576 TiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}

	for d, want := range map[time.Duration]string{-time.Second: "0s", 59 * time.Second: "59s", time.Hour: "1h", 47 * time.Hour: "47h", 48 * time.Hour: "2d"} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %q, want %q", d, got, want)
		}
	}

	if got := fmt.Sprint(since(time.Time{}, noon), latency(0), latency(20*time.Millisecond), latency(12*time.Second)); got != "-<1ms20ms12s" {
		t.Errorf("got %q", got)
	}
}
