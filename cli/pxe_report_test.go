package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/boot/pxeclient"
)

func failedStep(name string) pxeclient.Step {
	return pxeclient.Step{Name: name, Detail: "no\x1b[2Jway", Code: "PXE-X", Hint: "do something", At: time.Now()}
}

func passedStep(name string) pxeclient.Step {
	return pxeclient.Step{Name: name, OK: true, Detail: "done", Bytes: -1, At: time.Now()}
}

// What one failed step means depends on what comes after it.
func TestWhatAFailedStepMeans(t *testing.T) {
	stopped := &pxeclient.Error{Step: "script", Code: "PXE-X", Hint: "do something", Err: errors.New("no way")}

	for _, c := range []struct {
		name     string
		steps    []pxeclient.Step
		outcome  pxeclient.Outcome
		err      error
		verdicts string
		summary  string
	}{
		{"the last one", []pxeclient.Step{passedStep("script"), failedStep("kernel")}, pxeclient.OutcomeFailed, stopped, "ok fail", "does not boot PXE-X"},
		{
			"a script that has another way", []pxeclient.Step{failedStep("script"), passedStep("script"), passedStep("kernel")}, pxeclient.OutcomeKernel, nil,
			"warn ok ok", "works: the kernel would start, 1 warning",
		},
		{"told to wait", []pxeclient.Step{passedStep("script"), passedStep("console"), passedStep("sleep")}, pxeclient.OutcomeWait, nil, "ok ok ok", "works: it is told to wait"},
		{
			"waits because it failed", []pxeclient.Step{passedStep("script"), failedStep("kernel"), passedStep("sleep")}, pxeclient.OutcomeWait, nil,
			"ok warn ok", "does not boot, 1 warning",
		},
		{
			"waits after another script", []pxeclient.Step{failedStep("script"), passedStep("script"), passedStep("sleep")}, pxeclient.OutcomeWait, nil,
			"warn ok ok", "works: it is told to wait, 1 warning",
		},
		{"reboots", []pxeclient.Step{passedStep("reboot")}, pxeclient.OutcomeReboot, nil, "ok", "does not boot"},
		{"a shell", []pxeclient.Step{passedStep("stuck")}, pxeclient.OutcomeStuck, nil, "ok", "does not boot"},
	} {
		var stdout bytes.Buffer

		a := newApp(nil, &stdout, nil, nil)
		r := &pxeReport{app: a, live: true}
		r.begin("uefi", pxeclient.Client{Arch: "amd64", Firmware: pxeclient.UEFI}, false)

		for _, step := range c.steps {
			r.step(step)
		}

		r.end(pxeclient.Result{Outcome: c.outcome}, c.err)

		var verdicts []string
		for _, step := range r.current().Steps {
			verdicts = append(verdicts, step.Verdict)
		}

		lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
		if got := strings.Join(verdicts, " "); got != c.verdicts || lines[len(lines)-1] != c.summary {
			t.Errorf("%s: %s; %s", c.name, got, stdout.String())
		}

		works := strings.HasPrefix(c.summary, "works")
		if (r.outcome() == nil) != works || r.current().Works != works || (r.current().Error == "") != works {
			t.Errorf("%s: %v, %+v", c.name, r.outcome(), r.current())
		}

		if strings.Contains(stdout.String(), "\x1b") {
			t.Errorf("%s: an escape sequence gets through: %q", c.name, stdout.String())
		}
	}
}

func TestReaderOfTheReportGoesAway(t *testing.T) {
	a := newApp(nil, fullDisk{}, nil, nil)
	r := &pxeReport{app: a, live: true}
	r.begin("uefi", pxeclient.Client{}, true)
	r.step(passedStep("dhcp"))

	if r.failed == nil || r.print(a.printer()) == nil {
		t.Error("nothing is told of it")
	}
}
