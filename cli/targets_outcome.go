package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bmctl/bmctl/power"
)

// setOutcome is the failure of a command on a set of targets; errs has one place
// for each, nil where nothing failed. Failures of every target that are of
// different kinds are a plain error.
func setOutcome(errs []error) error {
	var failed []*failure

	for _, err := range errs {
		if err != nil {
			failed = append(failed, classify(err))
		}
	}

	switch {
	case len(failed) == 0:
		return nil
	case len(errs) == 1:
		return failed[0]
	case len(failed) < len(errs):
		return failf(codeSomeFailed, "", "%d of %d targets failed; the first: %w", len(failed), len(errs), failed[0])
	}

	f := *failed[0]
	f.message = fmt.Sprintf("all %d targets failed; the first: %s", len(errs), f.message)
	f.target, f.err = "", errors.Join(errs...)

	for _, other := range failed {
		if codes()[other.code].exit != codes()[f.code].exit {
			f.exit = exitError
		}
	}

	return &f
}

// blamed is an error of one BMC with the next thing to try.
func blamed(bmc chosenBMC, err error) error {
	if err == nil {
		return nil
	}

	f := *classify(err)
	f.target = bmc.Name

	switch {
	case f.hint != "":
	case f.code == codeBMCUnreachable:
		f.hint = "bmctl probe " + bmc.Name
	case f.code == codeBMCAuth:
		f.hint = "check user and password: bmctl probe " + bmc.Name
	}

	return &f
}

// faultWord is one word for a failure, as it stands where a power state would.
func faultWord(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, power.ErrUnreachable) && errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, power.ErrUnreachable):
		return "unreachable"
	case errors.Is(err, power.ErrAuth):
		return "login"
	case errors.Is(err, power.ErrBusy):
		return "busy"
	case errors.Is(err, power.ErrRefused):
		return "refused"
	case errors.Is(err, power.ErrUnsupported):
		return "unsupported"
	case errors.Is(err, power.ErrAmbiguous):
		return "ambiguous"
	default:
		return "error"
	}
}

// faultDetail is what went wrong without what the row says already: the target,
// and the address, by which rows would not fold.
func faultDetail(bmc chosenBMC, err error) string {
	if err == nil {
		return ""
	}

	text := err.Error()

	var fault *power.Error
	if errors.As(err, &fault) {
		text = fault.Detail
	}

	before, after, found := strings.Cut(text, " from "+bmc.Address+":")
	if !found {
		return oneLine(text)
	}

	return oneLine(before + strings.TrimLeft(after, "0123456789"))
}
