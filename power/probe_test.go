package power_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

func probe(ctx context.Context, target power.Target, anonymous bool) (power.ProbeResult, error) {
	return power.NewDialer(power.Options{}).Probe(ctx, target, anonymous)
}

func TestProbe(t *testing.T) {
	t.Parallel()

	cfg := bmcsim.Config{Vendor: "Contoso", Model: "X1", Serial: "C0FFEE", On: true}

	for protocol, want := range map[power.Protocol]power.ProbeResult{
		power.ProtocolIPMI:    {Protocol: power.ProtocolIPMI, Version: "2.0", IPMI: true, Suites: []int{3, 17}, Suite: 17, Console: power.SupportYes},
		power.ProtocolRedfish: {Protocol: power.ProtocolRedfish, Version: "1.15.0", Redfish: true, Console: power.SupportNo},
		power.ProtocolAuto: {
			Protocol: power.ProtocolRedfish, Version: "1.15.0", Redfish: true, IPMI: true, Suites: []int{3, 17}, Console: power.SupportYes,
		},
	} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, cfg)
			target.Protocol = protocol

			got, err := probe(bmctest.Context(t), target, false)
			if err != nil {
				t.Fatal(err)
			}

			if got.Took <= 0 || got.Took > 10*time.Second {
				t.Errorf("it took %s", got.Took)
			}

			want.Vendor, want.Model, want.Serial, want.Firmware = "Contoso", "X1", "C0FFEE", "1.10"
			want.UUID, want.LoggedIn, want.Power, want.Boot = sim.UUID(), true, power.StateOn, power.SupportYes
			want.Health, want.Address, want.Took = power.HealthOK, got.Address, got.Took

			if protocol != power.ProtocolIPMI {
				want.Certificate = power.Fingerprint(bmctest.Certificate(t, target))
			}

			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}

			if n := sim.Sessions(); n != 0 {
				t.Errorf("%d sessions are left open", n)
			}
		})
	}
}

func TestProbeAnonymously(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{Vendor: "Contoso"})
	target.Username, target.Password = "", power.Secret{}

	got, err := probe(bmctest.Context(t), target, true)
	if err != nil {
		t.Fatal(err)
	}

	if got.LoggedIn || got.UUID != "" || got.Power != power.StateUnknown || got.Boot != power.SupportUnknown {
		t.Errorf("more is told than can be known: %+v", got)
	}

	if got.Certificate != power.Fingerprint(bmctest.Certificate(t, target)) {
		t.Errorf("the certificate is %q", got.Certificate)
	}

	if !got.Redfish || !got.IPMI || got.Vendor != "Contoso" || got.Version != "1.15.0" || len(got.Suites) != 2 {
		t.Errorf("less is told than can be known: %+v", got)
	}

	if acts, n := sim.Acts(), sim.Sessions(); len(acts) != 0 || n != 0 {
		t.Errorf("%d sessions, acts %v", n, acts)
	}
}

// Over IPMI alone the version and the suites are told before any login.
func TestProbeIPMIAnonymously(t *testing.T) {
	t.Parallel()

	_, target := bmctest.Simulated(t, bmcsim.Config{CipherSuites: []int{17}})
	target.Protocol = power.ProtocolIPMI

	got, err := probe(bmctest.Context(t), target, true)
	if err != nil || got.Version != "2.0" || !got.IPMI || got.Redfish || !reflect.DeepEqual(got.Suites, []int{17}) {
		t.Errorf("%v: %+v", err, got)
	}
}

