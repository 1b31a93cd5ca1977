package power_test

import (
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// Over IPMI, what the network does to datagrams shows neither in results nor
// in how often an act is carried out.
func TestBadNetworks(t *testing.T) {
	t.Parallel()

	for name, network := range map[string]bmctest.Network{
		"delay":     {Delay: 200 * time.Millisecond},
		"doubled":   {Duplicate: true},
		"reordered": {Delay: 5 * time.Millisecond, Reorder: 0.3, Duplicate: true, Seed: 1},
		"loss":      {Loss: 0.2, Seed: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, bmcsim.Config{})
			target.Protocol = power.ProtocolIPMI
			_, target = bmctest.Through(t, network, target)
			bmc := open(t, target)
			ctx := within(t, 40*time.Second)

			for _, action := range []power.Action{power.On, power.Off, power.On} {
				if err := bmc.Do(ctx, action); err != nil {
					t.Fatalf("%s: %v", action, err)
				}
			}

			if got := sim.State(); got != power.StateOn {
				t.Errorf("the machine is %s", got)
			}
		})
	}
}

// A doubled cycle would be two.
func TestDoubledDatagramsCycleOnce(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{On: true})
	target.Protocol = power.ProtocolIPMI
	_, target = bmctest.Through(t, bmctest.Network{Duplicate: true}, target)
	bmctest.Do(t, open(t, target), power.Cycle)
	wantActs(t, sim, bmcsim.ActCycle)
}

// The set-up of a session is three exchanges, and a status one more.
func TestRoundTripsOfAStatus(t *testing.T) {
	t.Parallel()

	_, target := bmctest.Simulated(t, bmcsim.Config{})
	target.Protocol = power.ProtocolIPMI
	link, target := bmctest.Through(t, bmctest.Network{}, target)
	bmc := open(t, target)

	bmctest.WantState(t, bmc, power.StateOff)

	if n := link.Asked(); n != 4 {
		t.Errorf("a cold status took %d datagrams, want 4", n)
	}

	bmctest.WantState(t, bmc, power.StateOff)

	if n := link.Asked(); n != 5 {
		t.Errorf("a warm status took %d datagrams, want 1", n-4)
	}
}
