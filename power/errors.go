package power

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// Error is what a failing call of a BMC returns. Its text reads
// "r1n07: power on: no answer from 10.0.3.7:623 in 5s".
type Error struct {
	// Target is the label of the target.
	Target string
	// Op is what was attempted: "power on", "read the power state".
	Op string
	// Detail is what went wrong, without target and attempt.
	Detail string
	// Kind is one of this package's kinds of failure.
	Kind error
	// Cause is what lies below, if anything: a context's or the network's error.
	Cause error
}

// Error implements error.
func (e *Error) Error() string { return e.Target + ": " + e.Op + ": " + e.Detail }

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}

	return []error{e.Kind, e.Cause}
}

// failure is an error on its way up from a driver: a kind and a text, not yet
// the target's name.
type failure struct {
	kind   error
	detail string
	cause  error
	// status is the HTTP status of the answer, if it was one.
	status int
	// completion is the IPMI completion code of the refusal, if it was one.
	completion uint8
	// privilege: the user is known, but may not do this.
	privilege bool
	// noSystem: the controller has none.
	noSystem bool
	// lost: the controller has forgotten the session; a new one may work.
	lost bool
}

func (f *failure) Error() string { return f.detail }

func (f *failure) Unwrap() error { return f.cause }

// fail makes a failure of the kind.
func fail(kind error, format string, args ...any) *failure {
	return &failure{kind: kind, detail: fmt.Sprintf(format, args...)}
}

// because adds what lies below; the text should tell it already.
func (f *failure) because(cause error) *failure {
	f.cause = cause

	return f
}

// isKind tells whether a driver's error is of the kind.
func isKind(err, kind error) bool {
	var f *failure

	return errors.As(err, &f) && f.kind == kind
}

// isLost tells whether the controller has forgotten the session.
func isLost(err error) bool {
	var f *failure

	return errors.As(err, &f) && f.lost
}

// httpStatus is the status with which the controller refused; 0: it did not.
func httpStatus(err error) int {
	var f *failure
	if errors.As(err, &f) {
		return f.status
	}

	return 0
}

// forbidden marks a refusal of what the user may not do.
func (f *failure) forbidden() *failure {
	f.privilege = true

	return f
}

// completionCode is the IPMI completion code of a refusal; 0: it was none.
func completionCode(err error) types.CompletionCode {
	var f *failure
	if errors.As(err, &f) {
		return types.CompletionCode(f.completion)
	}

	return 0
}

// noAnswer is the failure of an exchange to which nothing came back.
func noAnswer(ctx context.Context, endpoint string, since time.Time) *failure {
	elapsed := time.Since(since).Round(100 * time.Millisecond)

	if errors.Is(ctx.Err(), context.Canceled) {
		return fail(ErrUnreachable, "cancelled while waiting for %s", endpoint).because(ctx.Err())
	}

	f := fail(ErrUnreachable, "no answer from %s in %s", endpoint, elapsed)
	if over(ctx) {
		f.cause = context.DeadlineExceeded
	}

	return f
}

// over tells whether the call's time is up. The deadline passes a moment before
// the context says so.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()

	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// blame turns a driver's error into the one that callers see.
func blame(target Target, op string, err error) error {
	if err == nil {
		return nil
	}

	var f *failure
	if !errors.As(err, &f) {
		f = fail(ErrUnreachable, "%v", err).because(err)
	}

	return &Error{Target: target.Label(), Op: op, Detail: f.detail, Kind: f.kind, Cause: f.cause}
}
