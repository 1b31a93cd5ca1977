package hosts_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bmctl/bmctl/power/hosts"
)

func groups(name string) (string, error) {
	known := map[string]string{
		"rack1": "r1n[01-04]", "odd": "r1n[01,03]", "all": "@rack1,@rack2", "rack2": "r2n[1-2]",
		"loop": "a,@loop2", "loop2": "@loop", "most": "r[1-3],^r3", "none": "^r1n[01-99]",
	}

	expr, ok := known[name]
	if !ok {
		return "", errors.New("the configuration has no such group")
	}

	return expr, nil
}

func TestExpand(t *testing.T) {
	for _, test := range []struct {
		exprs string // separated by spaces
		want  string
	}{
		{"r1n07", "r1n07"},
		{"r1n[01-03]", "r1n01 r1n02 r1n03"},
		{"r1n[8-11]", "r1n8 r1n9 r1n10 r1n11"},
		{"r1n[08-11]", "r1n08 r1n09 r1n10 r1n11"},
		{"n[098-101]", "n098 n099 n100 n101"},
		{"n[98-100,7,007]", "n98 n99 n100 n7 n007"},
		{"r[1-2]n[1-2]-bmc", "r1n1-bmc r1n2-bmc r2n1-bmc r2n2-bmc"},
		{"10.0.3.[1-3]", "10.0.3.1 10.0.3.2 10.0.3.3"},
		{"b,a,b a", "b a"},
		{"host:623 [fd00::1]:623 [fd00::2] fd00::[1-2]", "host:623 [fd00::1]:623 [fd00::2] fd00::1 fd00::2"},
		{"@rack1 ^r1n[02,03]", "r1n01 r1n04"},
		{"^r1n02 @rack1", "r1n01 r1n03 r1n04"},
		{"@rack1,^@odd", "r1n02 r1n04"},
		{"^r1n01,r1n02 @rack1", "r1n03 r1n04"},
		{"@all", "r1n01 r1n02 r1n03 r1n04 r2n1 r2n2"},
		{"r3 @most", "r3 r1 r2"},
		{"@rack1 @none", "r1n01 r1n02 r1n03 r1n04"},
		{"9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1", "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1"},
		{"", ""},
	} {
		got, err := hosts.Expand(strings.Fields(test.exprs), hosts.Options{Group: groups})
		if err != nil {
			t.Errorf("%s: %v", test.exprs, err)

			continue
		}

		if diff := cmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.exprs, diff)
		}
	}
}

func TestExpandRefuses(t *testing.T) {
	for expr, want := range map[string]struct {
		kind error
		text string
	}{
		"r1n[9-1]":                 {hosts.ErrSyntax, "end is before its start"},
		"[":                        {hosts.ErrSyntax, "[ without ]"},
		"r1n[1-3":                  {hosts.ErrSyntax, "[ without ]"},
		"r1n1-3]":                  {hosts.ErrSyntax, "unexpected ']'"},
		"r[[1]]":                   {hosts.ErrSyntax, "unexpected '['"},
		"r[]":                      {hosts.ErrSyntax, "not a number"},
		"r[a-c]":                   {hosts.ErrSyntax, "not a number"},
		"r[1-]":                    {hosts.ErrSyntax, "not a number"},
		"r[1-2-3]":                 {hosts.ErrSyntax, "not a number"},
		"r[1-03]":                  {hosts.ErrSyntax, "different leading zeros"},
		"r[1-9999999999999999999]": {hosts.ErrSyntax, "more than 18 digits"},
		"":                         {hosts.ErrSyntax, "empty item"},
		"^":                        {hosts.ErrSyntax, "empty item"},
		"a,,b":                     {hosts.ErrSyntax, "empty item"},
		"a b":                      {hosts.ErrSyntax, "unexpected character"},
		"a\x1b[1m":                 {hosts.ErrSyntax, ""},
		"[fd00:]":                  {hosts.ErrSyntax, "not an address"},
		"[fd00::1]:99999":          {hosts.ErrSyntax, "not a port"},
		"10.0.3.0/26":              {hosts.ErrSyntax, "only be probed"},
		"@nobody":                  {hosts.ErrGroup, "@nobody: the configuration has no such group"},
		"@loop":                    {hosts.ErrGroup, "contains itself"},
		"^@loop":                   {hosts.ErrGroup, "contains itself"},
		"n[1-10000000]":            {hosts.ErrTooMany, "limit of 65536"},
		"r[1-9999]n[1-9999]":       {hosts.ErrTooMany, "limit"},
		"^n[1-999999999999999999]": {hosts.ErrTooMany, "limit"},
		"r[1-999999999,1-999999999,1-999999999]n[0-999999999]": {hosts.ErrTooMany, "limit"},
	} {
		_, err := hosts.Expand([]string{expr}, hosts.Options{Group: groups})
		if !errors.Is(err, want.kind) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%q: %v, want %v with %q", expr, err, want.kind, want.text)
		}

		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%q: the error is not one plain line: %q", expr, err)
		}
	}
}

