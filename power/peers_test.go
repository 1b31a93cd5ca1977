package power_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmctest"
)

// peersEnv asks for the comparison, which wants a quiet machine: make bench-peers.
const peersEnv = "BMCTL_BENCH_PEERS"

var (
	peersCount  = flag.Int("peers", 200, "how many simulated BMCs to ask")
	peersRounds = flag.Int("rounds", 41, "how often each of the two asks them")
)

// builtProgram is bmctl as it is installed.
func builtProgram(t *testing.T) string {
	t.Helper()

	path := filepath.Join(t.TempDir(), "bmctl")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "../cmd/bmctl")

	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	return path
}

// The status of many simulated BMCs, asked by bmctl and by ipmipower in turn:
// whole processes, wall time.
func TestBesideIpmipower(t *testing.T) {
	if os.Getenv(peersEnv) == "" {
		t.Skip("a comparison for a quiet machine: set " + peersEnv + "=1")
	}

	ipmipower, err := exec.LookPath("ipmipower")
	if err != nil {
		t.Fatal("ipmipower is missing: apt-get install freeipmi-tools")
	}

	sims, targets := fleet(t, *peersCount)
	dir := t.TempDir()
	commands := map[string][]string{
		"bmctl":     {builtProgram(t), "-c", bmctlConfig(t, dir, targets), "power", "status", "@all", "-o", "wide", "--no-headers"},
		"ipmipower": {ipmipower, "--config-file=" + ipmipowerConfig(t, dir), "-D", "LAN_2_0", "-I", "17", "-l", "USER", "-h", hostList(targets), "--stat"},
	}

	took := map[string][]time.Duration{}

	for round := range *peersRounds + 1 {
		for _, name := range []string{"bmctl", "ipmipower"} {
			since := time.Now()
			out, err := exec.CommandContext(t.Context(), commands[name][0], commands[name][1:]...).CombinedOutput()

			if err != nil || len(strings.Fields(string(out))) < 2*len(sims) {
				t.Fatalf("%s: %v: %s", name, err, bytes.TrimSpace(out[:min(len(out), 400)]))
			}

			if round > 0 { // the first is for the caches
				took[name] = append(took[name], time.Since(since))
			}
		}
	}

	middle := func(name string) time.Duration {
		all := took[name]
		slices.Sort(all)
		fmt.Printf("%-9s  median %s  (%s to %s, %d rounds of %d BMCs)\n", name, all[len(all)/2].Round(time.Millisecond),
			all[0].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond), len(all), len(sims))

		return all[len(all)/2]
	}

	fmt.Printf("ratio of the medians %.2f\n", float64(middle("bmctl"))/float64(middle("ipmipower")))
}

func bmctlConfig(t *testing.T, dir string, targets []power.Target) string {
	t.Helper()

	var b strings.Builder

	b.WriteString("hosts:\n")

	for i, target := range targets {
		fmt.Fprintf(&b, "  n%03d: {address: %s, port: %d, protocol: ipmi, credentials: default}\n", i, target.Address, target.Port)
	}

	password := filepath.Join(dir, "password")
	write(t, password, bmctest.Password+"\n", 0o600)
	fmt.Fprintf(&b, "groups: {all: \"n[000-%03d]\"}\n", len(targets)-1)
	fmt.Fprintf(&b, "credentials:\n  default: {username: %s, password-file: %s}\n", bmctest.User, password)

	path := filepath.Join(dir, "config.yaml")
	write(t, path, b.String(), 0o600)

	return path
}

func ipmipowerConfig(t *testing.T, dir string) string {
	t.Helper()

	path := filepath.Join(dir, "freeipmi.conf")
	write(t, path, "username "+bmctest.User+"\npassword "+bmctest.Password+"\n", os.FileMode(0o600))

	return path
}

func hostList(targets []power.Target) string {
	hosts := make([]string, len(targets))
	for i, target := range targets {
		hosts[i] = fmt.Sprintf("%s:%d", target.Address, target.Port)
	}

	return strings.Join(hosts, ",")
}
