package operator

import (
	"context"
	"errors"
	"strings"

	"github.com/cosi-project/runtime/pkg/state"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bmctl/bmctl/serve/trust"
)

// The kinds of failure; each *Error has one.
var (
	// ErrConfig: the endpoint, the key or the omniconfig cannot be used.
	ErrConfig = errors.New("bad configuration")
	// ErrAuth: Omni does not accept who we say we are.
	ErrAuth = errors.New("authentication failed")
	// ErrPermission: Omni knows us, and we may not.
	ErrPermission = errors.New("permission denied")
	// ErrUnreachable: Omni did not answer in time.
	ErrUnreachable = errors.New("unreachable")
	// ErrNotFound: Omni knows no such machine.
	ErrNotFound = errors.New("not found")
	// ErrRefused: it makes no sense for a machine in this state, or Omni said no;
	// nothing was changed.
	ErrRefused = errors.New("refused")
	// ErrPending: it has begun and takes longer than the deadline.
	ErrPending = errors.New("not finished")
	// ErrCanceled: the caller gave up.
	ErrCanceled = errors.New("canceled")
	// ErrUnknown: Omni failed in a way that has no kind.
	ErrUnknown = errors.New("failed")
)

// Error says what was attempted, on which machine, and how it failed.
type Error struct {
	Act     string // "accept"
	Machine string // the id; empty: it was about no single machine
	Kind    error  // one of the kinds above
	Hint    string // what to do about it; may be empty
	Cause   error  // may be nil
}

// Error returns act, machine, kind and cause; not the hint, which faces show apart.
func (e *Error) Error() string {
	var b strings.Builder

	b.WriteString(e.Act)

	if e.Machine != "" {
		b.WriteString(" " + e.Machine)
	}

	b.WriteString(": " + e.Kind.Error())

	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}

	return b.String()
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Cause} }

// The hints to a refusal for want of rights.
const (
	hintRole        = "needs the role Operator or higher"
	hintProviderKey = "needs the role Operator or higher: the provider's own key may not"
)

// fail makes an *Error of what Omni's client returned.
func (c *Client) fail(ctx context.Context, act, machine string, cause error) error {
	var already *Error
	if errors.As(cause, &already) {
		return already
	}

	failure := &Error{Act: act, Machine: machine, Kind: kindOf(ctx, cause), Hint: trust.Hint(cause), Cause: cause}

	switch {
	case failure.Kind != ErrPermission:
	case c.provider:
		failure.Hint = hintProviderKey
	default:
		failure.Hint = hintRole
	}

	return failure
}

// kindOf sorts an error of the state client, which hides some gRPC codes behind
// kinds of its own, or of gRPC itself.
func kindOf(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ErrCanceled
	case state.IsNotFoundError(err):
		return ErrNotFound
	case state.IsOwnerConflictError(err):
		return ErrPermission
	case state.IsConflictError(err):
		return ErrRefused
	case errors.Is(err, context.DeadlineExceeded):
		return ErrUnreachable
	}

	switch status.Code(err) {
	case codes.Unauthenticated:
		return ErrAuth
	case codes.PermissionDenied:
		return ErrPermission
	case codes.Unavailable, codes.DeadlineExceeded:
		return ErrUnreachable
	case codes.NotFound:
		return ErrNotFound
	case codes.InvalidArgument, codes.FailedPrecondition, codes.AlreadyExists, codes.Aborted:
		return ErrRefused
	default:
		return ErrUnknown
	}
}
