package power_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// over starts a simulated controller with the faults.
func over(t *testing.T, protocol power.Protocol, cfg bmcsim.Config, faults ...string) (*bmcsim.BMC, power.Target) {
	t.Helper()

	sim, target := bmctest.Simulated(t, cfg)
	target.Protocol = protocol

	for _, fault := range faults {
		setFault(t, sim, fault, true)
	}

	return sim, target
}

const redfish, ipmi = power.ProtocolRedfish, power.ProtocolIPMI

var pxe = power.Boot{Device: power.DevicePXE}

// The rows of the list of quirks that are more than a habit that goes unnoticed.
func TestRedfishRows(t *testing.T) {
	t.Parallel()

	for _, rows := range []map[string]func(*testing.T){powerRows(), httpRows()} {
		for name, test := range rows {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t)
			})
		}
	}
}

// powerRows are those of boot override and power.
func powerRows() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"A13": func(t *testing.T) {
			sim, target := over(t, redfish, bmcsim.Config{}, bmcsim.FaultNoContinuous)
			bmc := open(t, target)

			// A persistent override does not silently turn into one for once.
			err := bmc.SetBoot(bmctest.Context(t), power.Boot{Device: power.DevicePXE, Persistent: true})
			bmctest.WantKind(t, err, target, power.ErrUnsupported)
			wantActs(t, sim)

			if err := bmc.SetBoot(bmctest.Context(t), pxe); err != nil {
				t.Error(err)
			}
		},
		"A14": func(t *testing.T) {
			var log lockedBuffer

			_, target := over(t, redfish, bmcsim.Config{}, bmcsim.FaultBecomesContinuous)
			bmc := bmctest.Open(t, power.NewDialer(power.Options{Log: log.logger()}), target)

			if err := bmc.SetBoot(bmctest.Context(t), pxe); err != nil {
				t.Fatal(err)
			}

			if !strings.Contains(log.String(), "reads back differently") {
				t.Errorf("nothing is said of it:\n%s", log.String())
			}
		},
		"B1": func(t *testing.T) {
			sim, target := over(t, redfish, bmcsim.Config{}, bmcsim.FaultNotInThisState)
			timer := time.AfterFunc(400*time.Millisecond, func() { setFault(t, sim, bmcsim.FaultNotInThisState, false) })
			defer timer.Stop()

			bmctest.Do(t, open(t, target), power.On)
		},
		"B9": func(t *testing.T) {
			sim, target := over(t, redfish, bmcsim.Config{On: true}, bmcsim.FaultIgnoreSoft)
			err := open(t, target).Do(within(t, 2*time.Second), power.Soft)
			bmctest.WantKind(t, err, target, power.ErrRefused)
			wantActs(t, sim, bmcsim.ActSoft)
		},
		"B11": func(t *testing.T) {
			_, target := over(t, redfish, bmcsim.Config{On: true}, bmcsim.FaultNMI501)
			err := open(t, target).Do(bmctest.Context(t), power.NMI)
			bmctest.WantKind(t, err, target, power.ErrUnsupported)

			if !strings.Contains(err.Error(), "Power state Nmi is not supported") {
				t.Errorf("%q does not say what the controller says", err)
			}
		},
		"B12": func(t *testing.T) {
			_, target := over(t, redfish, bmcsim.Config{}, bmcsim.FaultLyingPower)
			err := open(t, target).Do(within(t, 5*time.Second), power.On)
			bmctest.WantKind(t, err, target, power.ErrRefused)
		},
	}
}