func TestTenMillionHostsCostNothing(t *testing.T) {
	start := time.Now()

	for range 1000 {
		if _, err := hosts.Expand([]string{"n[1-9999999]", "m[1-9999999]"}, hosts.Options{}); !errors.Is(err, hosts.ErrTooMany) {
			t.Fatal(err)
		}
	}

	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("1000 refusals took %v: the hosts were made before they were counted", took)
	}
}

func TestLimitHoldsOverAllExpressions(t *testing.T) {
	_, err := hosts.Expand([]string{"a[1-6]", "b[1-5]"}, hosts.Options{Limit: 10})
	if !errors.Is(err, hosts.ErrTooMany) {
		t.Errorf("11 hosts with a limit of 10: %v", err)
	}

	names, err := hosts.Expand([]string{"a[1-6]", "b[1-4]"}, hosts.Options{Limit: 10})
	if err != nil || len(names) != 10 {
		t.Errorf("10 hosts with a limit of 10: %d, %v", len(names), err)
	}
}

func TestNetworks(t *testing.T) {
	for expr, want := range map[string]string{
		"10.0.3.0/29":              "10.0.3.1 10.0.3.2 10.0.3.3 10.0.3.4 10.0.3.5 10.0.3.6",
		"10.0.3.5/30":              "10.0.3.5 10.0.3.6",
		"10.0.3.4/31":              "10.0.3.4 10.0.3.5",
		"10.0.3.4/32":              "10.0.3.4",
		"fd00::/126":               "fd00:: fd00::1 fd00::2 fd00::3",
		"10.0.3.0/29,^10.0.3.0/30": "10.0.3.3 10.0.3.4 10.0.3.5 10.0.3.6",
	} {
		got, err := hosts.Expand([]string{expr}, hosts.Options{Prefixes: true})
		if err != nil {
			t.Errorf("%s: %v", expr, err)
		}

		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", expr, diff)
		}
	}

	for expr, kind := range map[string]error{"10.0.0.0/8": hosts.ErrTooMany, "fd00::/16": hosts.ErrTooMany, "10.0.3.0/33": hosts.ErrSyntax, "a/b": hosts.ErrSyntax} {
		if _, err := hosts.Expand([]string{expr}, hosts.Options{Prefixes: true}); !errors.Is(err, kind) {
			t.Errorf("%s: %v, want %v", expr, err, kind)
		}
	}
}

func TestFold(t *testing.T) {
	for names, want := range map[string]string{
		"":                            "",
		"r1n01":                       "r1n01",
		"r1n02 r1n01 r1n03 r1n02":     "r1n[01-03]",
		"r1n09 r1n10 r1n12":           "r1n[09-10,12]",
		"n8 n9 n10 n11":               "n[8-11]",
		"n08 n9 n10":                  "n[08,10],n9",
		"n098 n099 n100 n1000":        "n[098-100,1000]",
		"10.0.3.1 10.0.3.2 10.0.4.1":  "10.0.3.[1-2],10.0.4.1",
		"a1-bmc a2-bmc a3":            "a[1-2]-bmc,a3",
		"host other":                  "host,other",
		"n99999999999999999999 n1 n2": "n[1-2],n99999999999999999999",
		"[fd00::1]:623 [fd00::2]:623": "[fd00::1]:623,[fd00::2]:623",
	} {
		if got := hosts.Fold(strings.Fields(names)); got != want {
			t.Errorf("Fold(%s) = %s, want %s", names, got, want)
		}
	}
}

