package power_test

import (
	"strings"
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

// muting loses the controller's answers from the moment the power goes.
type muting struct{ link chan *bmctest.Link }

func (m muting) PowerOn(power.Boot) {}
func (m muting) PowerOff()          { (<-m.link).Mute(true) }

// A cycle whose answer is lost is not asked for once more: it would be two.
func TestLostAnswerCyclesOnce(t *testing.T) {
	t.Parallel()

	machine := muting{make(chan *bmctest.Link, 1)}
	sim, target := bmctest.Simulated(t, bmcsim.Config{On: true, Machine: machine, SlowBy: 100 * time.Millisecond})
	setFault(t, sim, bmcsim.FaultSlow, true) // the answer leaves after the power went

	target.Protocol = power.ProtocolIPMI
	link, target := bmctest.Through(t, bmctest.Network{}, target)
	machine.link <- link
	bmc := open(t, target)

	err := bmc.Do(within(t, 4*time.Second), power.Cycle)
	bmctest.WantKind(t, err, target, power.ErrUnreachable)

	if !strings.HasSuffix(err.Error(), "; it may have been carried out all the same") {
		t.Errorf("the error reads %q", err)
	}

	link.Mute(false)
	bmctest.WantState(t, bmc, power.StateOn)
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
