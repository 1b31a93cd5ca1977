package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/operator"
)

// The results of an act on one machine.
const (
	resultAccepted = "accepted"
	resultRejected = "rejected"
	resultReady    = "ready"
	resultFailed   = "failed"
	resultNotReady = "not-ready" // accepted, and the wait is over
)

type actList struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Items      []actResult `json:"items"`
}

type actResult struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	Result  string  `json:"result"`
	Seconds float64 `json:"seconds,omitempty"` // until ready
	Status  string  `json:"status,omitempty"`  // the last seen while waiting
	Error   string  `json:"error,omitempty"`

	err error
}

func (a *app) acceptEach(ctx context.Context, omni *operator.Client, chosen []candidate, labels map[string]string) []actResult {
	return a.actEach(ctx, chosen, resultAccepted, func(ctx context.Context, id string) error {
		if err := omni.Accept(ctx, id); err != nil || len(labels) == 0 {
			return err
		}

		return omni.Label(ctx, id, labels)
	})
}

// actEach acts on one machine after the other and says so as it happens. After
// an interrupt the rest is not begun.
func (a *app) actEach(ctx context.Context, chosen []candidate, done string, act func(context.Context, string) error) []actResult {
	results := make([]actResult, len(chosen))

	for i, c := range chosen {
		results[i] = actOne(ctx, c, done, act)
		a.sayOf(results[i], len(chosen))
	}

	return results
}

func actOne(ctx context.Context, c candidate, done string, act func(context.Context, string) error) actResult {
	result := actResult{ID: c.ID, Name: c.name, Result: done}

	err := ctx.Err()
	if err == nil {
		err = act(ctx, c.ID)
	}

	if err != nil {
		result.Result, result.Error, result.err = resultFailed, oneLine(err.Error()), err
	}

	return result
}

// sayOf is say for one of so many machines. Where it is the only one, the
// command's error tells how it failed.
func (a *app) sayOf(r actResult, machines int) {
	if r.err == nil || machines > 1 {
		a.say(r)
	}
}

// say writes the result of one machine as a line, in the formats for people.
func (a *app) say(r actResult) {
	if a.global.output.Machine() {
		return
	}

	line := fmt.Sprintf("%-8s  %s", r.Result, r.Name)

	switch {
	case r.Error != "":
		a.note("%s: %s", line, r.Error)

		return
	case r.Seconds > 0:
		line += fmt.Sprintf(" after %ds", int(r.Seconds))
	}

	fmt.Fprintln(a.stdout, out.Clean(line)) //nolint:errcheck // a reader that went away does not undo the act
}

// waitReady follows the machines in serve's snapshot until each is ready or the
// time is over, and writes what it sees into the results.
func (a *app) waitReady(ctx context.Context, results []actResult, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	client := a.serveClient()
	defer client.Close()

	start := time.Now()
	answered := start
	ticker := time.NewTicker(time.Second)

	defer ticker.Stop()

	for {
		left, err := a.checkReady(ctx, client, results, start)
		if left == 0 {
			return
		}

		if err == nil {
			answered = time.Now()
		}

		if ctx.Err() != nil || time.Since(answered) > silence {
			giveUp(ctx, results, err)

			return
		}

		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// silence is how long serve may be away, to be restarted, before a wait is
// given up.
const silence = 15 * time.Second

// checkReady updates the results and returns how many machines are still waited
// for. A snapshot that fails is tried again: serve may be restarting.
func (a *app) checkReady(ctx context.Context, client *localapi.Client, results []actResult, start time.Time) (left int, err error) {
	list, err := client.Machines(ctx)

	seen := map[string]localapi.Machine{}
	for _, m := range list.Items {
		seen[m.ID] = m
	}

	for i := range results {
		r := &results[i]
		if r.Result != resultAccepted {
			continue
		}

		left++

		m, known := seen[r.ID]
		if !known {
			continue
		}

		if m.ReadyToUse {
			r.Result, r.Status, r.Seconds = resultReady, m.Status, time.Since(start).Seconds()
			left--

			a.say(*r)

			continue
		}

		if m.Status != r.Status {
			r.Status = m.Status
			a.note("%-8s  %s %s: %s", m.Status, r.Name, elapsed(start), m.Reason)
		}
	}

	return left, err
}

func elapsed(start time.Time) string {
	d := time.Since(start)

	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

func giveUp(ctx context.Context, results []actResult, last error) {
	for i := range results {
		r := &results[i]
		if r.Result != resultAccepted {
			continue
		}

		if interrupted(ctx) {
			r.err = context.Cause(ctx)

			continue // it stays accepted, which was said
		}

		cause := failf(codeTimeout, "bmctl machines get "+r.Name, "%s is accepted, and not ready in time", r.Name)
		cause.target = r.ID

		if last != nil {
			cause = failf(codeServeDown, "bmctl machines get "+r.Name, "%s is accepted, and cannot be followed: %w", r.Name, last)
		}

		r.Result, r.Error, r.err = resultNotReady, cause.message, cause
	}
}

// setFailure is the failure of a set: none, that of every machine, or some
// failed.
func setFailure(results []actResult) error {
	var failed []error

	for _, r := range results {
		if r.err != nil {
			failed = append(failed, r.err)
		}
	}

	switch {
	case len(failed) == 0:
		return nil
	case len(results) == 1:
		return failed[0]
	case len(failed) < len(results):
		return failf(codeSomeFailed, "", "%d of %d machines failed; the first: %w", len(failed), len(results), failed[0])
	default:
		f := *classify(failed[0])
		f.message = fmt.Sprintf("all %d machines failed; the first: %v", len(results), failed[0])
		f.err = errors.Join(failed...)

		return &f
	}
}