// Which layer failed.
func TestProbeTellsTheLayer(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		protocol power.Protocol
		faults   []string
		change   func(*power.Target)
		layer    power.Layer
		kind     error
		known    power.Protocol
	}{
		"silent":               {"auto", []string{"silent"}, nil, power.LayerSilent, power.ErrUnreachable, ""},
		"silent IPMI":          {"ipmi", []string{"silent"}, nil, power.LayerSilent, power.ErrUnreachable, ""},
		"nothing listens":      {"ipmi", nil, func(t *power.Target) { t.Port = 9 }, power.LayerRoute, power.ErrUnreachable, ""},
		"no such name":         {"auto", nil, func(t *power.Target) { t.Address = "no.invalid" }, power.LayerRoute, power.ErrUnreachable, ""},
		"no address":           {"auto", nil, func(t *power.Target) { t.Address = "" }, power.LayerRoute, power.ErrUnreachable, ""},
		"login":                {"auto", []string{"bad-login"}, nil, power.LayerLogin, power.ErrAuth, "redfish"},
		"IPMI login":           {"ipmi", []string{"bad-login"}, nil, power.LayerLogin, power.ErrAuth, "ipmi"},
		"privilege":            {"ipmi", []string{"user-only"}, nil, power.LayerPrivilege, power.ErrAuth, "ipmi"},
		"no system":            {"redfish", []string{"no-systems"}, nil, power.LayerSystem, power.ErrUnsupported, "redfish"},
		"which of two systems": {"redfish", []string{"two-systems"}, func(t *power.Target) { t.UUID = "" }, power.LayerSystem, power.ErrAmbiguous, "redfish"},
		"another machine": {"ipmi", nil, func(t *power.Target) {
			t.UUID = "11111111-2222-4333-8444-555555555555"
		}, power.LayerSystem, power.ErrAmbiguous, "ipmi"},
		"unknown protocol": {"smoke", nil, nil, power.LayerProtocol, power.ErrUnsupported, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, bmcsim.Config{})
			target.Protocol = c.protocol

			for _, fault := range c.faults {
				setFault(t, sim, fault, true)
			}

			if c.change != nil {
				c.change(&target)
			}

			got, err := probe(within(t, 3*time.Second), target, false)
			bmctest.WantKind(t, err, target, c.kind)

			if got.Layer != c.layer || got.Protocol != c.known {
				t.Errorf("layer %q, protocol %q; want %q, %q (%v)", got.Layer, got.Protocol, c.layer, c.known, err)
			}

			if n := sim.Sessions(); n != 0 {
				t.Errorf("%d sessions are left open", n)
			}
		})
	}
}

// What is wrong with TLS stands before what is silent.
func TestProbeTellsTLS(t *testing.T) {
	t.Parallel()

	_, target := bmctest.Simulated(t, bmcsim.Config{PlainHTTP: true, IPMIPort: bmcsim.PortOff})

	got, err := probe(within(t, 3*time.Second), target, true)
	bmctest.WantKind(t, err, target, power.ErrUnreachable)

	if got.Layer != power.LayerTLS {
		t.Errorf("plain HTTP where TLS is spoken: layer %q (%v)", got.Layer, err)
	}

	_, target = bmctest.Simulated(t, bmcsim.Config{IPMIPort: bmcsim.PortOff})
	got, err = power.NewDialer(power.Options{VerifyTLS: true}).Probe(within(t, 3*time.Second), target, true)
	bmctest.WantKind(t, err, target, power.ErrAuth)

	if got.Layer != power.LayerTLS {
		t.Errorf("a certificate that nobody vouches for: layer %q (%v)", got.Layer, err)
	}

	// With IPMI beside it, that is a note.
	_, target = bmctest.Simulated(t, bmcsim.Config{})

	got, err = power.NewDialer(power.Options{VerifyTLS: true}).Probe(within(t, 5*time.Second), target, false)
	if err != nil || got.Protocol != power.ProtocolIPMI || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "certificate") {
		t.Errorf("%v: %+v", err, got)
	}
}

// A web server that is no controller.
func TestProbeTellsTheProtocol(t *testing.T) {
	t.Parallel()

	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)

	target := power.Target{
		Name: "r1n07", Address: "127.0.0.1", Protocol: power.ProtocolRedfish,
		RedfishPort: server.Listener.Addr().(*net.TCPAddr).Port,
	}

	got, err := power.NewDialer(power.Options{PlainHTTP: true}).Probe(within(t, 3*time.Second), target, true)
	bmctest.WantKind(t, err, target, power.ErrUnsupported)

	if got.Layer != power.LayerProtocol {
		t.Errorf("layer %q", got.Layer)
	}
}

