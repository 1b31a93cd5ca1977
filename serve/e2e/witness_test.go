//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// verdict is what `bmctl pxe test` says of one kind of firmware, as far as the
// tests look at it.
type verdict struct {
	Code, Error, Hint string
	Steps             []struct {
		Name, Verdict, Detail, Code, Hint string
		Offers                            []struct {
			From, Kind string
			Won        bool
		}
	}
}

// failed is the name of the step that failed, if one did.
func (v verdict) failed() string {
	for _, step := range v.Steps {
		if step.Verdict == "fail" {
			return step.Name
		}
	}

	return ""
}

// loads says that the firmware would get its loader.
func (v verdict) loads() bool {
	for _, step := range v.Steps {
		if (step.Name == "tftp" || step.Name == "http") && step.Verdict != "fail" {
			return true
		}
	}

	return false
}

// won is the kind of the offer that the firmware would take.
func (v verdict) won() string {
	for _, step := range v.Steps {
		for _, offer := range step.Offers {
			if offer.Won {
				return offer.Kind
			}
		}
	}

	return ""
}

func (v verdict) String() string {
	var lines []string
	for _, step := range v.Steps {
		lines = append(lines, fmt.Sprintf("%s %s %s: %s (%s)", step.Verdict, step.Name, step.Code, step.Detail, step.Hint))
	}

	return strings.Join(lines, "\n")
}

// pxeTest starts `bmctl pxe test` on a bench, which is a host beside the machines,
// always with the same MAC, and returns a function that waits for its verdict.
func (s *site) pxeTest(t *testing.T, bench string, args ...string) func() verdict {
	t.Helper()

	args = append([]string{
		"netns", "exec", bench, prepared(t, "bin/bmctl"),
		"pxe", "test", "--interface", "eth0", "--mac", "02:00:00:77:00:01", "-o", "json",
	}, args...)
	test := exec.CommandContext(t.Context(), "ip", args...)

	var said, complained bytes.Buffer

	test.Stdout, test.Stderr = &said, &complained
	test.WaitDelay = time.Second

	if err := test.Start(); err != nil {
		t.Fatal(err)
	}

	ended := make(chan error, 1)

	go func() { ended <- test.Wait() }()

	return func() verdict {
		t.Helper()

		err := <-ended
		if writing := os.WriteFile(s.path("pxe-test.log"), slices.Concat(said.Bytes(), complained.Bytes()), 0o644); writing != nil {
			t.Error(writing)
		}

		var list struct{ Items []verdict }

		if broken := json.Unmarshal(said.Bytes(), &list); broken != nil || len(list.Items) != 1 {
			t.Fatalf("bmctl pxe test: %v: %s", errors.Join(err, broken), complained.String())
		}

		return list.Items[0]
	}
}
