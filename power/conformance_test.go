package power_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// Most tests wait more than they compute.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}

	goleak.VerifyTestMain(m)
}

// ways are the ways to reach a simulated controller.
var ways = map[string]struct {
	cfg      bmcsim.Config
	protocol power.Protocol
	opts     power.Options
}{
	"IPMI":            {protocol: power.ProtocolIPMI},
	"IPMISuite3":      {protocol: power.ProtocolIPMI, cfg: bmcsim.Config{CipherSuites: []int{3}}},
	"Redfish":         {protocol: power.ProtocolRedfish},
	"Auto":            {protocol: power.ProtocolAuto},
	"AutoOnlyIPMI":    {protocol: power.ProtocolAuto, cfg: bmcsim.Config{RedfishPort: bmcsim.PortOff}},
	"AutoOnlyRedfish": {protocol: power.ProtocolAuto, cfg: bmcsim.Config{IPMIPort: bmcsim.PortOff}},
}

func TestConformance(t *testing.T) {
	t.Parallel()

	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bmctest.Conformance(t, func(t *testing.T) bmctest.Peer {
				_, target := bmctest.Simulated(t, way.cfg)
				target.Protocol = way.protocol

				return bmctest.Peer{Opener: power.NewDialer(way.opts), Target: target}
			})
		})
	}
}