// httpRows are those of HTTP, sessions and TLS.
func httpRows() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"C1": func(t *testing.T) {
			// What the library leaves open, ours does not: eight sessions are not used up.
			sim, target := over(t, redfish, bmcsim.Config{})
			for range 12 {
				bmc := open(t, target)
				bmctest.WantState(t, bmc, power.StateOff)
				bmc.Close()
			}

			if n := sim.Sessions(); n != 0 {
				t.Errorf("%d sessions are left", n)
			}
		},
		"C2": func(t *testing.T) {
			sim, target := over(t, redfish, bmcsim.Config{}, bmcsim.FaultBrokenRefusal)
			bmc := open(t, target)

			for range 3 {
				bmctest.WantState(t, bmc, power.StateOff)
				sim.DropSessions()
			}

			if err := bmc.Close(); err != nil {
				t.Errorf("the end of a session that is gone already: %v", err)
			}
		},
		"C9": func(t *testing.T) {
			// We never ask for identity, which some refuse.
			var log lockedBuffer

			_, target := over(t, redfish, bmcsim.Config{Log: log.logger()})
			bmctest.WantState(t, open(t, target), power.StateOff)

			if text := log.String(); strings.Contains(text, "encoding=identity") || !strings.Contains(text, "encoding=gzip") {
				t.Errorf("requests ask for:\n%s", text)
			}
		},
		"C15": func(t *testing.T) {
			sim, target := over(t, redfish, bmcsim.Config{}, bmcsim.FaultDataUnavailable)
			timer := time.AfterFunc(400*time.Millisecond, func() { setFault(t, sim, bmcsim.FaultDataUnavailable, false) })
			defer timer.Stop()

			bmctest.WantState(t, open(t, target), power.StateOff)
		},
		"C16": func(t *testing.T) {
			_, target := over(t, redfish, bmcsim.Config{}, bmcsim.FaultGatewayTimeout)
			_, err := open(t, target).State(bmctest.Context(t))
			bmctest.WantKind(t, err, target, power.ErrUnreachable)

			if strings.Contains(err.Error(), "<html>") || !strings.Contains(err.Error(), "504") {
				t.Errorf("the error reads %q", err)
			}
		},
		"C19": func(t *testing.T) {
			_, target := over(t, redfish, bmcsim.Config{RSAKeyExchange: true})
			_, err := open(t, target).State(bmctest.Context(t))
			bmctest.WantKind(t, err, target, power.ErrUnreachable)

			result, _ := probe(bmctest.Context(t), target, true)
			if result.Layer != power.LayerTLS {
				t.Errorf("layer %q", result.Layer)
			}

			target.RSAKeyExchange = true
			bmctest.WantState(t, open(t, target), power.StateOff)
		},
	}
}

// The opt-in adds suites, and takes none away.
func TestRSAKeyExchangeTakesNothingAway(t *testing.T) {
	t.Parallel()

	_, target := over(t, power.ProtocolRedfish, bmcsim.Config{})
	target.RSAKeyExchange = true
	bmctest.WantState(t, open(t, target), power.StateOff)
}

func TestPins(t *testing.T) {
	t.Parallel()

	_, target := over(t, power.ProtocolRedfish, bmcsim.Config{})
	target.Pin = "sha256:" + strings.Repeat("0", 64)

	_, err := bmctest.Open(t, power.NewDialer(power.Options{}), target).State(bmctest.Context(t))
	bmctest.WantKind(t, err, target, power.ErrAuth)

	shown := regexp.MustCompile(`sha256:[0-9a-f]{64}`).FindString(err.Error())
	target.Pin = strings.ToUpper(shown)

	// Nobody else need vouch for it.
	bmctest.WantState(t, bmctest.Open(t, power.NewDialer(power.Options{VerifyTLS: true}), target), power.StateOff)
}

// sent are the requests of the command that reached the controller.
func sent(log *lockedBuffer, command string) []string {
	var requests []string
	for _, m := range regexp.MustCompile(`command="`+command+`" request=([0-9a-f]*|"")`).FindAllStringSubmatch(log.String(), -1) {
		requests = append(requests, m[1])
	}

	return requests
}

// bootBytes are the bytes that setting the override sends.
func bootBytes(vendor string, boot power.Boot, want ...string) func(*testing.T) {
	return func(t *testing.T) {
		var log lockedBuffer

		_, target := over(t, ipmi, bmcsim.Config{Vendor: vendor, Log: log.logger()})
		if err := open(t, target).SetBoot(bmctest.Context(t), boot); err != nil {
			t.Fatal(err)
		}

		if got := sent(&log, "Set System Boot Options"); !slices.Equal(got, want) {
			t.Errorf("%+v sent %v, want %v", boot, got, want)
		}
	}
}

// survives is a session and an act with the faults.
func survives(cfg bmcsim.Config, faults ...string) func(*testing.T) {
	return func(t *testing.T) {
		sim, target := over(t, ipmi, cfg, faults...)
		bmc := open(t, target)

		if err := bmc.SetBoot(bmctest.Context(t), pxe); err != nil {
			t.Error(err)
		}

		bmctest.Do(t, bmc, power.On, power.Off)

		// An act that is as good twice may come again in a new session.
		if got := slices.Compact(acts(sim)); !slices.Equal(got, []bmcsim.ActKind{bmcsim.ActBootSet, bmcsim.ActOn, bmcsim.ActOff}) {
			t.Errorf("the controller was asked %v", got)
		}
	}
}

