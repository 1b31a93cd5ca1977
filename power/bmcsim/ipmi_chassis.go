package bmcsim

import (
	"context"
	"time"

	command "github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/bmctl/bmctl/power"
)

// simHAL is the hardware that go-ipmi's own handlers see: FRU and SDR store,
// serial port and network interface. Without a chassis of its own, BMC Cold Reset (App 02h) cannot
// be mistaken for a reset of the machine.
type simHAL struct {
	storage *mock.Storage
	owner   *BMC
}

func newHAL(b *BMC) (simHAL, error) {
	cfg, ctx := b.cfg, context.Background()

	own, err := types.PackFRU(types.FRUPackConfig{
		Chassis: &types.FRUPackChassis{Type: 0x17, Serial: cfg.Serial},
		Board:   &types.FRUPackBoard{Mfg: cfg.Vendor, Product: cfg.Model, Serial: cfg.Serial},
		Product: &types.FRUPackProduct{Manufacturer: cfg.Vendor, Name: cfg.Model, Serial: cfg.Serial},
	})
	if err != nil {
		return simHAL{}, err
	}

	supply, err := types.PackFRU(types.FRUPackConfig{
		Product: &types.FRUPackProduct{Manufacturer: "Contoso Power", Name: "PS-800", PartModel: "PS-800-2", Serial: "PS" + cfg.Serial},
	})
	if err != nil {
		return simHAL{}, err
	}

	h := simHAL{&mock.Storage{}, b}

	for id, fru := range map[byte][]byte{0: own, supplyFRU: supply} {
		if err := h.storage.FRU().Write(ctx, id, fru); err != nil {
			return simHAL{}, err
		}
	}

	for i, record := range sensorRecords() {
		if err := h.storage.SDR().Write(ctx, uint16(i+1), record); err != nil {
			return simHAL{}, err
		}
	}

	return h, nil
}

func (simHAL) Chassis() hal.ChassisHAL   { return nil }
func (simHAL) Sensors() hal.SensorHAL    { return nil }
func (h simHAL) Storage() hal.StorageHAL { return h.storage }
func (h simHAL) Network() hal.NetworkHAL { return network{h.owner} }
func (simHAL) GPIO() hal.GPIOHAL         { return nil }
func (simHAL) I2C() hal.I2CHAL           { return nil }
func (h simHAL) Console() hal.ConsoleHAL { return &h.owner.serial }
func (simHAL) Close() error              { return nil }

// ipmiChassis answers the chassis commands (IPMI 2.0, section 28).
type ipmiChassis struct {
	chassis *chassis
	faults  *faults
}

func (c *ipmiChassis) status(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	resp := command.GetChassisStatusResponse{
		PowerIsOn:                c.chassis.state() == power.StateOn,
		ChassisIdentifySupported: true,
	}

	return resp.Pack(), types.CodeOK, nil
}

// control answers Chassis Control (section 28.3). Cycle, reset and NMI of a
// machine that is off are D5h, "not supported in present state".
func (c *ipmiChassis) control(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < 1 {
		return nil, types.CodeRequestDataTruncated, nil
	}

	kind, ok := map[command.ChassisControl]ActKind{
		command.ChassisControlPowerDown:           ActOff,
		command.ChassisControlPowerUp:             ActOn,
		command.ChassisControlPowerCycle:          ActCycle,
		command.ChassisControlHardReset:           ActReset,
		command.ChassisControlDiagnosticInterrupt: ActNMI,
		command.ChassisControlSoftShutdown:        ActSoft,
	}[command.ChassisControl(req[0]&0x0f)]

	switch {
	case !ok:
		return nil, types.CodeRequestDataFieldInvalid, nil
	case kind == ActCycle && c.faults.on(power.ProtocolIPMI, FaultNoCycle):
		c.chassis.note(Act{Kind: kind, Protocol: power.ProtocolIPMI, Refused: true})

		return nil, types.CodeRequestDataFieldInvalid, nil
	case !c.chassis.switchPower(kind, power.ProtocolIPMI):
		return nil, types.CodeNotSupported, nil
	}

	return nil, types.CodeOK, nil
}