// E23: a controller that has nothing but IPMI 1.5 is told as such. It answers Get
// Channel Authentication Capabilities without the bit that stands for 2.0 (IPMI
// 2.0, table 22-15).
func TestE23OnlyIPMI15(t *testing.T) {
	t.Parallel()

	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	go func() {
		const authCapabilities, commandAt, codeAt = 0x38, 19, 20

		for p := make([]byte, 512); ; {
			n, client, err := conn.ReadFromUDP(p)
			if err != nil {
				return
			}

			if n > codeAt && p[commandAt] == authCapabilities {
				// Completion code, channel 1, MD5 and passwords, and no more.
				answer := append(append([]byte(nil), p[:codeAt]...), 0, 1, 0x14, 0, 0, 0, 0, 0, 0, 0)
				_, _ = conn.WriteToUDP(answer, client)
			}
		}
	}()

	target := power.Target{Name: "r1n07", Address: "127.0.0.1", Protocol: power.ProtocolIPMI, Port: conn.LocalAddr().(*net.UDPAddr).Port}

	got, err := probe(within(t, 5*time.Second), target, true)
	if err != nil || !got.IPMI || got.Version != "1.5" {
		t.Errorf("%v: %+v", err, got)
	}
}

// E9: a controller that never tells its cipher suites costs no five seconds.
func TestE9SuitesThatAreNotTold(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	target.Protocol = power.ProtocolIPMI
	setFault(t, sim, bmcsim.FaultNoSuites, true)

	got, err := probe(bmctest.Context(t), target, false)
	if err != nil || got.Suites != nil || got.Suite != 17 || got.Took > 4500*time.Millisecond {
		t.Errorf("%v: %+v", err, got)
	}
}

// C24: a controller whose IPMI is off is reached over Redfish, and the other way round.
func TestC24OneProtocolIsOff(t *testing.T) {
	t.Parallel()

	for silent, want := range map[string]power.Protocol{"ipmi:silent": "redfish", "redfish:silent": "ipmi"} {
		sim, target := bmctest.Simulated(t, bmcsim.Config{})
		setFault(t, sim, silent, true)

		got, err := probe(within(t, 8*time.Second), target, false)
		if err != nil || got.Protocol != want || got.Took > 4*time.Second {
			t.Errorf("%s: %v: %+v", silent, err, got)
		}
	}
}

// Of what is told in passing: faults, an override that goes elsewhere, a
// console that is off, a login that Redfish refuses.
func TestProbeNotes(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		protocol power.Protocol
		fault    string
		holds    func(power.ProbeResult) bool
	}{
		"hot": {"redfish", bmcsim.FaultHot, func(r power.ProbeResult) bool { return r.Health == power.HealthCritical }},
		"settings": {"redfish", bmcsim.FaultSettingsAll, func(r power.ProbeResult) bool {
			return r.Boot == power.SupportYes && len(r.Notes) == 1 && strings.Contains(r.Notes[0], "/SD")
		}},
		"A17 no override":   {"redfish", bmcsim.FaultNoBoot, func(r power.ProbeResult) bool { return r.Boot == power.SupportNo }},
		"no console":        {"ipmi", bmcsim.FaultNoConsole, func(r power.ProbeResult) bool { return r.Console == power.SupportNo }},
		"IPMI refuses":      {"auto", "ipmi:bad-login", func(r power.ProbeResult) bool { return r.Console == power.SupportUnknown && len(r.Notes) == 1 }},
		"no UUID over IPMI": {"ipmi", bmcsim.FaultNoGUID, func(r power.ProbeResult) bool { return r.UUID == "" }},
		"redfish refuses": {"auto", "redfish:bad-login", func(r power.ProbeResult) bool {
			return r.Protocol == power.ProtocolIPMI && len(r.Notes) == 1 && strings.Contains(r.Notes[0], "Redfish refused")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, bmcsim.Config{})
			target.Protocol = c.protocol
			setFault(t, sim, c.fault, true)

			if got, err := probe(within(t, 8*time.Second), target, false); err != nil || !c.holds(got) {
				t.Errorf("%v: %+v", err, got)
			}
		})
	}
}

// Addresses at which nothing answers end with the time that they were given.
func TestProbeOfDarkAddresses(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	setFault(t, sim, bmcsim.FaultSilent, true)

	const addresses = 250
	took := make(chan time.Duration, addresses)

	ctx := within(t, 2*time.Second)
	dialer := power.NewDialer(power.Options{})

	for range addresses {
		go func() {
			result, _ := dialer.Probe(ctx, target, false)
			took <- result.Took
		}()
	}

	for range addresses {
		if d := <-took; d > 3*time.Second {
			t.Errorf("a dark address took %s", d)
		}
	}
}
