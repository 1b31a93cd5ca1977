package soak_test

import (
	"cmp"
	"flag"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/cli"
	"github.com/bmctl/bmctl/serve/lab"
)

var (
	seed     = flag.Uint64("seed", 0, "of the storm; 0 takes one from the clock")
	lasts    = flag.Duration("for", 0, "how long the storm lasts; 0 leaves it out")
	machines = flag.Int("machines", 50, "how many machines there are")
	keep     = flag.String("keep", "", "a new folder for the lab, which stays")
)

// asBmctl makes the test binary behave as bmctl: the lab runs it as serve.
const asBmctl = "BMCTL_TEST_AS_BMCTL"

func TestMain(m *testing.M) {
	if os.Getenv(asBmctl) != "" {
		os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
	}

	os.Setenv(asBmctl, "1") //nolint:errcheck // for the children
	os.Exit(m.Run())
}

// TestSoak is the whole of it.
func TestSoak(t *testing.T) {
	if *lasts == 0 {
		t.Skip("a soak lasts for minutes: make soak")
	}

	*seed = cmp.Or(*seed, uint64(time.Now().UnixNano())) //nolint:gosec // any number
	t.Logf("SOAK='-seed %d -for %s -machines %d'", *seed, *lasts, *machines)

	l, metrics := startLab(t)
	f := &fleet{t: t, lab: l, judge: newJudge(t, l), visits: map[string]time.Time{}}

	f.pressAll()
	f.goHome("at the start")

	before := f.measure(metrics)

	s := newStorm(f, *seed)
	s.rage(*lasts)
	s.lift()
	f.settle("after the storm")
	s.say()
	f.goHome("at the end")

	after := f.measure(metrics)

	f.compare(before, after, s.done["serve killed"])
	f.judge.finish()
}

// startLab runs a lab whose machines are off, and returns where serve's metrics are.
func startLab(t *testing.T) (*lab.Lab, string) {
	t.Helper()

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	dir := *keep
	if dir == "" {
		// A unix socket's path is short, and the test's own folder may not be.
		if dir, err = os.MkdirTemp("", "soak"); err != nil {
			t.Fatal(err)
		}

		t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a temporary folder
	}

	metrics := "127.0.0.1:" + freePort(t)

	l, err := lab.Start(t.Context(), lab.Config{
		Machines: *machines, Subnet: 63, Seed: *seed, Off: true, Speed: 2, MinRebootInterval: 5 * time.Second,
		Dir: dir, Exe: exe, Environ: os.Environ(), Log: slog.New(slog.DiscardHandler),
		ServeFlags: []string{"--metrics-address=" + metrics, "--poll-interval=3s", "--max-disruptions=100000"},
	})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}

		searchLog(t, filepath.Join(dir, "serve.log"))
	})

	return l, metrics
}

// freePort is a TCP port that is free now: a restarted serve needs the same.
func freePort(t *testing.T) string {
	t.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	defer listener.Close() //nolint:errcheck // it has told its port

	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	return port
}

// searchLog finds what serve must never log.
func searchLog(t *testing.T, path string) {
	t.Helper()

	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)

		return
	}

	shown := 0 // lines, of which a panic has many

	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") || strings.Contains(line, `"level":"ERROR"`) {
			t.Errorf("serve logs: %.400s", line)

			shown += 30
		} else if shown > 0 && !strings.HasPrefix(line, "{") {
			t.Logf("%.200s", line)

			shown--
		}
	}
}
