package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/tui"
)

// sourceOf is the view's source of an inventory, without anybody to ask.
func sourceOf(hosts map[string]config.Host, seen ...localapi.Machine) *tuiSource {
	a := newApp(nil, nil, nil, nil)
	a.file.Hosts = hosts

	return &tuiSource{
		a: a, console: true, seen: seen, names: a.file.NamesByID(), addresses: a.file.NamesByAddress(), consoles: consoles{last: map[string]*heard{}},
	}
}

// TestWhyServeWouldNotSwitchAMachine goes through what serve refuses, in words
// that say what to do about it.
func TestWhyServeWouldNotSwitchAMachine(t *testing.T) {
	able := localapi.Machine{ID: "1", Accepted: true, BMC: localapi.BMC{Address: "10.0.3.1"}}

	for name, test := range map[string]struct {
		change func(*localapi.Machine)
		want   string
	}{
		"it would":       {func(*localapi.Machine) {}, ""},
		"pending":        {func(m *localapi.Machine) { m.Accepted = false }, "once it is accepted"},
		"cordoned":       {func(m *localapi.Machine) { m.Cordoned = true }, "it is cordoned"},
		"held":           {func(m *localapi.Machine) { m.Held = "two hosts claim it" }, "holds it: two hosts claim it"},
		"no BMC yet":     {func(m *localapi.Machine) { m.BMC.Address = "" }, "has no access to it yet"},
		"in a cluster":   {func(m *localapi.Machine) { m.Cluster = "prod" }, ""},
		"never accepted": {func(m *localapi.Machine) { *m = localapi.Machine{} }, "once it is accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			m := able
			test.change(&m)

			why := unserved(m)
			if (why == "") != (test.want == "") || !strings.Contains(why, test.want) {
				t.Errorf("%q, want %q", why, test.want)
			}

			cannot := sourceOf(nil).refusals()("", why)
			for _, verb := range powerVerbs() {
				if cannot[verb] != why {
					t.Errorf("%s: %q, want %q", verb, cannot[verb], why)
				}
			}
		})
	}
}

// TestTheInventoryIsEnough: what serve thinks of a machine does not keep anybody
// from switching it over its BMC.
func TestTheInventoryIsEnough(t *testing.T) {
	s := sourceOf(map[string]config.Host{"r1n01": {Address: "10.0.3.1", Protocol: "ipmi"}, "r1n02": {Address: "10.0.3.2", Protocol: "redfish"}})
	refusals := s.refusals()

	if cannot := refusals("r1n01", "serve would not"); len(cannot) > 0 {
		t.Errorf("of r1n01: %v", cannot)
	}

	if cannot := refusals("r1n02", "serve would not"); len(cannot) != 1 || !strings.Contains(cannot[tui.Console], "redfish") {
		t.Errorf("of r1n02: %v", cannot)
	}

	s.consoles.last["r1n01"] = &heard{text: []byte("bmctl: error: " + noSerialOverLAN + "r1n01 (ipmi): it said no\nbmctl: hint: x\n")}
	if cannot := s.refusals()("r1n01", ""); !strings.Contains(cannot[tui.Console], "no serial over LAN") {
		t.Errorf("after the BMC refused its console: %v", cannot)
	}

	s.consoles.last["r1n01"] = &heard{text: []byte("connected to r1n01\r\n")}
	if cannot := s.refusals()("r1n01", ""); len(cannot) > 0 {
		t.Errorf("after a console: %v", cannot)
	}
}

// TestEquivalents are commands that can be pasted: folded names, the starts of
// the ids of those that have none.
func TestEquivalents(t *testing.T) {
	hosts := map[string]config.Host{"r1n01": {ID: "1111aaaa-0000-0000-0000-000000000000"}, "r1n02": {ID: "2222aaaa-0000-0000-0000-000000000000"}}
	stranger, twin := "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1", "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f2"
	s := sourceOf(hosts, localapi.Machine{ID: hosts["r1n01"].ID, Name: "r1n01"}, localapi.Machine{ID: stranger, Name: "9c41e0aa"},
		localapi.Machine{ID: twin, Name: "9c41e0aa"}, localapi.Machine{ID: "3333", Name: "not a name; rm -rf /"})

	for _, test := range []struct {
		verb tui.Verb
		ids  []string
		want string
	}{
		{tui.PowerOn, []string{hosts["r1n02"].ID, hosts["r1n01"].ID}, "bmctl power on r1n[01-02]"},
		{tui.BootBIOS, []string{hosts["r1n01"].ID}, "bmctl power boot r1n01 --boot bios"},
		{tui.Cordon, []string{hosts["r1n01"].ID}, "bmctl machines cordon r1n01"},
		{tui.Uncordon, []string{hosts["r1n01"].ID}, "bmctl machines uncordon r1n01"},
		{tui.Console, []string{hosts["r1n01"].ID}, "bmctl console r1n01"},
		{tui.Accept, []string{stranger}, "bmctl accept " + stranger},
		{tui.Reject, []string{hosts["r1n01"].ID, "unknown-id"}, "bmctl reject r1n01 unknown-id"},
		{tui.PowerOff, []string{"3333"}, "bmctl power off 3333"},
		{tui.PowerOff, nil, "bmctl power off "},
	} {
		if got := s.Equivalent(test.verb, test.ids...); got != test.want {
			t.Errorf("%s of %v is %q, want %q", test.verb, test.ids, got, test.want)
		}
	}
}