// fails is a status that ends with the kind.
func fails(kind error, faults ...string) func(*testing.T) {
	return func(t *testing.T) {
		_, target := over(t, ipmi, bmcsim.Config{}, faults...)
		_, err := open(t, target).State(within(t, 700*time.Millisecond))
		bmctest.WantKind(t, err, target, kind)
	}
}

func TestIPMIRows(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]func(t *testing.T){
		"E1":                 bootBytes("", pxe, "0308", "05a004000000"),
		"E1 refused":         survives(bmcsim.Config{}, bmcsim.FaultNoBootClearing),
		"E2 UEFI persistent": bootBytes("", power.Boot{Device: power.DevicePXE, Mode: power.ModeUEFI, Persistent: true}, "0308", "05e004000000"),
		"E2 BIOS once":       bootBytes("", power.Boot{Device: power.DevicePXE, Mode: power.ModeBIOS}, "0308", "058004000000"),
		"E3":                 bootBytes("Supermicro", power.Boot{Device: power.DeviceDisk, Mode: power.ModeUEFI}, "0308", "05a024000000"),
		"E3 BIOS":            bootBytes("Supermicro", power.Boot{Device: power.DeviceDisk, Mode: power.ModeBIOS}, "0308", "058008000000"),
		"E4":                 bootBytes("", power.Boot{}, "050000000000"),
		"E5": func(t *testing.T) {
			sim, target := over(t, ipmi, bmcsim.Config{})
			for _, action := range []power.Action{power.Cycle, power.Reset} {
				bmctest.WantKind(t, open(t, target).Do(bmctest.Context(t), action), target, power.ErrRefused)
			}

			wantActs(t, sim) // the state was looked at first
		},
		"E6 C0": fails(power.ErrBusy, "code=C0"), "E6 C3": fails(power.ErrBusy, "code=C3"), "E6 C4": fails(power.ErrBusy, "code=C4"),
		"E6 D0": fails(power.ErrBusy, "code=D0"), "E6 D1": fails(power.ErrBusy, "code=D1"), "E6 D2": fails(power.ErrBusy, "code=D2"),
		"E7": func(t *testing.T) {
			sim, target := over(t, ipmi, bmcsim.Config{On: true}, bmcsim.FaultNoCycle)
			bmctest.Do(t, open(t, target), power.Cycle)
			wantActs(t, sim, bmcsim.ActCycle, bmcsim.ActOff, bmcsim.ActOn)
		},
		"E8":                     survives(bmcsim.Config{}, bmcsim.FaultBootBitsLost),
		"E10 only 3":             survives(bmcsim.Config{CipherSuites: []int{3}}),
		"E10 only 17":            survives(bmcsim.Config{CipherSuites: []int{17}}),
		"E11":                    survives(bmcsim.Config{}, bmcsim.FaultWrongAlgorithm),
		"E12":                    survives(bmcsim.Config{CipherSuites: []int{3}}, bmcsim.FaultShortRefusal),
		"E13 user level":         fails(power.ErrAuth, bmcsim.FaultUserOnly),
		"E14":                    fails(power.ErrBusy, bmcsim.FaultSessionLimit),
		"E14 in two bytes":       fails(power.ErrBusy, bmcsim.FaultSessionLimit, bmcsim.FaultShortRefusal),
		"E15":                    survives(bmcsim.Config{}, bmcsim.FaultOperatorOnly),
		"E16":                    fails(power.ErrAuth, "code=D4"),
		"D5 elsewhere":           fails(power.ErrRefused, "code=D5"),
		"CC":                     fails(power.ErrUnsupported, "code=CC"),
		"C1":                     fails(power.ErrUnsupported, "code=C1"),
		"10 % of datagrams lost": survives(bmcsim.Config{}, "drop=10"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// E10: the suite that worked is tried first from then on.
func TestE10SuiteIsRemembered(t *testing.T) {
	t.Parallel()

	_, target := over(t, power.ProtocolIPMI, bmcsim.Config{CipherSuites: []int{3}})
	link, target := bmctest.Through(t, bmctest.Network{}, target)
	dialer := power.NewDialer(power.Options{})

	var asked [2]int
	for i := range asked {
		before := link.Asked()
		bmc := bmctest.Open(t, dialer, target)
		bmctest.WantState(t, bmc, power.StateOff)
		asked[i] = link.Asked() - before

		if err := bmc.Close(); err != nil {
			t.Fatal(err)
		}
	}

	if asked != [2]int{5, 4} {
		t.Errorf("a status took %v datagrams, want 5 and then 4", asked)
	}
}

// E17: between two commands of a session is the gap that was asked for.
func TestE17Gap(t *testing.T) {
	t.Parallel()

	const gap, commands = 60 * time.Millisecond, 5

	_, target := over(t, power.ProtocolIPMI, bmcsim.Config{})
	bmc := bmctest.Open(t, power.NewDialer(power.Options{IPMIGap: gap}), target)
	bmctest.WantState(t, bmc, power.StateOff)

	since := time.Now()
	for range commands {
		bmctest.WantState(t, bmc, power.StateOff)
	}

	if took := time.Since(since); took < commands*gap {
		t.Errorf("%d commands took %s, with a gap of %s", commands, took, gap)
	}
}

// An act that the controller puts off is not sent any more once it is needless.
func TestBusyActThatBecomesNeedless(t *testing.T) {
	t.Parallel()

	sim, target := over(t, power.ProtocolRedfish, bmcsim.Config{}, bmcsim.FaultConflict)
	other := target
	other.Protocol = power.ProtocolIPMI

	done := make(chan error, 1)
	bmc := open(t, target)

	go func() { done <- bmc.Do(bmctest.Context(t), power.On) }()

	bmctest.Do(t, open(t, other), power.On)

	if err := <-done; err != nil {
		t.Fatal(err)
	}

	wantActs(t, sim, bmcsim.ActOn)
}

func TestFaultsWithValues(t *testing.T) {
	t.Parallel()

	sim, _ := bmctest.Simulated(t, bmcsim.Config{})

	for _, name := range []string{"drop=", "drop=x", "drop=-1", "drop=101", "code=100", "code=GG", "drop", "silent=3", "moon"} {
		if err := sim.SetFault(name, true); err == nil || !strings.Contains(err.Error(), "drop=N") {
			t.Errorf("%q: %v", name, err)
		}
	}

	for _, name := range []string{"drop=0", "drop=100", "ipmi:code=ff", "redfish:silent"} {
		if err := errors.Join(sim.SetFault(name, true), sim.SetFault(name, false)); err != nil {
			t.Error(err)
		}
	}
}

// Every vendor's controllers, as they are known, are led through the whole of a
// boot over the network, and tell what they are.
func TestPersonalities(t *testing.T) {
	t.Parallel()

	for _, name := range bmcsim.Personalities() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			protocol := power.ProtocolAuto
			if strings.HasPrefix(name, "ipmi-") {
				protocol = power.ProtocolIPMI
			}

			sim, target := over(t, protocol, bmcsim.Config{Personality: name})
			bmc := open(t, target)

			want := power.Boot{Device: power.DevicePXE, Mode: power.ModeUEFI}
			err := bmc.SetBoot(bmctest.Context(t), want)

			switch {
			case slices.Contains(sim.Faults(), bmcsim.FaultNoBoot):
				bmctest.WantKind(t, err, target, power.ErrUnsupported)
			case err != nil || sim.Boot() != want:
				t.Errorf("%v: the override is %+v, want %+v", err, sim.Boot(), want)
			}

			bmctest.Do(t, bmc, power.On, power.Cycle)

			if err := bmc.SetBoot(bmctest.Context(t), power.Boot{}); err != nil && !errors.Is(err, power.ErrUnsupported) {
				t.Error(err)
			}

			bmctest.Do(t, bmc, power.Soft)

			result, err := probe(within(t, 10*time.Second), target, false)
			if err != nil || result.Vendor == "" || result.Model == "" || result.Power != power.StateOff {
				t.Errorf("%v: %+v", err, result)
			}

			for _, act := range sim.Acts() {
				if act.System != "" {
					t.Errorf("another system was asked: %+v", act)
				}
			}

			if got, err := bmc.(power.Inventory).Inventory(bmctest.Context(t)); err != nil || len(got.Parts) == 0 {
				t.Errorf("%v: %+v", err, got)
			}
		})
	}
}

func TestUnknownPersonality(t *testing.T) {
	t.Parallel()

	if _, err := bmcsim.Start(bmcsim.Config{Personality: "abacus"}); err == nil || !strings.Contains(err.Error(), "supermicro-x11") {
		t.Errorf("%v", err)
	}
}
