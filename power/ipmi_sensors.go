package power

import (
	"cmp"
	"context"
	"math"
	"strings"

	"github.com/bougou/go-ipmi/pkg/command/sensor"
	"github.com/bougou/go-ipmi/pkg/types"
)

// bmcAddress is the slave address of the controller itself (IPMI 2.0, section 6.11.1).
const bmcAddress = 0x20

// sensors implements sensorReader: each record of the repository that describes
// a sensor, and then Get Sensor Reading (IPMI 2.0, section 35.14).
func (d *ipmi) sensors(ctx context.Context) ([]Sensor, error) {
	var described []sensorRecord

	err := d.records(ctx, func(sdr *types.SDR) error {
		if r, ok := sensorRecordOf(sdr); ok {
			described = append(described, r)
		}

		return nil
	})
	if err != nil {
		return nil, err
	}

	sensors := make([]Sensor, 0, len(described))

	for _, r := range described {
		s, err := d.readSensor(ctx, r)
		if err != nil {
			return nil, err
		}

		sensors = append(sensors, s)
	}

	return sensors, nil
}

// sensorRecord is what full and compact sensor records have in common (IPMI
// 2.0, sections 43.1 and 43.2).
type sensorRecord struct {
	name     string
	number   byte
	owner    types.GeneratorID
	kind     types.SensorType
	event    types.EventReadingType
	unit     types.SensorUnit
	analog   bool
	convert  func(raw byte) float64
	nonlined bool // the factors depend on the reading
}

func sensorRecordOf(sdr *types.SDR) (sensorRecord, bool) {
	switch {
	case sdr.Full != nil:
		f := sdr.Full

		return sensorRecord{
			name: plain(f.IDStringBytes), number: byte(f.SensorNumber), owner: f.GeneratorID, kind: f.SensorType,
			event: f.SensorEventReadingType, unit: f.SensorUnit, analog: f.HasAnalogReading(), convert: f.ConvertReading,
			nonlined: f.LinearizationFunc >= types.LinearizationFunc_NonLinear,
		}, true
	case sdr.Compact != nil:
		c := sdr.Compact

		return sensorRecord{
			name: plain(c.IDStringBytes), number: byte(c.SensorNumber), owner: c.GeneratorID, kind: c.SensorType,
			event: c.SensorEventReadingType,
		}, true
	default:
		return sensorRecord{}, false
	}
}

// readSensor reads one sensor. That a controller refuses to read it is a state
// of the sensor, not the end of the others.
func (d *ipmi) readSensor(ctx context.Context, r sensorRecord) (Sensor, error) {
	s := Sensor{Name: r.name, Kind: r.sensorKind(), State: "no reading"}

	if r.owner.OwnerID() != bmcAddress || r.owner.ChannelNumber() != 0 {
		s.State = "on another controller"

		return s, nil
	}

	c := commandOf(types.CommandGetSensorReading, r.number)
	c.lun = r.owner.LUN()
	data, err := d.command(ctx, c)

	var reading sensor.GetSensorReadingResponse

	switch {
	case isKind(err, ErrUnreachable), isKind(err, ErrAuth), isKind(err, ErrBusy) && over(ctx):
		return s, err
	case completionCode(err) == types.CodeRequestedDataNotPresent:
		s.State = "absent"

		return s, nil
	case err != nil, reading.Unpack(data) != nil, reading.ReadingUnavailable, reading.SensorScanningDisabled:
		return s, nil //nolint:nilerr // the state says that there is no reading
	}

	r.fill(&s, reading, len(data))

	if r.analog && r.nonlined {
		return d.readFactors(ctx, r, reading.Reading, s)
	}

	return s, nil
}

// readFactors asks for the conversion of this one reading (IPMI 2.0, section
// 35.5), which a sensor that is not linear needs.
func (d *ipmi) readFactors(ctx context.Context, r sensorRecord, raw byte, s Sensor) (Sensor, error) {
	data, err := d.command(ctx, commandOf(types.CommandGetSensorReadingFactors, r.number, raw))

	var factors sensor.GetSensorReadingFactorsResponse

	switch {
	case isKind(err, ErrUnreachable):
		return s, err
	case err != nil, factors.Unpack(data) != nil:
		s.Unit, s.Value, s.State = "", 0, "no reading"

		return s, nil
	}

	s.Value = rounded(types.ConvertReading(raw, r.unit.AnalogDataFormat, factors.ReadingFactors, types.LinearizationFunc_Linear))

	return s, nil
}

// fill puts the reading into the sensor; size is how many bytes told it.
func (r sensorRecord) fill(s *Sensor, reading sensor.GetSensorReadingResponse, size int) {
	const withStates = 3

	s.State = ""

	if r.analog {
		if s.Unit = r.unitText(); s.Unit != "" {
			s.Value = rounded(r.convert(reading.Reading))
		}
	}

	switch {
	case size < withStates:
	case r.event.IsThreshold():
		s.Health = thresholdHealth(string(reading.ThresholdStatus()))
	default:
		s.State = r.states(reading.ActiveStates.TrueEvents())
	}

	if s.Unit == "" && s.State == "" {
		s.State = "ok"
	}
}

func (r sensorRecord) states(offsets []byte) string {
	var names []string
	for _, offset := range offsets {
		if e := r.event.EventForOffset(r.kind, offset); e != nil && e.EventName != "" {
			names = append(names, strings.ToLower(e.EventName))
		}
	}

	return strings.Join(names, ", ")
}

// rounded drops what the conversion's arithmetic adds.
func rounded(v float64) float64 { return math.Round(v*1e4) / 1e4 }

func thresholdHealth(status string) Health {
	switch status {
	case types.SensorThresholdStatus_OK:
		return HealthOK
	case types.SensorThresholdStatus_LNC, types.SensorThresholdStatus_UNC:
		return HealthWarning
	default:
		return HealthCritical
	}
}

func (r sensorRecord) sensorKind() SensorKind {
	switch {
	case r.kind == types.SensorTypeTemperature:
		return SensorTemperature
	case r.kind == types.SensorTypeFan:
		return SensorFan
	case r.kind == types.SensorTypeVoltage:
		return SensorVoltage
	case r.kind == types.SensorTypeCurrent && r.unit.BaseUnit != types.SensorUnitType_Watts:
		return SensorCurrent
	case r.analog && r.unit.BaseUnit == types.SensorUnitType_Watts:
		return SensorPower
	default:
		return SensorOther
	}
}

// unitText is the unit in our words; those that are rare keep the
// specification's (table 43-15).
func (r sensorRecord) unitText() string {
	if r.unit.Percentage {
		return "%"
	}

	ours := map[types.SensorUnitType]string{
		types.SensorUnitType_Unspecified: "1", types.SensorUnitType_DegreesC: "C", types.SensorUnitType_DegreesF: "F",
		types.SensorUnitType_Volts: "V", types.SensorUnitType_Amps: "A", types.SensorUnitType_Watts: "W",
		types.SensorUnitType_Joules: "J", types.SensorUnitType_CFM: "CFM", types.SensorUnitType_RPM: "RPM",
		types.SensorUnitType_Hz: "Hz",
	}

	return cmp.Or(ours[r.unit.BaseUnit], r.unit.BaseUnit.String())
}
