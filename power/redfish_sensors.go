package power

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
)

// sensors implements sensorReader. A chassis has Thermal and Power, which tell
// all at once, or a collection of Sensors, or both: the former are preferred.
func (d *redfish) sensors(ctx context.Context) ([]Sensor, error) {
	s, err := d.system(ctx)
	if err != nil {
		return nil, err
	}

	all, err := d.chassis(ctx, s)
	if err != nil {
		return nil, err
	}

	var (
		sensors []Sensor
		found   bool
	)

	for _, c := range all {
		found = found || c.Thermal.ID != "" || c.Power.ID != "" || c.Sensors.ID != ""

		read, err := d.chassisSensors(ctx, c)
		if err != nil {
			return nil, err
		}

		sensors = append(sensors, read...)
	}

	if !found {
		return nil, fail(ErrUnsupported, "no chassis at %s has sensors", d.address)
	}

	return sensors, nil
}

func (d *redfish) chassisSensors(ctx context.Context, c chassisResource) ([]Sensor, error) {
	if c.Thermal.ID == "" && c.Power.ID == "" {
		var sensors []Sensor

		err := d.members(ctx, c.Sensors.ID, func(raw json.RawMessage) {
			var r sensorResource
			if fits(json.Unmarshal(raw, &r)) && r.Name != "" {
				sensors = append(sensors, r.sensor())
			}
		})

		return sensors, err
	}

	var t thermal
	if err := d.optional(ctx, c.Thermal.ID, &t); err != nil {
		return nil, err
	}

	p, err := d.power(ctx, c)

	return append(t.sensors(), p.sensors()...), err
}

// optional reads a resource that may be missing.
func (d *redfish) optional(ctx context.Context, path string, into any) error {
	if path == "" {
		return nil
	}

	return unlessMissing(d.request(ctx, http.MethodGet, path, nil, nil, into))
}

func (d *redfish) power(ctx context.Context, c chassisResource) (p powerResource, err error) {
	return p, d.optional(ctx, c.Power.ID, &p)
}

// thermal is a chassis's Thermal resource.
type thermal struct {
	Temperatures []struct {
		Name           string
		ReadingCelsius decimal
		Status         resourceStatus
	}
	Fans []struct {
		Name, FanName string
		Reading       decimal
		ReadingUnits  string
		Status        resourceStatus
	}
}

func (t thermal) sensors() []Sensor {
	var sensors []Sensor
	for _, x := range t.Temperatures {
		sensors = append(sensors, sensorFrom(x.Name, SensorTemperature, x.ReadingCelsius, "C", x.Status))
	}

	for _, x := range t.Fans {
		unit := "RPM"
		if x.ReadingUnits == "Percent" {
			unit = "%"
		}

		sensors = append(sensors, sensorFrom(cmp.Or(x.Name, x.FanName), SensorFan, x.Reading, unit, x.Status))
	}

	return sensors
}

// powerResource is a chassis's Power resource.
type powerResource struct {
	PowerControl []struct {
		Name               string
		PowerConsumedWatts decimal
		Status             resourceStatus
	}
	Voltages []struct {
		Name         string
		ReadingVolts decimal
		Status       resourceStatus
	}
	PowerSupplies []powerSupply
}

type powerSupply struct {
	Name                                          string
	Manufacturer, Model, PartNumber, SerialNumber string
}

func (p powerResource) sensors() []Sensor {
	var sensors []Sensor
	for _, x := range p.PowerControl {
		sensors = append(sensors, sensorFrom(cmp.Or(x.Name, "Power"), SensorPower, x.PowerConsumedWatts, "W", x.Status))
	}

	for _, x := range p.Voltages {
		sensors = append(sensors, sensorFrom(x.Name, SensorVoltage, x.ReadingVolts, "V", x.Status))
	}

	return sensors
}

// sensorResource is a member of a chassis's Sensors (Sensor schema).
type sensorResource struct {
	Name         string
	Reading      decimal
	ReadingUnits string
	ReadingType  string
	Status       resourceStatus
}

func (r sensorResource) sensor() Sensor {
	kinds := map[string]SensorKind{
		"Temperature": SensorTemperature, "Rotational": SensorFan, "Voltage": SensorVoltage,
		"Current": SensorCurrent, "Power": SensorPower,
	}
	// UCUM's words, as the schema has them.
	units := map[string]string{"Cel": "C", "{rev}/min": "RPM", "[ft_i]3/min": "CFM", "": "1"}

	kind := cmp.Or(kinds[r.ReadingType], SensorOther)

	return sensorFrom(r.Name, kind, r.Reading, cmp.Or(units[r.ReadingUnits], r.ReadingUnits), r.Status)
}

// sensorFrom makes a sensor; without a reading its state says why.
func sensorFrom(name string, kind SensorKind, reading decimal, unit string, status resourceStatus) Sensor {
	s := Sensor{Name: name, Kind: kind, Health: status.health()}

	switch {
	case reading.told:
		s.Value, s.Unit = rounded(reading.value), unit
	case status.State != "" && status.State != "Enabled":
		s.State, s.Health = words(status.State), HealthUnknown
	default:
		s.State = "no reading"
	}

	return s
}
