package bmcsim

// Shutdown is the machine switching itself off, as its operating system does
// when it is told to: no act of the controller, which only sees the power go.
func (b *BMC) Shutdown() { b.chassis.shutDown() }

func (c *chassis) shutDown() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.powerOff()
}