// TestTheViewDoesWhatItsCommandDoes: the act behind a key has the defaults of the
// flags of the command line that stands beside it.
func TestTheViewDoesWhatItsCommandDoes(t *testing.T) {
	a := newApp(nil, nil, nil, nil)

	for _, verb := range powerVerbs() {
		run, err := a.powerRunOf(verb)
		if err != nil {
			t.Fatalf("%s: %v", verb, err)
		}

		words := strings.Fields((&tuiSource{a: a}).Equivalent(verb))
		cmd, flags, err := newApp(nil, nil, nil, nil).root().Find(words[1:])

		if err != nil || cmd.Name() != run.kind.verb {
			t.Fatalf("%v is %q, and the act %q: %v", words, cmd.Name(), run.kind.verb, err)
		}

		if err := cmd.ParseFlags(flags); err != nil {
			t.Fatal(err)
		}

		stagger, _ := cmd.Flags().GetDuration("stagger")
		timeout, _ := cmd.Flags().GetDuration("timeout")

		if run.turns.gap != stagger || run.f.timeout != timeout {
			t.Errorf("%s: pause %v and limit %v, the command's are %v and %v", verb, run.turns.gap, run.f.timeout, stagger, timeout)
		}

		if boot, _ := cmd.Flags().GetString("boot"); boot != run.f.boot {
			t.Errorf("%s boots %q, the command %q", verb, run.f.boot, boot)
		}
	}

	if run, _ := a.powerRunOf(tui.BootPXE); *run.boot != (power.Boot{Device: power.DevicePXE, Mode: power.ModeUEFI}) {
		t.Errorf("boot pxe sets %+v", *run.boot)
	}
}

// TestMachinesThatOmniDoesNotKnow are shown while they boot, and no longer.
func TestMachinesThatOmniDoesNotKnow(t *testing.T) {
	now := time.Now()
	s := sourceOf(map[string]config.Host{"r1n01": {ID: "aaaa"}})
	s.last = map[string]localapi.Event{
		"AAAA": {MachineID: "AAAA", Type: "script", At: now.Add(-time.Minute), Text: "script: agent", MAC: "m"},
		"bbbb": {MachineID: "bbbb", Type: "discover", At: now.Add(-time.Hour)},
		"cccc": {MachineID: "cccc", Type: "script", At: now},
		"dddd": {MachineID: "dddd", Type: "held", At: now},
		"":     {Type: "discover", At: now},
	}

	rows := s.newcomers([]localapi.Machine{{ID: "cccc"}}, now)
	if len(rows) != 1 || rows[0].Name != "r1n01" || rows[0].Stage != "script" || rows[0].Reason != "Omni does not know it yet" {
		t.Fatalf("shown are %+v", rows)
	}

	if rows[0].Cannot[tui.Accept] == "" || rows[0].Cannot[tui.PowerOn] != "" {
		t.Errorf("of a host of the inventory that Omni does not know: %v", rows[0].Cannot)
	}
}

func TestHostOf(t *testing.T) {
	for address, want := range map[string]string{
		"https://omni.example.com:443": "omni.example.com:443", "grpc://10.0.0.1:8099": "10.0.0.1:8099", "10.0.2.5:50042": "10.0.2.5", "[::1]:50042": "::1", "": "", "odd": "odd",
	} {
		if got := hostOf(address); got != want {
			t.Errorf("hostOf(%q) = %q, want %q", address, got, want)
		}
	}
}

// TestHealthIsToldInOneLine: Omni's trouble first, then why serve does not act.
func TestHealthIsToldInOneLine(t *testing.T) {
	at := time.Now()

	for name, test := range map[string]struct {
		health localapi.Health
		notice string
	}{
		"fine":            {localapi.Health{OmniConnected: true, Acting: true}, ""},
		"Omni is away":    {localapi.Health{OmniError: "connection refused", OmniRetryAt: at}, "omni: connection refused"},
		"waiting":         {localapi.Health{OmniConnected: true, ActingReason: "another serve has the lease"}, "serve does not act on machines: another serve has the lease"},
		"without a cause": {localapi.Health{OmniConnected: true}, "serve does not act on machines: it does not say why"},
	} {
		view := viewHealth(test.health)
		if view.Notice != test.notice || view.OmniDown == test.health.OmniConnected || !view.OmniRetry.Equal(test.health.OmniRetryAt) {
			t.Errorf("%s: %+v", name, view)
		}
	}
}
