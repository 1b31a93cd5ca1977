package cli_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/hosts"
)

// rackCommand is bmctl as a process with the rack's environment.
func rackCommand(t *testing.T, r *rack, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()

	var stderr bytes.Buffer

	cmd := exec.CommandContext(t.Context(), "bmctl", args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), r.environment()...), &stderr

	return cmd, &stderr
}

func TestManyTargetsFoldOnATerminal(t *testing.T) {
	r := newRack(t)
	if err := r.sims["r1n07"].SetFault(bmcsim.FaultSilent, true); err != nil {
		t.Fatal(err)
	}

	code, screen := onTerminal(t, r.environment(), "power", "status", "@rack1", "--timeout", "1s").end()
	want := "on         9  r1n[01-04,06,08-11]\r\n" +
		"off        1  r1n05\r\n" +
		"timeout    1  r1n07                no answer in 1s\r\n"

	if code != 3 || !strings.HasPrefix(screen, want) {
		t.Errorf("exit code %d, screen\n%q\nwant 3 and\n%q", code, screen, want)
	}

	_, screen = onTerminal(t, append(r.environment(), "TERM=xterm"), "power", "status", "@rack1", "^r1n07").end()
	if !strings.Contains(screen, "\r\x1b[K10 of 10\r\x1b[Kon     9  ") {
		t.Errorf("the progress is not counted and erased: %q", screen)
	}

	_, screen = onTerminal(t, r.environment(), "power", "status", "@rack1", "^r1n07", "--no-fold").end()
	if !strings.Contains(screen, "r1n11    on") {
		t.Errorf("with --no-fold:\n%s", screen)
	}

	_, screen = onTerminal(t, r.environment(), "power", "on", "@rack1", "^r1n07", "--stagger", "0s").end()
	if !strings.Contains(screen, "is on already    9  r1n[01-04,06,08-11]\r\n") {
		t.Errorf("an act on ten:\n%s", screen)
	}
}

func TestPasswordIsAskedForWithoutEchoAndErased(t *testing.T) {
	r := newRack(t)
	env := append(r.environment(), "BMCTL_CONFIG=/dev/null")
	s := onTerminal(t, env, "power", "status", r.sims["r1n02"].Addr().String()+fmt.Sprintf(":%d", r.ipmiPort), "--username", rackUser)
	before := s.modes()

	s.expect("Password of admin on 127.80.")
	s.expect(": ")
	waitEchoOff(t, s)
	s.typeText(rackPassword + "\r")
	s.expect("\r\x1b[K")

	code, screen := s.end()
	if code != 0 || strings.Contains(screen, rackPassword) || !strings.Contains(screen, "on\r\n") {
		t.Errorf("exit code %d, screen\n%q", code, screen)
	}

	if *before != *s.modes() {
		t.Error("the terminal is not as it was")
	}
}

// waitEchoOff waits until the terminal shows no more what is typed.
func waitEchoOff(t *testing.T, s *session) {
	t.Helper()

	for deadline := time.Now().Add(rackPatience); ; time.Sleep(time.Millisecond) {
		if !echoes(t, s) {
			return
		}

		if time.Now().After(deadline) {
			t.Fatal("the terminal goes on echoing")
		}
	}
}

// An interrupt in the middle of an act: what was done is said, what was not is
// not done, and no session stays open.
func TestInterruptSaysWhatWasDone(t *testing.T) {
	r := newRack(t)
	cmd, stderr := rackCommand(t, r, "power", "cycle", "r1n[02-11]", "^r1n05", "--stagger", "1s", "--yes")

	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.Contains(line, "on again after") {
		t.Fatalf("%q, %v, %s", line, err, stderr)
	}

	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}

	if code := exitCode(t, cmd.Wait()); code != 130 || !strings.Contains(stderr.String(), "bmctl: error: interrupted\n") {
		t.Errorf("exit code %d, %s", code, stderr)
	}

	done, rest := told(t, stderr.String(), "cycle done"), told(t, stderr.String(), "cycle not done")
	if len(done)+len(rest) != 9 || len(done) == 0 || len(rest) == 0 {
		t.Fatalf("done %v, not done %v, of 9\n%s", done, rest, stderr)
	}

	for _, name := range done {
		if acts := r.sims[name].Acts(); len(acts) != 1 || acts[0].Kind != bmcsim.ActCycle {
			t.Errorf("%s is said to be done and got %v", name, acts)
		}
	}

	for _, name := range rest {
		if acts := r.sims[name].Acts(); len(acts) != 0 {
			t.Errorf("%s is said not to be done and got %v", name, acts)
		}
	}

	if open := r.sessions(); open != 0 {
		t.Errorf("%d sessions are open", open)
	}
}

// told are the machines behind the words in a warning.
func told(t *testing.T, stderr, words string) []string {
	t.Helper()

	found := regexp.MustCompile(`(?m)^bmctl: warning: ` + words + `: (\S+)$`).FindStringSubmatch(stderr)
	if found == nil {
		return nil
	}

	names, err := hosts.Expand(found[1:], hosts.Options{})
	if err != nil {
		t.Fatal(err)
	}

	return names
}

