package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
)

const targetsConfig = `
hosts:
  r1n01: {address: 10.0.3.1, id: 11111111-0000-4000-8000-000000000001, labels: {rack: r1}}
  r1n02: {address: 10.0.3.2, protocol: ipmi, port: 6230, labels: {rack: r1}}
  r1n03: {address: 10.0.3.3, protocol: redfish, port: 8443}
  r1n04: {address: "fd00::4", protocol: auto, port: 8000}
  nat1:  {address: 10.9.9.9, protocol: ipmi, port: 7001}
  nat2:  {address: 10.9.9.9, protocol: ipmi, port: 7002}
groups: {all: "r1n[01-04]"}
serve: {redfish-port: 8444}
`

func testResolver(t *testing.T, fleet fleetView) resolver {
	t.Helper()

	file, err := config.Parse("test.yaml", []byte(targetsConfig))
	if err != nil {
		t.Fatal(err)
	}

	return resolver{file: file, fleet: fleet}
}

func seenMachines() ([]localapi.Machine, error) {
	return []localapi.Machine{
		{ID: "11111111-0000-4000-8000-000000000001", Name: "r1n01", BMC: localapi.BMC{Address: "10.0.3.1"}},
		{ID: "22222222-0000-4000-8000-000000000002", Name: "r1n02", BMC: localapi.BMC{Address: "10.0.3.2"}},
		{ID: "9c41e0aa-0000-4000-8000-000000000009", Name: "9c41e0aa", BMC: localapi.BMC{Address: "10.0.3.9"}},
		{ID: "9c41ffff-0000-4000-8000-000000000010", Name: "web", BMC: localapi.BMC{}},
	}, nil
}

// told is a resolved target in one line.
func told(bmc chosenBMC) string {
	text := fmt.Sprintf("%s at %s %s ipmi %d redfish %d", bmc.Name, bmc.Address, bmc.Protocol, bmc.Port, bmc.RedfishPort)
	if bmc.host != "" {
		text += " host " + bmc.host
	}

	if bmc.UUID != "" {
		text += " id " + firstBlock(bmc.UUID)
	}

	if bmc.hearsay {
		text += " hearsay"
	}

	return text
}

