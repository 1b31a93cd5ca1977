package bmcsim

import (
	"context"
	"encoding/binary"

	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/bmctl/bmctl/power"
)

// ipmiHardware answers for sensors and event log, which go-ipmi's server has
// not (IPMI 2.0, sections 31 and 35).
type ipmiHardware struct{ owner *BMC }

func (h ipmiHardware) register(reg *handlers.Registry) {
	reg.RegisterFunc(types.CommandGetSensorReading, h.readSensor)
	reg.RegisterFunc(types.CommandGetSELInfo, h.logInfo)
	reg.RegisterFunc(types.CommandReserveSEL, h.reserveLog)
	reg.RegisterFunc(types.CommandGetSELEntry, h.logEntry)
}

func (h ipmiHardware) readSensor(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	const scanning, unavailable, present = 0xc0, 0x20, 0x01

	if len(req) < 1 {
		return nil, types.CodeRequestDataTruncated, nil
	}

	if req[0] == presenceSensor {
		return []byte{0, scanning, present, 0}, types.CodeOK, nil
	}

	for _, p := range probes {
		if p.number != req[0] {
			continue
		}

		raw, ok := h.owner.reading(p, power.ProtocolIPMI)
		if !ok {
			return []byte{0, scanning | unavailable, 0}, types.CodeOK, nil
		}

		return []byte{raw, scanning, p.thresholds(raw)}, types.CodeOK, nil
	}

	return nil, types.CodeRequestedDataNotPresent, nil
}

// thresholds are the comparison bits: at or above non-critical and critical.
func (p probe) thresholds(raw byte) byte {
	const upper = 0x18
	if raw >= p.critical {
		return upper
	}

	return 0
}

func (h ipmiHardware) logInfo(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	const version, canReserve = 0x51, 0x02

	info := make([]byte, 14)
	info[0] = version
	binary.LittleEndian.PutUint16(info[1:], uint16(len(h.owner.events(power.ProtocolIPMI))))
	binary.LittleEndian.PutUint16(info[3:], 0xffff)
	info[13] = canReserve

	return info, types.CodeOK, nil
}

func (h ipmiHardware) reserveLog(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	return []byte{1, 0}, types.CodeOK, nil
}

// logEntry gives entry n the record id 10n: they need not be consecutive.
func (h ipmiHardware) logEntry(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	const size, first, last, step = 6, 0x0000, 0xffff, 10

	if len(req) < size {
		return nil, types.CodeRequestDataTruncated, nil
	}

	log := h.owner.events(power.ProtocolIPMI)
	id := int(binary.LittleEndian.Uint16(req[2:]))

	switch id {
	case first:
		id = step
	case last:
		id = step * len(log)
	}

	n := id / step
	if id%step != 0 || n < 1 || n > len(log) {
		return nil, types.CodeRequestedDataNotPresent, nil
	}

	next := uint16(id + step)
	if n == len(log) {
		next = last
	}

	return append(binary.LittleEndian.AppendUint16(nil, next), log[n-1].record(uint16(id))...), types.CodeOK, nil
}

// record is the event as a system event record (IPMI 2.0, table 32-1).
func (e event) record(id uint16) []byte {
	const systemEvent, version, threshold, specific = 0x02, 0x04, 0x01, 0x6f

	r := make([]byte, 16)
	binary.LittleEndian.PutUint16(r, id)
	r[2] = systemEvent

	if !e.at.IsZero() {
		binary.LittleEndian.PutUint32(r[3:], uint32(e.at.Unix()))
	}

	r[7], r[9], r[10], r[11], r[12], r[13] = 0x20, version, byte(e.kind), e.sensor, specific, e.offset
	if e.offset == offsetHot {
		r[12] = threshold
	}

	r[14], r[15] = 0xff, 0xff

	return r
}

// sensorRecords are the sensor data records (IPMI 2.0, section 43).
func sensorRecords() [][]byte {
	var records [][]byte

	add := func(pack func(id uint16) []byte) { records = append(records, pack(uint16(len(records)+1))) }

	for _, p := range probes {
		add(p.fullRecord().Pack)
	}

	presence := types.SDRCompact{
		GeneratorID: types.GeneratorBMC, SensorNumber: presenceSensor, SensorEntityID: 10, SensorEntityInstance: 1,
		SensorType: types.SensorTypePowerSupply, SensorEventReadingType: types.EventReadingTypeSensorSpecific,
		SensorUnit:         types.SensorUnit{AnalogDataFormat: types.SensorAnalogUnitFormat_NotAnalog},
		IDStringTypeLength: asciiLength(presenceName), IDStringBytes: []byte(presenceName),
	}
	add(presence.Pack)

	supply := types.SDRFRUDeviceLocator{
		DeviceAccessAddress: 0x20, FRUDeviceID_SlaveAddress: supplyFRU, IsLogicalFRUDevice: true, DeviceType: 0x10,
		FRUEntityID: 10, FRUEntityInstance: 1, DeviceIDTypeLength: asciiLength("PSU1"), DeviceIDBytes: []byte("PSU1"),
	}
	add(supply.Pack)

	return records
}

func asciiLength(s string) types.TypeLength { return types.TypeLength(0xc0 | len(s)) }

func (p probe) fullRecord() *types.SDRFull {
	kinds := map[power.SensorKind]types.SensorType{
		power.SensorTemperature: types.SensorTypeTemperature, power.SensorFan: types.SensorTypeFan,
		power.SensorVoltage: types.SensorTypeVoltage, power.SensorPower: types.SensorTypeOtherUnitsbased,
	}
	units := map[power.SensorKind]types.SensorUnitType{
		power.SensorTemperature: types.SensorUnitType_DegreesC, power.SensorFan: types.SensorUnitType_RPM,
		power.SensorVoltage: types.SensorUnitType_Volts, power.SensorPower: types.SensorUnitType_Watts,
	}

	factors := types.ReadingFactors{M: int16(p.scale)}
	if p.scale < 1 {
		factors = types.ReadingFactors{M: 1, R_Exp: -1}
	}

	record := &types.SDRFull{
		GeneratorID: types.GeneratorBMC, SensorNumber: types.SensorNumber(p.number), SensorEntityID: 7,
		SensorEntityInstance: 1, SensorType: kinds[p.kind], SensorEventReadingType: types.EventReadingTypeThreshold,
		SensorUnit: types.SensorUnit{BaseUnit: units[p.kind]}, ReadingFactors: factors, UCR_Raw: p.critical,
		SensorMaxReadingRaw: 0xff, IDStringTypeLength: asciiLength(p.name), IDStringBytes: []byte(p.name),
	}
	record.SensorInitialization.SensorScanningEnabled = true

	return record
}

// supplyFRU is the FRU inventory of the power supply.
const supplyFRU = 1

// network is the controller's own interface.
type network struct{ owner *BMC }

func (n network) GetConfig(context.Context) (*hal.IPConfig, error) {
	cfg := &hal.IPConfig{MAC: n.owner.nics()[0], Mask: [4]byte{255, 0, 0, 0}}
	if n.owner.addr.Is4() {
		cfg.IP = n.owner.addr.As4()
	}

	return cfg, nil
}

func (network) SetConfig(context.Context, *hal.IPConfig) error { return hal.ErrNotSupported }
