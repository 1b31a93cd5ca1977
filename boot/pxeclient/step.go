package pxeclient

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Step is one thing that the client did, or read on its console.
type Step struct {
	// Name is one of dhcp, request, tftp, http, script, console, sleep, kernel,
	// initrd, disk, reboot.
	Name string
	// OK is false where it failed; Detail then says why, and Code and Hint are
	// those of the Error.
	OK         bool
	Detail     string
	Code, Hint string
	At         time.Time
	Duration   time.Duration
	// Warnings are what is wrong without being in the way.
	Warnings []string
	// Offers are those that a step dhcp got, in the order of their arrival.
	Offers []Offer
	// File is the name or URL of what was loaded, Bytes its size, -1 if it was not
	// told, and SHA256 the loader's digest in hexadecimal.
	File   string
	Bytes  int64
	SHA256 string
}

// Error is a failed boot, in the firmware's terms.
type Error struct {
	// Step is the name of the step that failed.
	Step string
	// Code is what the firmware shows ("PXE-E16"), if it has a code for it.
	Code string
	// Hint is one line of what to do, if there is something to say.
	Hint string
	Err  error

	reported bool // as a step
}

// Error implements error.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("%s: %v", e.Step, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Step, e.Code, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// step reports what was done since started; a failed step is an *Error.
func (b *boot) step(started time.Time, name, detail string, err error) error {
	return b.report(Step{Name: name, Detail: detail, At: started}, err)
}

// report completes a step that has just ended and hands it out. An error that was
// a step already is no second one.
func (b *boot) report(s Step, err error) error {
	var failure *Error
	if errors.As(err, &failure) {
		if failure.reported {
			return err
		}
		failure.reported = true
		s.Code, s.Hint = failure.Code, failure.Hint
	}
	s.OK, s.Duration = err == nil, time.Since(s.At)
	if err != nil {
		s.Detail = err.Error()
	}
	if failure != nil {
		s.Detail = failure.Err.Error()
	}
	s.Warnings, b.warnings = b.warnings, nil
	b.result.Steps = append(b.result.Steps, s)
	if len(b.result.Steps) > maxSteps {
		b.result.Steps = b.result.Steps[1:]
	}
	b.Log.Debug("pxe client", "step", s.Name, "ok", s.OK, "detail", s.Detail, "mac", b.MAC)
	b.OnStep(s)
	return err
}

// warn adds to the next step that ends what was not said before.
func (b *boot) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !b.warned[text] {
		b.warned[text] = true
		b.warnings = append(b.warnings, text)
	}
}

func (b *boot) record(from, to netip.AddrPort, data []byte) {
	if b.OnPacket == nil {
		return
	}
	b.recorder.Lock()
	defer b.recorder.Unlock()
	b.OnPacket(Packet{At: time.Now(), From: from, To: to, Data: data})
}
