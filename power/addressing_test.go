package power_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

func TestAddresses(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct{ listen, address string }{
		"IPv6":             {"::1", "::1"},
		"name":             {"127.0.0.1", "localhost"},
		"own loopback one": {"127.77.0.2", "127.77.0.2"},
	} {
		for _, protocol := range []power.Protocol{power.ProtocolIPMI, power.ProtocolRedfish, power.ProtocolAuto} {
			t.Run(name+" "+string(protocol), func(t *testing.T) {
				t.Parallel()

				_, target := bmctest.Simulated(t, bmcsim.Config{ListenIP: netip.MustParseAddr(c.listen)})
				target.Address, target.Protocol = c.address, protocol
				bmctest.Do(t, open(t, target), power.On)
			})
		}
	}
}

func TestNameThatDoesNotResolve(t *testing.T) {
	t.Parallel()

	for _, protocol := range []power.Protocol{power.ProtocolIPMI, power.ProtocolRedfish, power.ProtocolAuto} {
		target := power.Target{Address: "no-such-host.invalid", Protocol: protocol}
		_, err := open(t, target).State(bmctest.Context(t))
		bmctest.WantKind(t, err, target, power.ErrUnreachable)
	}
}

// E18: passwords of 16 bytes and of 20; what is longer is refused, not cut.
func TestPasswordLengths(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	target.Protocol = power.ProtocolIPMI

	for _, length := range []int{1, 16, 17, 20} {
		password := strings.Repeat("x", length)
		if err := sim.SetUser(bmctest.User, password); err != nil {
			t.Fatal(err)
		}

		target.Password = power.NewSecret(password)
		bmctest.WantState(t, open(t, target), power.StateOff)
	}

	target.Password = power.NewSecret(strings.Repeat("x", 21))
	_, err := open(t, target).State(bmctest.Context(t))
	bmctest.WantKind(t, err, target, power.ErrAuth)

	target.Username = strings.Repeat("u", 17)
	_, err = open(t, target).State(bmctest.Context(t))
	bmctest.WantKind(t, err, target, power.ErrAuth)
}
