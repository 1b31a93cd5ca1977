package bmcsim

import "github.com/bmctl/bmctl/power"

// Shutdown is the machine switching itself off, as its operating system does
// when it is told to: no act of the controller, which only sees the power go.
func (b *BMC) Shutdown() { b.chassis.shutDown() }

func (c *chassis) shutDown() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.powerOff()
}

// Press is somebody at the machine who holds its power button until it is off and
// presses it once more: it starts with the override, as chosen from the firmware's
// menu. To the controller it is no act either.
func (b *BMC) Press(boot power.Boot) { b.chassis.press(boot) }

func (c *chassis) press(boot power.Boot) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.powerOff()
	c.powerOnWith(boot)
}
