package power

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The abilities of a driver; one that lacks a method lacks the ability. They are
// called as the driver's other methods are.
type (
	sensorReader interface {
		sensors(context.Context) ([]Sensor, error)
	}
	logReader interface {
		eventLog(context.Context, int) ([]LogEntry, error)
	}
	hardwareReader interface {
		hardware(context.Context) (Hardware, error)
	}
	lamp interface {
		light(context.Context, bool, time.Duration) error
	}
	serialPort interface {
		console(context.Context) (*console, error)
	}
)

// Sensors implements Sensors.
func (c *conversation) Sensors(ctx context.Context) (sensors []Sensor, err error) {
	err = c.able(ctx, "read the sensors", priorityPoll, func(ctx context.Context, d driver) error {
		r, ok := d.(sensorReader)
		if !ok {
			return lacks(d, "sensors")
		}

		sensors, err = r.sensors(ctx)

		return err
	})

	return tidySensors(sensors), err
}

// EventLog implements EventLog.
func (c *conversation) EventLog(ctx context.Context, last int) (entries []LogEntry, err error) {
	err = c.able(ctx, "read the event log", priorityPoll, func(ctx context.Context, d driver) error {
		r, ok := d.(logReader)
		if !ok {
			return lacks(d, "event log")
		}

		entries, err = r.eventLog(ctx, last)

		return err
	})

	return entries, err
}

// Inventory implements Inventory.
func (c *conversation) Inventory(ctx context.Context) (h Hardware, err error) {
	err = c.able(ctx, "read the inventory", priorityPoll, func(ctx context.Context, d driver) error {
		r, ok := d.(hardwareReader)
		if !ok {
			return lacks(d, "inventory")
		}

		h, err = r.hardware(ctx)

		return err
	})

	return tidyHardware(h), err
}

// Identify implements Identify.
func (c *conversation) Identify(ctx context.Context, on bool, d time.Duration) error {
	if d < 0 {
		return blame(c.target, "identify", fail(ErrUnsupported, "the time is negative"))
	}

	return c.able(ctx, "identify", priorityAct, func(ctx context.Context, dr driver) error {
		l, ok := dr.(lamp)
		if !ok {
			return lacks(dr, "identify lamp")
		}

		return l.light(ctx, on, d)
	})
}

// Console implements Console. It goes to the driver that has one, whichever
// else the router prefers.
func (c *conversation) Console(ctx context.Context) (io.ReadWriteCloser, error) {
	var opened *console

	err := c.call(ctx, "open the console", func(ctx context.Context) error {
		if err := c.host.queue.enter(ctx, priorityAct); err != nil {
			return err
		}
		defer c.host.queue.leave()

		if c.closed.Load() {
			return fail(ErrUnreachable, "the conversation is closed")
		}

		port, err := c.router.serialPort(ctx)
		if err != nil {
			return err
		}

		opened, err = port.console(ctx)

		return c.withoutIPMI(ctx, err)
	})
	if err != nil {
		return nil, err
	}

	opened.start(func(op string, err error) error { return blame(c.target, op, err) })

	return opened, nil
}

// withoutIPMI says of a controller that answers over Redfish alone that it has
// no console, instead of that it cannot be reached.
func (c *conversation) withoutIPMI(ctx context.Context, err error) error {
	if !isKind(err, ErrUnreachable) || !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}

	if d, other := c.router.route(ctx); other != nil || !isRedfish(d) {
		return err
	}

	return fail(ErrUnsupported, "serial over LAN is IPMI's, and %v", err).because(err)
}

func isRedfish(d driver) bool {
	_, ok := d.(*redfish)

	return ok
}

// able is an exchange with whichever driver the router has.
func (c *conversation) able(ctx context.Context, op string, p priority, fn func(context.Context, driver) error) error {
	return c.call(ctx, op, func(ctx context.Context) error { return c.exchange(ctx, p, fn) })
}

// lacks is the failure of a driver without the ability.
func lacks(d driver, what string) error {
	switch d.(type) {
	case *qemu:
		return fail(ErrUnsupported, "no %s: the power API of QEMU machines has none", what)
	default:
		return fail(ErrUnsupported, "no %s", what)
	}
}

// tidySensors sorts, and drops what is told twice: several controllers list a
// sensor in more than one place.
func tidySensors(sensors []Sensor) []Sensor {
	order := func(a, b Sensor) int {
		return compareAll(a.kindOrder()-b.kindOrder(), compareNames(a.Name, b.Name))
	}
	slices.SortStableFunc(sensors, order)

	return slices.CompactFunc(sensors, func(a, b Sensor) bool { return a == b })
}

// kindOrder has the kinds that people look for first.
func (s Sensor) kindOrder() int {
	kinds := []SensorKind{SensorTemperature, SensorFan, SensorPower, SensorVoltage, SensorCurrent, SensorOther}

	return slices.Index(kinds, s.Kind)
}

func tidyHardware(h Hardware) Hardware {
	slices.SortStableFunc(h.Parts, func(a, b Part) int { return compareNames(a.Name, b.Name) })
	slices.SortStableFunc(h.Firmware, func(a, b Firmware) int {
		return compareAll(compareNames(a.Name, b.Name), compareNames(a.Version, b.Version))
	})
	slices.SortStableFunc(h.Interfaces, func(a, b Interface) int {
		return compareAll(compareNames(a.Owner, b.Owner), compareNames(a.Name, b.Name), compareNames(a.MAC, b.MAC))
	})

	return Hardware{
		Parts: slices.Compact(h.Parts), Firmware: slices.Compact(h.Firmware), Interfaces: slices.Compact(h.Interfaces),
	}
}

// compareAll is the first of the comparisons that tells a difference.
func compareAll(results ...int) int {
	for _, r := range results {
		if r != 0 {
			return r
		}
	}

	return 0
}

// compareNames puts "CPU2" before "CPU10".
func compareNames(a, b string) int {
	for a != "" && b != "" {
		na, nb := leadingNumber(a), leadingNumber(b)
		if na != "" && nb != "" {
			if c := compareAll(len(na)-len(nb), strings.Compare(na, nb)); c != 0 {
				return c
			}

			a, b = a[len(na):], b[len(nb):]

			continue
		}

		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}

		a, b = a[1:], b[1:]
	}

	return len(a) - len(b)
}

func leadingNumber(s string) string {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}

	return s[:i]
}
