package power_test

import (
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// habits are the rows of the list of quirks that one fault, or a few together,
// stand for.
var habits = map[string][]string{
	"A1 no mode":                       {bmcsim.FaultNoMode},
	"A2 mode falls back":               {bmcsim.FaultModeFallsBack},
	"A3 mode refused":                  {bmcsim.FaultRefusesMode},
	"A5 target None refused":           {bmcsim.FaultKeepsTarget},
	"A6 mode needed":                   {bmcsim.FaultNeedsMode},
	"A7 all in the settings":           {bmcsim.FaultSettingsAll, bmcsim.FaultNeedsETag},
	"A9 settings of other things":      {bmcsim.FaultSettingsOther},
	"A10 mode in the settings":         {bmcsim.FaultSettingsMode},
	"B6 missing comma":                 {bmcsim.FaultMissingComma},
	"B7 ActionInfo only":               {bmcsim.FaultActionInfoOnly},
	"C1 session limit":                 {bmcsim.FaultSessionLimit},
	"C4 no session service":            {bmcsim.FaultNoSessionService},
	"C6 C7 redirects":                  {bmcsim.FaultRedirects},
	"C10 weak ETag":                    {bmcsim.FaultWeakETag},
	"C11 If-Match refused":             {bmcsim.FaultRefusesETag},
	"C13 If-Match needed":              {bmcsim.FaultNeedsETag},
	"C10 C13 weak ETag needed":         {bmcsim.FaultNeedsETag, bmcsim.FaultWeakETag},
	"C16 errors as pages":              {bmcsim.FaultHTMLErrors, bmcsim.FaultKeepsTarget, bmcsim.FaultRefusesMode},
	"C17 messages as an object":        {bmcsim.FaultInfoObject, bmcsim.FaultKeepsTarget, bmcsim.FaultRefusesMode},
	"C20 Accept needed":                {bmcsim.FaultNoAccept},
	"A3 A5 B7 C4 C10 all at once":      {bmcsim.FaultRefusesMode, bmcsim.FaultKeepsTarget, bmcsim.FaultActionInfoOnly, bmcsim.FaultNoSessionService, bmcsim.FaultWeakETag},
	"A10 C13 settings and their ETags": {bmcsim.FaultSettingsMode, bmcsim.FaultNeedsETag},
}

// Whatever its habits, a Redfish service is led through the whole of a boot
// over the network, and back.
func TestRedfishHabits(t *testing.T) {
	t.Parallel()

	for name, faults := range habits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			vendor := "Contoso"
			if strings.HasPrefix(name, "A2") {
				vendor = "Supermicro"
			}

			sim, target := bmctest.Simulated(t, bmcsim.Config{Vendor: vendor})
			target.Protocol = power.ProtocolRedfish

			for _, fault := range faults {
				setFault(t, sim, fault, true)
			}

			bmc := open(t, target)
			want := power.Boot{Device: power.DevicePXE, Mode: power.ModeUEFI}

			for range 2 {
				if err := bmc.SetBoot(bmctest.Context(t), want); err != nil {
					t.Fatal(err)
				}

				if got := sim.Boot(); got != want {
					t.Fatalf("the override is %+v, want %+v", got, want)
				}
			}

			if err := bmc.SetBoot(bmctest.Context(t), power.Boot{}); err != nil {
				t.Fatal(err)
			}

			if got := sim.Boot(); got != (power.Boot{}) {
				t.Fatalf("the override is %+v after it was cleared", got)
			}

			bmctest.Do(t, bmc, power.On, power.Reset, power.Soft, power.On, power.Cycle, power.Off)
		})
	}
}

// A17: what the system does not have is said, and nothing breaks.
func TestNoBootOverrideAtAll(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	target.Protocol = power.ProtocolRedfish
	setFault(t, sim, bmcsim.FaultNoBoot, true)

	bmc := open(t, target)
	err := bmc.SetBoot(bmctest.Context(t), power.Boot{Device: power.DevicePXE})
	bmctest.WantKind(t, err, target, power.ErrUnsupported)
	bmctest.Do(t, bmc, power.On)
}

// A4, B2: "later" is retried, and only that.
func TestRedfishLater(t *testing.T) {
	t.Parallel()

	for fault, act := range map[string]func(t *testing.T, bmc power.BMC) error{
		bmcsim.FaultBusyInPOST: func(t *testing.T, bmc power.BMC) error {
			return bmc.SetBoot(within(t, 5*time.Second), power.Boot{Device: power.DevicePXE})
		},
		bmcsim.FaultConflict: func(t *testing.T, bmc power.BMC) error {
			return bmc.Do(within(t, 5*time.Second), power.On)
		},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, bmcsim.Config{})
			target.Protocol = power.ProtocolRedfish
			setFault(t, sim, fault, true)

			timer := time.AfterFunc(500*time.Millisecond, func() { setFault(t, sim, fault, false) })
			defer timer.Stop()

			if err := act(t, open(t, target)); err != nil {
				t.Error(err)
			}
		})
	}
}

// B4, B5: what is not on offer is not sent.
func TestResetTypeThatIsNotOnOffer(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{On: true})
	target.Protocol = power.ProtocolRedfish
	setFault(t, sim, bmcsim.FaultMissingComma, true)

	// Without a PowerCycle in the list it is off and on.
	bmctest.Do(t, open(t, target), power.Cycle)
	wantActs(t, sim, bmcsim.ActOff, bmcsim.ActOn)
}

// One login, one read of the root and the collection; then one GET a status.
func TestRedfishKeepsItsSession(t *testing.T) {
	t.Parallel()

	var log lockedBuffer

	_, target := bmctest.Simulated(t, bmcsim.Config{Log: log.logger()})
	target.Protocol = power.ProtocolRedfish
	bmc := open(t, target)

	bmctest.WantState(t, bmc, power.StateOff)
	cold := log.requests()
	bmctest.WantState(t, bmc, power.StateOff)

	if warm := log.requests() - cold; warm != 1 || cold != 5 {
		t.Errorf("a cold status took %d requests and a warm one %d, want 5 and 1", cold, warm)
	}
}
