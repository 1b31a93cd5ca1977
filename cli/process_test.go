package cli_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func newWorld(t *testing.T, machines ...string) *world {
	t.Helper()

	w, err := startWorld(t.TempDir(), machines...)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})

	return w
}

// command is bmctl as a process of its own, killed if it outlives the test.
func command(t *testing.T, w *world, args ...string) *exec.Cmd {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), "bmctl", args...)
	cmd.Env = append(append(os.Environ(), w.environment()...), "HOME="+t.TempDir())

	return cmd
}

func exitCode(t *testing.T, err error) int {
	t.Helper()

	if err == nil {
		return 0
	}

	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}

	return exit.ExitCode()
}

func TestInterruptEndsTheWatch(t *testing.T) {
	w := newWorld(t, machineB)

	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		cmd := command(t, w, "machines", "--watch", "-o", "json", "--sort", "id")

		var stderr bytes.Buffer

		cmd.Stderr = &stderr

		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}

		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}

		lines := bufio.NewScanner(stdout)
		for range 4 { // each machine is one line
			if !lines.Scan() || !strings.HasPrefix(lines.Text(), `{"apiVersion":"bmctl/v1","kind":"Machine","id":"`) {
				t.Fatalf("not a machine: %q, %s", lines.Text(), stderr.String())
			}
		}

		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}

		rest, err := io.ReadAll(stdout)
		if err != nil {
			t.Fatal(err)
		}

		if code := exitCode(t, cmd.Wait()); code != 130 || !strings.Contains(stderr.String(), `"code":"interrupted"`) || len(rest) > 0 {
			t.Errorf("%v: exit code %d, %q, then %q; want 130 and interrupted", signal, code, stderr.String(), rest)
		}
	}
}

func TestWatchShowsWhatChanges(t *testing.T) {
	w := newWorld(t, machineA, machineB)
	cmd := command(t, w, "machines", "--watch", "--status", "pending,wiping,ready", "-o", "json")

	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	lines := bufio.NewScanner(stdout)
	expect := func(texts ...string) {
		t.Helper()

		if !lines.Scan() {
			t.Fatalf("the watch ended: %v", lines.Err())
		}

		for _, text := range texts {
			if !strings.Contains(lines.Text(), text) {
				t.Errorf("%s\nhas no %s", lines.Text(), text)
			}
		}
	}

	expect(machineA, `"status":"pending"`)
	expect(machineB, `"status":"pending"`)
	expect("r1n02", `"status":"ready"`)

	if err := w.omni.Accept(machineB); err != nil {
		t.Fatal(err)
	}

	// The fleet says wiping once and ready from then on; first seen moves with
	// the clock, so other lines may stand between.
	for deadline := time.Now().Add(20 * time.Second); ; {
		if !lines.Scan() || time.Now().After(deadline) {
			t.Fatalf("the watch never showed the machine ready: %v", lines.Err())
		}

		if strings.Contains(lines.Text(), machineB) && strings.Contains(lines.Text(), `"status":"ready"`) {
			break
		}
	}

	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}

	if _, err := io.Copy(io.Discard, stdout); err != nil {
		t.Error(err)
	}

	if code := exitCode(t, cmd.Wait()); code != 130 {
		t.Errorf("interrupted: exit code %d, want 130", code)
	}
}

// TestWatchOutlivesServe takes serve away and brings it back with another machine.
func TestWatchOutlivesServe(t *testing.T) {
	w := newWorld(t, machineA)
	cmd := command(t, w, "machines", "--watch", "--status", "pending", "-o", "json")

	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	data, notes := bufio.NewScanner(stdout), bufio.NewScanner(stderr)
	expect := func(from *bufio.Scanner, text string) {
		t.Helper()

		if !from.Scan() || !strings.Contains(from.Text(), text) {
			t.Fatalf("%q has no %q", from.Text(), text)
		}
	}

	expect(data, machineA)
	report(t, w.close())
	expect(notes, "bmctl: warning: bmctl serve is not running")

	report(t, w.join(t.Context(), []string{machineB}))
	report(t, w.listen())
	expect(notes, "serve answers again")

	for !strings.Contains(data.Text(), machineB) { // first seen moves with the clock: the other one's lines may stand between
		if !data.Scan() {
			t.Fatal("the watch ended")
		}
	}

	report(t, cmd.Process.Signal(os.Interrupt))
	expect(notes, `"code":"interrupted"`)

	if code := exitCode(t, cmd.Wait()); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
}

func TestAClosedPipeIsNoError(t *testing.T) {
	w := newWorld(t, machineB)
	cmd := command(t, w, "machines", "--watch")

	var stderr bytes.Buffer

	cmd.Stderr = &stderr

	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}

	if err := stdout.Close(); err != nil {
		t.Fatal(err)
	}

	if code := exitCode(t, cmd.Wait()); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, %q; want 0 and silence", code, stderr.String())
	}
}

func TestAnActGoesOnWhenTheReaderIsGone(t *testing.T) {
	w := newWorld(t, machineB)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}

	cmd := command(t, w, "accept", "9c41", "--yes", "--expect", "1", "--wait")
	cmd.Stdout = writer

	err = cmd.Run()
	if err := writer.Close(); err != nil {
		t.Error(err)
	}

	if code := exitCode(t, err); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}

	m, err := w.omni.Machine(machineB)
	if err != nil || m.TypedSpec().Value.AcceptanceStatus != 1 {
		t.Errorf("the machine was not accepted: %v, %v", m, err)
	}
}

func TestTheLabTellsItsEnvironmentAndEndsWithTheInterrupt(t *testing.T) {
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})

	env := append(os.Environ(), asBmctl+"=1", "HOME="+dir, "XDG_RUNTIME_DIR="+dir)
	cmd := exec.CommandContext(t.Context(), "bmctl", "lab", "--machines", "1")
	cmd.Env = env

	var stderr bytes.Buffer

	cmd.Stderr = &stderr

	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	lines := bufio.NewScanner(stdout)
	banner := ""

	for lines.Scan() && lines.Text() != "^C to end" {
		banner += lines.Text() + "\n"
	}

	for _, want := range []string{"lab is up (loopback only, nothing here is real)\n  omni      http://127.0.0.1:", "  r1n01     redfish  https://127.77.0.1:"} {
		if !strings.Contains(banner, want) {
			t.Errorf("the lab says\n%s%swithout %q", banner, stderr.String(), want)
		}
	}

	run := func(code int, script string) string {
		t.Helper()

		sh := exec.CommandContext(t.Context(), "sh", "-c", script)
		sh.Env = env

		text, err := sh.CombinedOutput()
		if exitCode(t, err) != code {
			t.Errorf("%s: %v, want exit code %d\n%s", script, err, code, text)
		}

		return string(text)
	}

	if text := run(0, `eval "$(bmctl lab env)" && bmctl machines --no-input -o json`); !strings.Contains(text, `"kind": "MachineList"`) {
		t.Errorf("in the lab's environment: %s", text)
	}

	if text := run(7, "bmctl lab"); !strings.Contains(text, "a lab runs in "+dir) {
		t.Errorf("a second lab: %s", text)
	}

	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}

	if code := exitCode(t, cmd.Wait()); code != 0 {
		t.Errorf("exit code %d after the interrupt, want 0\n%s", code, stderr.String())
	}

	run(6, "bmctl lab env")
}