func TestResolve(t *testing.T) {
	r := testResolver(t, seenMachines)

	for name, want := range map[string]string{
		// The inventory.
		"r1n01":                                "r1n01 at 10.0.3.1 auto ipmi 0 redfish 8444 host r1n01 id 11111111",
		"r1n02":                                "r1n02 at 10.0.3.2 ipmi ipmi 6230 redfish 8444 host r1n02",
		"r1n03":                                "r1n03 at 10.0.3.3 redfish ipmi 0 redfish 8443 host r1n03",
		"r1n04":                                "r1n04 at fd00::4 auto ipmi 8000 redfish 8000 host r1n04",
		"r1n02:623":                            "r1n02 at 10.0.3.2 ipmi ipmi 623 redfish 8444 host r1n02",
		"10.0.3.2":                             "r1n02 at 10.0.3.2 ipmi ipmi 6230 redfish 8444 host r1n02",
		"fd00:0::4":                            "r1n04 at fd00::4 auto ipmi 8000 redfish 8000 host r1n04",
		"[fd00::4]":                            "r1n04 at fd00::4 auto ipmi 8000 redfish 8000 host r1n04",
		"10.9.9.9:7002":                        "nat2 at 10.9.9.9 ipmi ipmi 7002 redfish 8444 host nat2",
		"11111111-0000-4000-8000-000000000001": "r1n01 at 10.0.3.1 auto ipmi 0 redfish 8444 host r1n01 id 11111111",
		// Addresses.
		"10.0.3.77":        "10.0.3.77 at 10.0.3.77 auto ipmi 0 redfish 8444",
		"10.0.3.2:624":     "10.0.3.2:624 at 10.0.3.2 auto ipmi 624 redfish 624",
		"10.0.3.77:623":    "10.0.3.77:623 at 10.0.3.77 auto ipmi 623 redfish 8444",
		"10.0.3.77:443":    "10.0.3.77:443 at 10.0.3.77 auto ipmi 0 redfish 443",
		"[fd00::9]:8000":   "[fd00::9]:8000 at fd00::9 auto ipmi 8000 redfish 8000",
		"fe80::1%eth0":     "fe80::1%eth0 at fe80::1%eth0 auto ipmi 0 redfish 8444",
		"bmc7.example.com": "bmc7.example.com at bmc7.example.com auto ipmi 0 redfish 8444",
		"bmc7:623":         "bmc7:623 at bmc7 auto ipmi 623 redfish 8444",
		// Machines that serve knows.
		"1111":  "r1n01 at 10.0.3.1 auto ipmi 0 redfish 8444 host r1n01 id 11111111",
		"2222":  "r1n02 at 10.0.3.2 ipmi ipmi 6230 redfish 8444 host r1n02",
		"9c41e": "9c41e0aa at 10.0.3.9 auto ipmi 0 redfish 8444 id 9c41e0aa hearsay",
		"web":   "web at   ipmi 0 redfish 0 id 9c41ffff hearsay",
	} {
		bmc, err := r.resolve(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)

			continue
		}

		if got := told(bmc); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestResolveRefuses(t *testing.T) {
	for name, want := range map[string]code{
		"r9n01": codeNoMatch, "9c4": codeNoMatch, "9c41": codeAmbiguousTarget, "10.9.9.9": codeAmbiguousTarget,
		"r1n01:0": codeUsage, "r1n01:99999": codeUsage, "r1n01:x": codeUsage, ":623": codeUsage,
	} {
		if _, err := testResolver(t, seenMachines).resolve(name); err == nil || classify(err).code != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}

	down := func() ([]localapi.Machine, error) { return nil, localapi.ErrNotRunning }

	_, err := testResolver(t, down).resolve("9c41e")
	if f := classify(err); f.code != codeNoMatch || !errors.Is(err, localapi.ErrNotRunning) || strings.Contains(f.message, "\n") {
		t.Errorf("without serve: %v", err)
	}
}

func TestFlagsWinOverTheInventory(t *testing.T) {
	r := testResolver(t, seenMachines)
	r.protocol, r.port = "redfish", 9000

	for name, want := range map[string]string{
		"r1n02":     "r1n02 at 10.0.3.2 redfish ipmi 0 redfish 9000 host r1n02",
		"10.0.3.77": "10.0.3.77 at 10.0.3.77 redfish ipmi 0 redfish 9000",
	} {
		bmc, err := r.resolve(name)
		if err != nil || told(bmc) != want {
			t.Errorf("%s: %s, %v; want %s", name, told(bmc), err, want)
		}
	}
}

func TestSetOutcome(t *testing.T) {
	silent := fmt.Errorf("r1: %w", power.ErrUnreachable)
	denied := fmt.Errorf("r2: %w", power.ErrAuth)

	for name, test := range map[string]struct {
		errs []error
		code code
		exit int
	}{
		"one":              {[]error{silent}, codeBMCUnreachable, 5},
		"all the same":     {[]error{denied, denied}, codeBMCAuth, 4},
		"all, differently": {[]error{silent, denied}, codeBMCUnreachable, 1},
		"some":             {[]error{nil, silent}, codeSomeFailed, 3},
	} {
		f := classify(setOutcome(test.errs))

		exit := f.exit
		if exit == 0 {
			exit = codes()[f.code].exit
		}

		if f.code != test.code || exit != test.exit {
			t.Errorf("%s: %s, exit %d; want %s, exit %d", name, f.code, exit, test.code, test.exit)
		}
	}

	if err := setOutcome(make([]error, 3)); err != nil {
		t.Errorf("nothing failed: %v", err)
	}
}

func TestSeenBy(t *testing.T) {
	machines, _ := seenMachines()

	for name, want := range map[string]string{"r1n01": "11111111", "r1n02": "22222222", "r1n03": ""} {
		bmc, err := testResolver(t, seenMachines).resolve(name)
		if err != nil {
			t.Fatal(err)
		}

		m, found := seenBy(machines, bmc)
		if firstBlock(m.ID) != want || found != (want != "") {
			t.Errorf("%s is behind %q, want %q", name, m.ID, want)
		}
	}
}

func TestEscapes(t *testing.T) {
	for name, test := range map[string]struct {
		typed    []string // by reads of the terminal
		sent     string
		acts     []escapeAct
		readOnly bool
	}{
		"plain":                   {[]string{"ls\r", "exit\r"}, "ls\rexit\r", []escapeAct{escapeNone, escapeNone}, false},
		"at once":                 {[]string{"~."}, "", []escapeAct{escapeEnd}, false},
		"behind a line":           {[]string{"ls\r~.rm"}, "ls\r", []escapeAct{escapeEnd}, false},
		"in pieces":               {[]string{"\r", "~", "."}, "\r", []escapeAct{escapeNone, escapeNone, escapeEnd}, false},
		"not inside a line":       {[]string{"ls ~.\r"}, "ls ~.\r", []escapeAct{escapeNone}, false},
		"help, then on":           {[]string{"~?ls"}, "ls", []escapeAct{escapeHelp}, false},
		"help and end":            {[]string{"~?~."}, "", []escapeAct{escapeEnd}, false},
		"a tilde itself":          {[]string{"~~/x\r"}, "~/x\r", []escapeAct{escapeNone}, false},
		"a tilde and another":     {[]string{"~x"}, "~x", []escapeAct{escapeNone}, false},
		"ctrl-] anywhere":         {[]string{"ls \x1dx"}, "ls ", []escapeAct{escapeEnd}, false},
		"ctrl-C is the machine's": {[]string{"\x03"}, "\x03", []escapeAct{escapeNone}, false},
		"ctrl-C ends looking on":  {[]string{"a\x03"}, "a", []escapeAct{escapeEnd}, true},
	} {
		keys, sent := newEscapes(test.readOnly), ""

		var acts []escapeAct

		for _, typed := range test.typed {
			send, act := keys.feed([]byte(typed))
			sent, acts = sent+string(send), append(acts, act)
		}

		if sent != test.sent || cmp.Diff(test.acts, acts) != "" {
			t.Errorf("%s: sent %q and %v, want %q and %v", name, sent, acts, test.sent, test.acts)
		}
	}
}