func TestFoldLeavesItsArgument(t *testing.T) {
	names := []string{"b2", "a1", "b2"}
	hosts.Fold(names)

	if diff := cmp.Diff([]string{"b2", "a1", "b2"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestFoldAndExpandAreInverse(t *testing.T) {
	name := rapid.Custom(func(t *rapid.T) string {
		text := rapid.SampledFrom([]string{"r", "n", "10.0.", "-", "a", "x.y", ""})
		digits := rapid.StringMatching(`[0-9]{0,4}|0{1,3}[0-9]|[0-9]{17,20}`)
		made := text.Draw(t, "a") + digits.Draw(t, "b") + text.Draw(t, "c") + digits.Draw(t, "d") + text.Draw(t, "e")

		return made + "h"[:rapid.IntRange(0, 1).Draw(t, "f")]
	}).Filter(hosts.Valid)

	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOf(name).Draw(t, "names")
		folded := hosts.Fold(names)

		if len(names) == 0 {
			return
		}

		got, err := hosts.Expand([]string{folded}, hosts.Options{})
		if err != nil {
			t.Fatalf("Expand(%q): %v", folded, err)
		}

		want := slices.Clone(names)
		slices.Sort(want)
		slices.Sort(got)

		if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
			t.Fatalf("Expand(%q) (-want +got):\n%s", folded, diff)
		}

		if again := hosts.Fold(got); again != folded {
			t.Fatalf("Fold is not stable: %q, then %q", folded, again)
		}
	})
}

func TestCompareIsAnOrder(t *testing.T) {
	name := rapid.StringMatching(`[ab01]{0,6}`)

	rapid.Check(t, func(t *rapid.T) {
		a, b, c := name.Draw(t, "a"), name.Draw(t, "b"), name.Draw(t, "c")

		if (hosts.Compare(a, b) == 0) != (a == b) || hosts.Compare(a, b) != -hosts.Compare(b, a) {
			t.Fatalf("%q and %q: %d, %d", a, b, hosts.Compare(a, b), hosts.Compare(b, a))
		}

		if hosts.Compare(a, b) < 0 && hosts.Compare(b, c) < 0 && hosts.Compare(a, c) >= 0 {
			t.Fatalf("%q < %q < %q, but not the first before the last", a, b, c)
		}
	})
}

func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"r1n[01-16]", "^a,@rack1", "[", "r1n[9-1]", "10.0.3.0/26", "[fd00::1]:1", "a[1-2,5]b[0-1]", "@loop"} {
		f.Add(seed)
	}

	f.Fuzz(func(t *testing.T, expr string) {
		names, err := hosts.Expand([]string{expr}, hosts.Options{Group: groups, Prefixes: true, Limit: 1000})
		if err != nil {
			if names != nil {
				t.Errorf("%q: names beside an error", expr)
			}

			return
		}

		if len(names) > 1000 {
			t.Fatalf("%q: %d names with a limit of 1000", expr, len(names))
		}

		again, err := hosts.Expand([]string{hosts.Fold(names)}, hosts.Options{})
		if len(names) > 0 && (err != nil || len(again) != len(names)) {
			t.Errorf("%q: %d names, folded and expanded again %d, %v", expr, len(names), len(again), err)
		}
	})
}

func ExampleFold() {
	names, err := hosts.Expand([]string{"r1n[01-16]", "^r1n[07,13]"}, hosts.Options{})
	fmt.Println(len(names), hosts.Fold(names), err)
	// Output: 14 r1n[01-06,08-12,14-16] <nil>
}
