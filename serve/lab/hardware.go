package lab

import (
	"context"
	"errors"
	"time"
)

// hardware is the machine as the agent on it sees it.
type hardware struct{ m *Machine }

// IPMIAddress implements agentsim.Hardware. A machine with Redfish alone tells
// the address too: the provider finds Redfish there.
func (h hardware) IPMIAddress(context.Context) (string, int, error) {
	return h.m.BMC.Addr().String(), h.m.lab.ipmiPort, nil
}

// UserExists implements agentsim.Hardware.
func (h hardware) UserExists(context.Context, string) (bool, error) { return false, nil }

// SetUser implements agentsim.Hardware.
func (h hardware) SetUser(_ context.Context, name, password string) error {
	h.m.mu.Lock()
	h.m.setUps = append(h.m.setUps, time.Now())
	h.m.mu.Unlock()

	return h.m.BMC.SetUser(name, password)
}

// Wipe implements agentsim.Hardware.
func (h hardware) Wipe(ctx context.Context, _ bool) error {
	h.m.mu.Lock()
	h.m.asked = append(h.m.asked, time.Now())
	h.m.mu.Unlock()

	if err := pause(ctx, h.m.lab.cfg.Wipe); err != nil {
		return err
	}

	h.m.mu.Lock()
	defer h.m.mu.Unlock()

	h.m.installed = false
	h.m.wipes = append(h.m.wipes, time.Now())

	return nil
}

// Reboot implements agentsim.Hardware; the provider has no use for it.
func (h hardware) Reboot(context.Context) error { return errors.New("not in the lab: use the BMC") }