// identify answers Chassis Identify (section 28.5): for 15 s, a number of
// seconds, or until it is switched off.
func (c *ipmiChassis) identify(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	seconds := byte(15)
	if len(req) > 0 {
		seconds = req[0]
	}

	until := c.chassis.now().Add(time.Duration(seconds) * time.Second)

	switch {
	case len(req) > 1 && c.faults.on(power.ProtocolIPMI, FaultTimedLamp):
		return nil, types.CodeRequestDataFieldInvalid, nil
	case len(req) > 1 && req[1]&1 != 0:
		c.chassis.light(true, time.Time{})
	default:
		c.chassis.light(seconds > 0, until)
	}

	return nil, types.CodeOK, nil
}

// Boot option parameters (IPMI 2.0, table 28-14).
const (
	bootOptionSetInProgress  = 0
	bootOptionValidBitClear  = 3
	bootOptionAcknowledge    = 4
	bootOptionFlags          = 5
	bootOptionVersion        = 1
	bootFlagsValid           = 0x80
	bootFlagsPersistent      = 0x40
	bootFlagsEFI             = 0x20
	bootOptionKeepOnTimeout  = 0x08
	bootFlagsSelectorShift   = 2
	bootFlagsSelectorMask    = 0x0f
	bootOptionSelectorMask   = 0x7f
	bootFlagsMinimumDataSize = 2
)

func (c *ipmiChassis) setBootOption(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < 1 {
		return nil, types.CodeRequestDataTruncated, nil
	}

	data := req[1:]

	switch req[0] & bootOptionSelectorMask {
	case bootOptionSetInProgress, bootOptionAcknowledge:
		return nil, types.CodeOK, nil
	case bootOptionValidBitClear:
		if len(data) < 1 {
			return nil, types.CodeRequestDataTruncated, nil
		}

		c.chassis.setKeepBoot(data[0]&bootOptionKeepOnTimeout != 0)

		return nil, types.CodeOK, nil
	case bootOptionFlags:
		if len(data) < bootFlagsMinimumDataSize {
			return nil, types.CodeRequestDataTruncated, nil
		}

		c.chassis.setBoot(override{
			enabled:    data[0]&bootFlagsValid != 0,
			persistent: data[0]&bootFlagsPersistent != 0,
			uefi:       data[0]&bootFlagsEFI != 0,
			selector:   data[1] >> bootFlagsSelectorShift & bootFlagsSelectorMask,
		}, power.ProtocolIPMI)

		return nil, types.CodeOK, nil
	default:
		return nil, types.CodeParameterNotSupported, nil
	}
}

func (c *ipmiChassis) getBootOption(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < 1 {
		return nil, types.CodeRequestDataTruncated, nil
	}

	selector := req[0] & bootOptionSelectorMask
	resp := []byte{bootOptionVersion, selector}

	switch selector {
	case bootOptionSetInProgress:
		return append(resp, 0), types.CodeOK, nil
	case bootOptionAcknowledge:
		return append(resp, 0, 0), types.CodeOK, nil
	case bootOptionValidBitClear:
		return append(resp, c.chassis.keepsBoot()), types.CodeOK, nil
	case bootOptionFlags:
		return append(resp, c.chassis.bootOverride().flags()...), types.CodeOK, nil
	default:
		return nil, types.CodeParameterNotSupported, nil
	}
}

// flags are the five bytes of boot option 5.
func (o override) flags() []byte {
	flags := make([]byte, 5)
	if o.enabled {
		flags[0] |= bootFlagsValid
	}

	if o.persistent {
		flags[0] |= bootFlagsPersistent
	}

	if o.uefi {
		flags[0] |= bootFlagsEFI
	}

	flags[1] = o.selector << bootFlagsSelectorShift

	return flags
}

// keepsBoot is boot option 3.
func (c *chassis) keepsBoot() byte {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.keepBoot {
		return bootOptionKeepOnTimeout
	}

	return 0
}
