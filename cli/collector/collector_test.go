package collector_test

import (
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/bmctl/bmctl/cli/collector"
)

// percents is what debug.SetGCPercent held at the start, and after Resident.
func percents() (start, after int) {
	start = debug.SetGCPercent(-1)
	debug.SetGCPercent(start)
	collector.Resident()

	return start, debug.SetGCPercent(start)
}

// This test runs once more in processes of its own, with GOGC set and without.
func TestPercent(t *testing.T) {
	const want = "BMCTL_TEST_PERCENT"

	if os.Getenv(want) != "" {
		start, after := percents()
		if got := map[bool]string{true: "given", false: "ours"}[start == 123 && after == 123]; got != os.Getenv(want) {
			t.Errorf("%s: %d per cent at the start, %d in a resident command", os.Getenv(want), start, after)
		}

		if os.Getenv(want) == "ours" && (start != 400 || after != 100) {
			t.Errorf("%d per cent at the start, %d in a resident command; want 400 and 100", start, after)
		}

		return
	}

	var plain []string

	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "GOGC=") {
			plain = append(plain, entry)
		}
	}

	for name, env := range map[string][]string{
		"ours":  append(plain[:len(plain):len(plain)], want+"=ours"),
		"given": append(plain[:len(plain):len(plain)], want+"=given", "GOGC=123"),
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPercent$")
		cmd.Env = env

		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
