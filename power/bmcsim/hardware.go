package bmcsim

import (
	"math"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/bmctl/bmctl/power"
)

// probe is a sensor of the simulated machine, as both faces show it.
type probe struct {
	number byte
	name   string
	kind   power.SensorKind
	// raw is the reading in IPMI's counts: value = raw * scale.
	raw   byte
	scale float64
	// critical is where the upper critical threshold lies, in counts.
	critical byte
	// needsPower: there is no reading while the machine is off.
	needsPower bool
}

// probes are the sensors. The fault "hot" shows in the first.
var probes = []probe{
	{number: 0x30, name: "CPU1 Temp", kind: power.SensorTemperature, raw: 45, scale: 1, critical: 95, needsPower: true},
	{number: 0x31, name: "Inlet Temp", kind: power.SensorTemperature, raw: 22, scale: 1, critical: 47},
	{number: 0x40, name: "FAN1", kind: power.SensorFan, raw: 54, scale: 100, critical: 250, needsPower: true},
	{number: 0x41, name: "FAN2", kind: power.SensorFan, raw: 55, scale: 100, critical: 250, needsPower: true},
	{number: 0x50, name: "12V", kind: power.SensorVoltage, raw: 121, scale: 0.1, critical: 133},
	{number: 0x60, name: "PSU1 Power", kind: power.SensorPower, raw: 92, scale: 2, critical: 250},
}

// hotCounts is what the first sensor reads with the fault "hot".
const hotCounts = 98

// presenceSensor has states only: it tells that there is a power supply.
const (
	presenceSensor = 0x70
	presenceName   = "PS1 Status"
)

// reading is what a sensor shows now; ok is whether there is a reading.
func (b *BMC) reading(p probe, face power.Protocol) (raw byte, ok bool) {
	switch {
	case p.needsPower && b.State() != power.StateOn:
		return 0, false
	case p.number == probes[0].number && b.faults.on(face, FaultHot):
		return hotCounts, true
	default:
		return p.raw, true
	}
}

// value is a reading in the sensor's unit.
func (p probe) value(raw byte) float64 { return math.Round(float64(raw)*p.scale*10) / 10 }

// event is an entry of the event log. The log holds what happened to the power,
// and before that that it was cleared.
type event struct {
	at     time.Time
	kind   types.SensorType
	sensor byte
	offset byte
	// severity and text are Redfish's.
	severity, text string
}

const (
	offsetCleared  = 2 // event logging disabled: log area cleared (IPMI 2.0, table 42-3)
	offsetPowerOff = 0 // power unit: power off
	offsetHot      = 9 // threshold: upper critical, going high (table 42-2)
)

// events is the log, oldest first. Its first entry has no time: the clock was
// not set yet.
func (b *BMC) events(face power.Protocol) []event {
	log := []event{{
		kind: types.SensorTypeEventLoggingDisabled, sensor: 0x01, offset: offsetCleared,
		severity: "OK", text: "The event log was cleared",
	}}

	for _, change := range b.chassis.powerLog() {
		e := event{
			at: change.at, kind: types.SensorTypePowerUnit, sensor: 0x02, offset: offsetPowerOff,
			severity: "OK", text: "The power is off",
		}
		if change.on {
			e.kind, e.sensor, e.text = types.SensorTypeSystemACPIPowerState, 0x03, "The power is on"
		}

		log = append(log, e)
	}

	if b.faults.on(face, FaultHot) {
		log = append(log, event{
			at: b.started, kind: types.SensorTypeTemperature, sensor: probes[0].number, offset: offsetHot,
			severity: "Critical", text: probes[0].name + " is above its upper critical threshold",
		})
	}

	return log
}

// nics are the addresses of the network interfaces: the controller's, then the
// system's. They follow from the UUID, and are locally administered.
func (b *BMC) nics() [3][6]byte {
	var macs [3][6]byte
	for i := range macs {
		copy(macs[i][:], b.uuid[10:])
		macs[i][0] = macs[i][0]&0xfc | 2
		macs[i][5] += byte(i)
	}

	return macs
}

// powerChange is one change of the power.
type powerChange struct {
	at time.Time
	on bool
}

func (c *chassis) powerLog() []powerChange {
	c.mu.Lock()
	defer c.mu.Unlock()

	return append([]powerChange(nil), c.changes...)
}

// light switches the lamp, until a time or (the zero one) for good.
func (c *chassis) light(on bool, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.lit, c.litUntil = on, until
}

func (c *chassis) isLit() bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.lit && (c.litUntil.IsZero() || c.now().Before(c.litUntil))
}
