package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/tui"
)

func TestFilter(t *testing.T) {
	row := tui.Row{
		ID: "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1", Name: "r1n02", Power: "on", Stage: "script", Status: "booting", Cluster: "prod", Talos: "v1.13.7",
		BMC: tui.BMC{Protocol: "ipmi", Latency: 31 * time.Millisecond}, LastEvent: "asked: netboot", LastEventAt: time.Now().Add(-90 * time.Minute),
		Labels: map[string]string{"rack": "r1", "status": "mine"}, Accepted: true,
	}

	for expr, want := range map[string]bool{
		"":                              true,
		"r1n02":                         true,
		"R1N":                           true,
		"r1n03":                         false,
		"netboot":                       true,
		"rack=r1":                       true, // a label, also as a word
		"rack=r2":                       false,
		"rack":                          true,
		"!rack":                         false,
		"!gpu":                          true,
		"power=off":                     false,
		"power!=off":                    true,
		"status=mine":                   true, // labels come before columns
		"power in (on,off)":             true,
		"power in (off, unknown)":       false,
		"power notin (off)":             true,
		"rack=r1 power=on":              true,
		"rack=r1 power=off":             false,
		"rack=r1,power=off":             false,
		"age>1h":                        true,
		"age<1h":                        false,
		"age<1d":                        true,
		"latency>30ms":                  true,
		"latency>31ms":                  false,
		"stage":                         false,
		"stage=script accepted=true":    true,
		"cordoned=true":                 false,
		"protocol=ipmi cluster=prod r1": true,
	} {
		match, err := (&tuiSource{}).Filter(expr)
		if err != nil {
			t.Errorf("%q: %v", expr, err)
		} else if match(row) != want {
			t.Errorf("%q matches: %v, want %v", expr, !want, want)
		}
	}
}

func TestFilterRefusesNonsense(t *testing.T) {
	for expr, want := range map[string]string{
		"=": `"="`, "rack==": "", "a b=(": "b=(", "age>soon": "want a duration", "rack in (": "rack in (", "x>y>z": "x>y>z",
	} {
		if _, err := (&tuiSource{}).Filter(expr); want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", expr, err, want)
		}
	}
}

func TestSplitLine(t *testing.T) {
	for line, want := range map[string]string{
		"machines -o wide": "machines|-o|wide", `label r1 'a=b c' "d"`: "label|r1|a=b c|d", "": "", "  a\tb ": "a|b", `a''b ""`: "ab|",
	} {
		got, err := splitLine(line)
		if err != nil || strings.Join(got, "|") != want {
			t.Errorf("%q is %q, %v; want %q", line, got, err, want)
		}
	}

	if _, err := splitLine(`a 'b`); err == nil {
		t.Error("an open quote is no error")
	}
}