func TestInterruptInTheMiddleOfAnActIsNotSure(t *testing.T) {
	r := newRack(t)
	if err := r.sims["r1n03"].SetFault(bmcsim.FaultLyingPower, true); err != nil {
		t.Fatal(err)
	}

	cmd, stderr := rackCommand(t, r, "power", "off", "r1n03")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	for deadline := time.Now().Add(rackPatience); len(r.sims["r1n03"].Acts()) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the act never arrived")
		}
	}

	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}

	if code := exitCode(t, cmd.Wait()); code != 130 || !strings.Contains(stderr.String(), "off asked, result not seen: r1n03\n") {
		t.Errorf("exit code %d, %s", code, stderr)
	}

	if open := r.sessions(); open != 0 {
		t.Errorf("%d sessions are open", open)
	}
}

func TestPowerWatchShowsChangesUntilTheReaderIsGone(t *testing.T) {
	r := newRack(t)
	cmd, stderr := rackCommand(t, r, "power", "status", "r1n[02,05]", "--watch", "-o", "json")

	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	lines := bufio.NewScanner(stdout)
	for range 2 {
		if !lines.Scan() {
			t.Fatal(lines.Err(), stderr)
		}
	}

	on, _ := rackCommand(t, r, "power", "on", "r1n05")
	if err := on.Run(); err != nil {
		t.Fatal(err)
	}

	if !lines.Scan() || !strings.Contains(lines.Text(), `"name":"r1n05"`) || !strings.Contains(lines.Text(), `"power":"on"`) {
		t.Errorf("the change shows as %q", lines.Text())
	}

	if err := stdout.Close(); err != nil {
		t.Fatal(err)
	}

	off, _ := rackCommand(t, r, "power", "off", "r1n05")
	if err := off.Run(); err != nil {
		t.Fatal(err)
	}

	if code := exitCode(t, cmd.Wait()); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, %s; want 0 and silence", code, stderr)
	}

	if open := r.sessions(); open != 0 {
		t.Errorf("%d sessions are open", open)
	}
}

func TestAnActGoesOnWhenThePipeIsClosed(t *testing.T) {
	r := newRack(t)

	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}

	cmd, stderr := rackCommand(t, r, "power", "cycle", "r1n[06-09]", "--yes", "--stagger", "0s", "-n", "1")
	cmd.Stdout = writer
	err = cmd.Run()

	if err := writer.Close(); err != nil {
		t.Error(err)
	}

	if code := exitCode(t, err); code != 0 {
		t.Errorf("exit code %d, %s", code, stderr)
	}

	for _, name := range []string{"r1n06", "r1n07", "r1n08", "r1n09"} {
		if len(r.sims[name].Acts()) != 1 {
			t.Errorf("%s got %v", name, r.sims[name].Acts())
		}
	}
}

// mute binds 127.<net>.i's UDP and TCP port and answers nothing: packets are
// taken, connections opened, and that is all.
func mute(t *testing.T, address string) {
	t.Helper()

	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}

	tcp, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = udp.Close()
		_ = tcp.Close()
	})
}

// 254 addresses of which 250 are dark take no longer than one of them.
func TestASweepTakesNoLongerThanOneDarkAddress(t *testing.T) {
	r := newRack(t)
	prefix := strings.TrimSuffix(r.sims["r1n02"].Addr().String(), ".2")

	for i := 1; i <= 254; i++ {
		if name := fmt.Sprintf("r1n%02d", i); i < 6 || i > 9 {
			if sim := r.sims[name]; sim != nil {
				if err := sim.Close(); err != nil {
					t.Fatal(err)
				}
			}

			mute(t, fmt.Sprintf("%s.%d:%d", prefix, i, r.ipmiPort))
		}
	}

	const timeout = 3 * time.Second

	cmd, stderr := rackCommand(t, r, "probe", prefix+".0/24", "--port", fmt.Sprint(r.ipmiPort), "--timeout", timeout.String())
	cmd.Env = append(cmd.Env, "BMCTL_CONFIG=/dev/null", "BMCTL_BMC_PASSWORD="+rackPassword)
	cmd.Args = append(cmd.Args, "--username", rackUser)

	begun := time.Now()
	stdout, err := cmd.Output()
	took := time.Since(begun)

	if code := exitCode(t, err); code != 3 || !strings.Contains(stderr.String(), "254 probed: 4 ready, 250 silent\n") {
		t.Errorf("exit code %d, %s\n%s", code, stderr, stdout)
	}

	if took > timeout+time.Second {
		t.Errorf("the sweep took %v, with a timeout of %v", took, timeout)
	}

	if !strings.Contains(string(stdout), prefix+".[1-5,10-254]  -") {
		t.Errorf("the dark addresses are not folded:\n%s", stdout)
	}

	t.Logf("254 addresses, 250 dark, timeout %v: %v", timeout, took)
}
