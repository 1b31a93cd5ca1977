package power_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// fleet starts so many IPMI controllers.
func fleet(t testing.TB, n int) ([]*bmcsim.BMC, []power.Target) {
	t.Helper()

	sims := make([]*bmcsim.BMC, n)
	targets := make([]power.Target, n)

	for i := range n {
		sim, err := bmcsim.Start(bmcsim.Config{
			Users: map[string]string{bmctest.User: bmctest.Password}, RedfishPort: bmcsim.PortOff, On: i%2 == 0,
		})
		if err != nil {
			t.Fatal(err)
		}

		t.Cleanup(func() { sim.Close() })

		sims[i] = sim
		targets[i] = power.Target{
			Address: sim.Addr().String(), Port: sim.IPMIPort(), Protocol: power.ProtocolIPMI,
			Username: bmctest.User, Password: power.NewSecret(bmctest.Password),
		}
	}

	return sims, targets
}

// poll asks all for their state, so many at a time, and gives when each answer
// was there, from the start of it all; those that failed are left out.
func poll(t *testing.T, targets []power.Target, parallel int, timeout time.Duration) (took []time.Duration, failed int) {
	t.Helper()

	begun := time.Now()
	ask := func(ctx context.Context, bmc power.BMC, _ power.Target) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()

		_, err := bmc.State(ctx)

		return time.Since(begun), err
	}

	for r := range power.Each(t.Context(), power.NewDialer(power.Options{}), parallel, targets, ask) {
		if r.Err != nil {
			failed++
		} else {
			took = append(took, r.Value)
		}
	}

	slices.Sort(took)

	return took, failed
}

// A hundred silent controllers among a thousand: the others do not notice, be
// all asked at once or a few at a time. The silent ones take their whole time;
// had the others to wait for one of them, it would show in their slowest
// hundredth.
func TestSilentAmongAThousand(t *testing.T) {
	const controllers, silent, timeout = 1000, 100, 8 * time.Second

	sims, targets := fleet(t, controllers)
	p99 := func(took []time.Duration) time.Duration { return took[len(took)*99/100] }

	for _, parallel := range []int{controllers, 64} {
		for i := range silent {
			setFault(t, sims[i*controllers/silent], bmcsim.FaultSilent, false)
		}

		before, failed := poll(t, targets, parallel, 30*time.Second)
		if failed != 0 {
			t.Fatalf("%d of %d failed while all answered", failed, controllers)
		}

		for i := range silent {
			setFault(t, sims[i*controllers/silent], bmcsim.FaultSilent, true)
		}

		after, failed := poll(t, targets, parallel, timeout)
		if failed != silent || len(after) != controllers-silent {
			t.Fatalf("%d failed, %d answered; want %d and %d", failed, len(after), silent, controllers-silent)
		}

		t.Logf("%d at a time: p99 of the others %s before, %s beside %d silent ones", parallel, p99(before), p99(after), silent)

		// Twice is what a loaded machine does by itself; waiting would be the timeout.
		if p99(after) > 2*p99(before)+timeout/8 {
			t.Errorf("%d at a time: p99 %s has become %s", parallel, p99(before), p99(after))
		}
	}
}
