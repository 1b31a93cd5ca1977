package bmcsim

import (
	"context"
	"slices"

	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/bmctl/bmctl/power"
)

// fault tells whether the IPMI face has the fault.
func (f *ipmiFace) fault(name string) bool { return f.owner.faults.on(power.ProtocolIPMI, name) }

// habits are the faults that refuse commands, or change them.
func (f *ipmiFace) habits(next handlers.Handler) handlers.Handler {
	return handlers.HandlerFunc(func(ctx context.Context, hctx *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
		if code := f.refusal(hctx.Command, req); code != types.CodeOK {
			return nil, code, nil
		}

		if hctx.Command == types.CommandGetLanConfigParam && f.fault(FaultOddChannel) {
			req = slices.Concat([]byte{lanChannel}, req[1:])
		}

		resp, code, err := next.Handle(ctx, hctx, req)

		if hctx.Command == types.CommandGetSystemBootOptions && f.fault(FaultBootBitsLost) && len(resp) > 2 {
			resp[2] = 0
		}

		if hctx.Command == types.CommandGetChannelPayloadSupport && f.fault(FaultNoConsole) && len(resp) > 0 {
			resp[0] &^= 1 << types.PayloadTypeSOL
		}

		return resp, code, err
	})
}

// refusal is the completion code by which a fault refuses the command.
func (f *ipmiFace) refusal(c types.Command, req []byte) types.CompletionCode {
	const oddChannel, mostAtOnce = 8, 16

	code := f.owner.faults.value(power.ProtocolIPMI, FaultCode)

	switch {
	case c.NetFn == types.NetFnChassisRequest && code != 0:
		return types.CompletionCode(code)
	case c == types.CommandSetSystemBootOptions && f.fault(FaultNoBootClearing) && len(req) > 0 && req[0] == bootOptionValidBitClear:
		return types.CodeParameterNotSupported
	case c.NetFn == types.NetFnChassisRequest && f.fault(FaultBusy):
		return types.CodeNodeBusy
	case c == types.CommandActivatePayload && f.fault(FaultNoConsole):
		return types.CodeActivatePayloadTypeDisabled
	case c == types.CommandGetSDR && f.fault(FaultShortReads) && len(req) > 5 && req[5] > mostAtOnce:
		return types.CodeCannotReturnRequestedDataBytes
	case c == types.CommandGetLanConfigParam && f.fault(FaultOddChannel) && len(req) > 0 && req[0]&0x0f != oddChannel:
		return types.CodeRequestDataFieldInvalid
	case slices.Contains([]types.Command{types.CommandGetSDR, types.CommandReserveSDRRepo, types.CommandGetSELInfo}, c) &&
		f.fault(FaultNoRecords):
		return types.CodeInvalidCommand
	default:
		return types.CodeOK
	}
}
