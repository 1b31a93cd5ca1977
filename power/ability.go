package power

import (
	"context"
	"io"
	"time"
)

var errLater = fail(ErrUnsupported, "not built yet")

// Sensors implements Sensors.
func (c *conversation) Sensors(ctx context.Context) ([]Sensor, error) {
	return nil, blame(c.target, "read the sensors", errLater)
}

// EventLog implements EventLog.
func (c *conversation) EventLog(ctx context.Context, last int) ([]LogEntry, error) {
	return nil, blame(c.target, "read the event log", errLater)
}

// Inventory implements Inventory.
func (c *conversation) Inventory(ctx context.Context) (Hardware, error) {
	return Hardware{}, blame(c.target, "read the inventory", errLater)
}

// Console implements Console.
func (c *conversation) Console(ctx context.Context) (io.ReadWriteCloser, error) {
	return nil, blame(c.target, "open the console", errLater)
}

// Identify implements Identify.
func (c *conversation) Identify(ctx context.Context, on bool, d time.Duration) error {
	return blame(c.target, "identify", errLater)
}
