package power

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// ipmiCommand is a request: network function, command and data.
type ipmiCommand struct {
	name  string
	netFn types.NetFn
	id    uint8
	data  []byte
	// lun is the logical unit that is asked, 0 but for some sensors.
	lun uint8
	// operator: the command needs more than the privilege USER.
	operator bool
	// once: twice is not as good as once, so it is not sent in a new datagram
	// when the answer was lost.
	once bool
}

// The commands that this driver sends (IPMI 2.0, appendix G).
func commandOf(c types.Command, data ...byte) ipmiCommand {
	return ipmiCommand{name: c.Name, netFn: c.NetFn, id: c.ID, data: data}
}

func (c ipmiCommand) asOperator() ipmiCommand {
	c.operator = true

	return c
}

// command has a command carried out in a session.
func (d *ipmi) command(ctx context.Context, c ipmiCommand) ([]byte, error) {
	if err := d.connect(ctx); err != nil {
		return nil, err
	}

	if c.operator && !d.session.operator {
		if err := d.raise(ctx); err != nil {
			return nil, err
		}
	}

	return d.request(ctx, c)
}

// raise takes the privilege that acts need; a session starts as USER (IPMI 2.0,
// section 22.18).
func (d *ipmi) raise(ctx context.Context) error {
	_, err := d.request(ctx, commandOf(types.CommandSetSessionPrivilegeLevel, byte(d.level)))

	var f *failure
	if errors.As(err, &f) && f.kind != ErrUnreachable && f.kind != ErrBusy {
		return fail(ErrAuth, "%s does not let user %q be %s", d.address, d.target.Username, levelName(d.level)).forbidden()
	}

	if err == nil {
		d.session.operator = true
	}

	return err
}

func levelName(level types.PrivilegeLevel) string {
	if level == types.PrivilegeLevelAdministrator {
		return "ADMINISTRATOR"
	}

	return "OPERATOR"
}

// request sends in the session that stands. A session in which nothing is
// answered any more is given up.
func (d *ipmi) request(ctx context.Context, c ipmiCommand) ([]byte, error) {
	since := time.Now()

	for _, try := range d.tries(c) {
		if err := d.breathe(ctx); err != nil {
			return nil, noAnswer(ctx, d.address, since)
		}

		data, err := d.session.request(ctx, c, try)
		d.session.commanded = time.Now()

		if answered(err) {
			d.session.used = d.session.commanded

			return data, commandFailure(c, err, d.address)
		}

		if over(ctx) {
			return nil, c.unanswered(noAnswer(ctx, d.address, since))
		}
	}

	d.giveUp(ctx)

	f := c.unanswered(noAnswer(ctx, d.address, since))
	f.lost = !c.once

	return nil, f
}

// unanswered says what is not known of a command that was not sent anew.
func (c ipmiCommand) unanswered(f *failure) *failure {
	if c.once {
		f.detail += "; it may have been carried out all the same"
	}

	return f
}

// tries are how long each datagram of a command is waited for: only another
// one mends a lost answer. What is read is answered from memory, and who is
// slow with that has forgotten the session. What is done may take a controller
// seconds.
func (d *ipmi) tries(c ipmiCommand) []time.Duration {
	switch pace := d.session.pace; {
	case c.once:
		return []time.Duration{ipmiPatience}
	case c.operator:
		return []time.Duration{5 * pace, 5 * pace, ipmiPatience}
	default:
		return []time.Duration{pace, 2 * pace, ipmiTry}
	}
}

// breathe keeps the gap between two commands: some controllers freeze under
// bursts.
func (d *ipmi) breathe(ctx context.Context) error {
	rest := d.gap - time.Since(d.session.commanded)
	if rest <= 0 {
		return ctx.Err()
	}

	timer := time.NewTimer(rest)
	defer timer.Stop()

	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// giveUp drops a session that seems dead. It says goodbye all the same, without
// waiting for it: the controller may only have been slow.
func (d *ipmi) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()

	d.session.end(ctx)
	d.session = nil
}

// answered tells whether the controller answered, be it with a refusal.
func answered(err error) bool {
	_, refused := types.IsResponseError(err)

	return err == nil || refused
}

// commandFailure reads a completion code (IPMI 2.0, table 5-2).
func commandFailure(c ipmiCommand, err error, address string) error {
	refusal, ok := types.IsResponseError(err)
	if !ok {
		return err
	}

	code := refusal.CompletionCode()
	if code == types.CodeProcessTimeout && c.once {
		return c.unanswered(fail(ErrUnreachable, "%s took too long over %s", address, c.name))
	}

	f := fail(completionKind(code), "%s answered %s with completion code %02Xh (%s)",
		address, c.name, uint8(code), strings.ToLower(code.String()))
	f.completion = uint8(code)
	f.privilege = code == types.CodeInsufficientPrivilege

	return f
}

func completionKind(code types.CompletionCode) error {
	switch code {
	case types.CodeNodeBusy, types.CodeProcessTimeout, types.CodeOutOfSpace,
		types.CodeCannotProvideResponseSDRRInUpdate, types.CodeCannotProvideResponseFirmwareUpdate,
		types.CodeCannotProvideResponseBMCInitialize:
		return ErrBusy
	case types.CodeInsufficientPrivilege:
		return ErrAuth
	case types.CodeInvalidCommand, types.CodeInvalidCommandForLUN, types.CodeParameterOutOfRange,
		types.CodeRequestDataFieldInvalid, types.CodeIllegalCommand, types.CodeParameterNotSupported,
		types.CodeSubFnDisabled:
		return ErrUnsupported
	default:
		return ErrRefused
	}
}
