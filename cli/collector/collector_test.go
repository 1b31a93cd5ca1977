package collector_test

import (
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/bmctl/bmctl/cli/collector"
)

// percents is what debug.SetGCPercent held at the start, after Resident, and after
// Frugal.
func percents() (percents [3]int) {
	for i, set := range []func(){func() {}, collector.Resident, collector.Frugal} {
		set()

		percents[i] = debug.SetGCPercent(-1)
		debug.SetGCPercent(percents[i])
	}

	return percents
}

// This test runs once more in processes of its own, with GOGC set and without.
func TestPercent(t *testing.T) {
	const want = "BMCTL_TEST_PERCENT"

	if os.Getenv(want) != "" {
		wanted := map[string][3]int{"ours": {400, 100, 30}, "given": {123, 123, 123}}[os.Getenv(want)]
		if got := percents(); got != wanted {
			t.Errorf("%s: %v per cent at the start, in a resident command and in a frugal one; want %v", os.Getenv(want), got, wanted)
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
