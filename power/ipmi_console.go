package power

import (
	"context"

	"github.com/bougou/go-ipmi/pkg/types"
)

// console implements serialPort: Activate Payload (IPMI 2.0, section 24.1) in a
// session of its own. Whether an OPERATOR may do that is the controller's
// setting (table 26-5, parameter 2); where not, it is tried as ADMINISTRATOR.
func (d *ipmi) console(ctx context.Context) (*console, error) {
	opened, err := d.consoleAs(ctx, types.PrivilegeLevelOperator)
	if isKind(err, ErrAuth) && completionCode(err) == types.CodeInsufficientPrivilege {
		opened, err = d.consoleAs(ctx, types.PrivilegeLevelAdministrator)
	}

	return opened, err
}

func (d *ipmi) consoleAs(ctx context.Context, level types.PrivilegeLevel) (*console, error) {
	// A driver of its own has a session of its own.
	own := &ipmi{target: d.target, address: d.address, host: d.host, gap: d.gap, mode: d.mode, log: d.log, level: level}

	limits, err := own.activate(ctx)
	if err != nil {
		// The controller ends by its own clock what it cannot be told now.
		_ = own.close(context.WithoutCancel(ctx))

		return nil, err
	}

	return newConsole(own, limits), nil
}

// solPayload is the number of serial over LAN, and its first instance.
var solPayload = []byte{byte(types.PayloadTypeSOL), 1}

// activate takes the serial port, and tells how many characters a packet holds.
func (d *ipmi) activate(ctx context.Context) (int, error) {
	// Encrypted and authenticated; alerts of the serial port fail meanwhile.
	const encrypted, authenticated = 0x80, 0x40

	c := commandOf(types.CommandActivatePayload, append(solPayload, encrypted|authenticated, 0, 0, 0)...)

	data, err := d.command(ctx, c.asOperator())
	if err != nil {
		return 0, d.activateFailure(err)
	}

	const header, withSizes, fewest, most = 4, 8, 16, 255

	limit := fewest
	if len(data) >= withSizes {
		limit = int(data[4]) | int(data[5])<<8
	}

	return min(max(limit-header, fewest), most-header), nil
}

// activateFailure reads the completion codes of Activate Payload (table 24-2).
func (d *ipmi) activateFailure(err error) error {
	switch completionCode(err) {
	case types.CodeActivatePayloadAlreadyActive, types.CodeActivatePayloadActivationLimitReached:
		return fail(ErrBusy, "somebody else has the console of %s", d.address).because(err)
	case types.CodeActivatePayloadTypeDisabled:
		return fail(ErrUnsupported, "serial over LAN is switched off at %s", d.address).because(err)
	case types.CodeActivatePayloadCannotActivateWithEncryption:
		return fail(ErrUnsupported, "%s has no encrypted serial over LAN", d.address).because(err)
	case types.CodeInvalidCommand, types.CodeIllegalCommand:
		return fail(ErrUnsupported, "no serial over LAN at %s", d.address).because(err)
	default:
		return err
	}
}

// deactivate gives the serial port back (IPMI 2.0, section 24.2).
func (d *ipmi) deactivate(ctx context.Context) {
	// Where this fails, the end of the session does it.
	_, _ = d.request(ctx, commandOf(types.CommandDeactivatePayload, append(solPayload, 0, 0, 0, 0)...))
}
