package power

import (
	"context"
	"io"
	"time"
)

// What some controllers can do beyond BMC. Every conversation that Dialer.Open
// gives has all of these methods, because ProtocolAuto learns only when it is
// asked which protocol there is: what the controller or its protocol lacks is
// ErrUnsupported, with the reason. Each ability is asked for where it is: the
// console over IPMI also where Redfish is preferred. Other makers of BMCs may
// leave abilities out, so callers assert the type.
//
// As with BMC, all methods are safe for concurrent use, errors wrap exactly one
// kind and name the target, and a context without a deadline gets
// DefaultTimeout. What a controller tells wrongly or not at all is left out; it
// does not fail the rest. Results are sorted and hold no duplicates.

// Sensors is the ability to read sensors.
type Sensors interface {
	// Sensors reads all sensors, sorted by kind and name. Over IPMI that is the
	// sensor data repository (IPMI 2.0, sections 33 to 35), which takes slow
	// controllers several seconds; over Redfish the Sensors of the chassis, or
	// its older Thermal and Power.
	Sensors(ctx context.Context) ([]Sensor, error)
}

// Sensor is one reading.
type Sensor struct {
	Name string
	// Kind is what is measured.
	Kind SensorKind
	// Value is the reading in Unit; without a unit there is none, because the
	// sensor has states only, or is switched off together with the machine.
	Value float64
	// Unit is "C", "RPM", "%", "V", "A", "W", "J", "Hz", "CFM" or "1" for a
	// plain number; empty: there is no value.
	Unit string
	// State is what a sensor without a value shows, for people: "presence
	// detected", "no reading", "absent". Several states are joined by ", ".
	State string
	// Health is how the controller judges the reading by its thresholds.
	Health Health
}

// SensorKind is what a sensor measures.
type SensorKind string

// The kinds of sensor.
const (
	SensorTemperature SensorKind = "temperature"
	SensorFan         SensorKind = "fan"
	SensorVoltage     SensorKind = "voltage"
	SensorCurrent     SensorKind = "current"
	SensorPower       SensorKind = "power"
	// SensorOther is any other, and those that have states only.
	SensorOther SensorKind = "other"
)

// Health is a controller's judgement.
type Health string

// The judgements (Redfish's Resource.Health). HealthUnknown: there is none.
const (
	HealthUnknown  Health = ""
	HealthOK       Health = "ok"
	HealthWarning  Health = "warning"
	HealthCritical Health = "critical"
)

// EventLog is the ability to read the controller's event log.
type EventLog interface {
	// EventLog reads the last entries, oldest first; all of them where last is
	// not positive. Over IPMI that is the system event log (IPMI 2.0, section
	// 31); over Redfish the log services of the system, its managers and chassis.
	// A log that is empty has no entries and no error.
	EventLog(ctx context.Context, last int) ([]LogEntry, error)
}

// LogEntry is one entry of an event log.
type LogEntry struct {
	// ID is the entry's name in its log: "002a" over IPMI, a path's last part
	// over Redfish.
	ID string
	// Time is when it happened, by the controller's clock; zero where the clock
	// was not set.
	Time time.Time
	// Severity is Redfish's. IPMI tells none: there it follows from the
	// threshold or state that was reached, and may be HealthUnknown.
	Severity Health
	// Source is the sensor, or the log service, that it came from.
	Source string
	// Text says for people what happened.
	Text string
}

// Inventory is the ability to tell what hardware there is.
type Inventory interface {
	// Inventory reads serial and part numbers, firmware versions and the
	// addresses of network interfaces. Over IPMI that is the FRU inventory (IPMI
	// Platform Management FRU Information Storage Definition 1.0) and the
	// controller's own address; over Redfish the system, its chassis, managers,
	// firmware inventory and Ethernet interfaces.
	Inventory(ctx context.Context) (Hardware, error)
}

// Hardware is what an inventory tells.
type Hardware struct {
	// Parts are what can be replaced, sorted by Name.
	Parts []Part
	// Firmware are the versions that run, sorted by Name.
	Firmware []Firmware
	// Interfaces are the network interfaces, sorted by Owner and Name.
	Interfaces []Interface
}

// Part is something with a serial number. Fields that are not told are empty.
type Part struct {
	// Name is what it is, for people: "chassis", "board", "system", "PSU1 FRU".
	Name                              string
	Vendor, Model, PartNumber, Serial string
	AssetTag                          string
}

// Firmware is a version of something that runs: "BMC", "BIOS".
type Firmware struct{ Name, Version string }

// Interface is a network interface.
type Interface struct {
	// Owner is "bmc" or "system".
	Owner string
	// Name is the controller's for it; empty where it has none.
	Name string
	// MAC is the address in lower case with colons.
	MAC string
	// Address is the interface's first IP address, if it is told.
	Address string
}

// Console is the ability to show the machine's serial port.
type Console interface {
	// Console takes the serial port over: serial over LAN (IPMI 2.0, section
	// 15). The context bounds the setting up alone. There is one console to a
	// machine: somebody else's is ErrBusy, and is not taken away.
	//
	// The console has a session of its own and lasts until it is closed,
	// whatever becomes of the conversation. It may be read and written at the
	// same time. Read gives what the machine wrote, and io.EOF once the console
	// is closed; when the controller no longer answers or has ended the console
	// it gives an error of a kind like every other method. Write returns when
	// the controller has the bytes. Close ends console and session; a second
	// one is harmless.
	Console(ctx context.Context) (io.ReadWriteCloser, error)
}

// Identify is the ability to light the lamp by which a machine is found.
type Identify interface {
	// Identify switches the lamp on, for d, or off. With d zero it stays on until
	// it is switched off. IPMI knows 1 s to 255 s (Chassis Identify, IPMI 2.0,
	// section 28.5) and rounds up; Redfish knows no time, so that any d is
	// ErrUnsupported there. For off, d means nothing.
	Identify(ctx context.Context, on bool, d time.Duration) error
}

// The conversation has every ability.
var _ interface {
	Sensors
	EventLog
	Inventory
	Console
	Identify
} = (*conversation)(nil)
