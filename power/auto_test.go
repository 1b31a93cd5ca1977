package power_test

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// wantProtocol fails the test unless all acts came over the protocol.
func wantProtocol(t *testing.T, sim *bmcsim.BMC, want power.Protocol) {
	t.Helper()

	if len(sim.Acts()) == 0 {
		t.Error("nothing reached the controller")
	}

	for _, act := range sim.Acts() {
		if act.Protocol != want {
			t.Errorf("%s came over %s, want %s", act.Kind, act.Protocol, want)
		}
	}
}

func TestAutoChoosesTheProtocol(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		use    power.RedfishUse
		faults []string
		want   power.Protocol
	}{
		"redfish where it answers":          {want: power.ProtocolRedfish},
		"ipmi where redfish is silent":      {faults: []string{"redfish:silent"}, want: power.ProtocolIPMI},
		"ipmi where redfish refuses us":     {faults: []string{"redfish:bad-login"}, want: power.ProtocolIPMI},
		"redfish where only ipmi is silent": {faults: []string{"ipmi:silent"}, want: power.ProtocolRedfish},
		"never redfish":                     {use: power.RedfishNever, want: power.ProtocolIPMI},
		"always redfish":                    {use: power.RedfishAlways, faults: []string{"ipmi:silent"}, want: power.ProtocolRedfish},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, bmcsim.Config{})
			for _, fault := range c.faults {
				setFault(t, sim, fault, true)
			}

			bmctest.Do(t, bmctest.Open(t, power.NewDialer(power.Options{Redfish: c.use}), target), power.On)
			wantProtocol(t, sim, c.want)
		})
	}
}

func TestAutoAllRefuse(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	setFault(t, sim, bmcsim.FaultBadLogin, true)

	_, err := open(t, target).State(bmctest.Context(t))
	bmctest.WantKind(t, err, target, power.ErrAuth)

	if !strings.Contains(err.Error(), "wrong password; over Redfish: ") {
		t.Errorf("%q does not tell both refusals", err)
	}
}

// A controller that is silent on IPMI may yet let us in: no ErrAuth.
func TestAutoRefusedAndSilent(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	setFault(t, sim, "redfish:bad-login", true)
	setFault(t, sim, "ipmi:silent", true)

	_, err := open(t, target).State(within(t, 3*time.Second))
	bmctest.WantKind(t, err, target, power.ErrUnreachable)
}

func TestAutoHealsWhenRedfishDies(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	bmc := open(t, target)
	bmctest.Do(t, bmc, power.On)
	setFault(t, sim, "redfish:silent", true)

	_, err := bmc.State(within(t, 500*time.Millisecond))
	bmctest.WantKind(t, err, target, power.ErrUnreachable)

	bmctest.WantState(t, bmc, power.StateOn)
	bmctest.Do(t, bmc, power.Off)

	if acts := sim.Acts(); acts[len(acts)-1].Protocol != power.ProtocolIPMI {
		t.Errorf("the last act came over %s", acts[len(acts)-1].Protocol)
	}
}

func TestUnknownProtocol(t *testing.T) {
	t.Parallel()

	target := power.Target{Name: "r1n07", Address: "127.0.0.1", Protocol: "smoke"}
	_, err := power.NewDialer(power.Options{}).Open(t.Context(), target)
	bmctest.WantKind(t, err, target, power.ErrUnsupported)

	target = power.Target{Name: "r1n07"}
	_, err = power.NewDialer(power.Options{}).Open(t.Context(), target)
	bmctest.WantKind(t, err, target, power.ErrUnreachable)
}

func TestCertificates(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{IPMIPort: bmcsim.PortOff})
	target.Protocol = power.ProtocolRedfish

	var pin [sha256.Size]byte

	learn := func(got power.Target, c *x509.Certificate, verified error) error {
		if pin = sha256.Sum256(c.Raw); got.Name != target.Name || verified == nil {
			return errors.New("called with another target, or a self-signed certificate passed for verified")
		}

		return nil
	}
	compare := func(_ power.Target, c *x509.Certificate, _ error) error {
		if pin != sha256.Sum256(c.Raw) {
			return errors.New("pinned is another one")
		}

		return nil
	}

	state := func(opts power.Options, target power.Target) error {
		_, err := bmctest.Open(t, power.NewDialer(opts), target).State(bmctest.Context(t))

		return err
	}

	if err := state(power.Options{}, target); err != nil {
		t.Errorf("a self-signed certificate is refused by default: %v", err)
	}

	err := state(power.Options{VerifyTLS: true}, target)
	bmctest.WantKind(t, err, target, power.ErrAuth)

	if !strings.Contains(err.Error(), "the certificate is not accepted") {
		t.Errorf("the error reads %q", err)
	}

	if err := state(power.Options{CheckCertificate: learn}, target); err != nil {
		t.Error(err)
	}

	if err := state(power.Options{VerifyTLS: true, CheckCertificate: compare}, target); err != nil {
		t.Errorf("the pinned certificate is refused: %v", err)
	}

	_, other := bmctest.Simulated(t, bmcsim.Config{UUID: sim.UUID()})
	other.Protocol = power.ProtocolRedfish
	bmctest.WantKind(t, state(power.Options{CheckCertificate: compare}, other), other, power.ErrAuth)
}

// A certificate that is not accepted is no silence: IPMI is spoken, with a
// warning, and where that fails too both reasons are told.
func TestAutoWithACertificateThatIsNotAccepted(t *testing.T) {
	t.Parallel()

	var log lockedBuffer

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	target.Pin = "sha256:" + strings.Repeat("0", 64)
	dialer := power.NewDialer(power.Options{Log: log.logger()})

	bmctest.Do(t, bmctest.Open(t, dialer, target), power.On)
	wantProtocol(t, sim, power.ProtocolIPMI)

	if n := strings.Count(log.String(), "level=WARN msg=\"redfish's certificate is not accepted: speaking IPMI for now\""); n != 1 {
		t.Errorf("%d warnings, want one:\n%s", n, log.String())
	}

	target.Password = power.NewSecret("wrong")
	_, err := bmctest.Open(t, power.NewDialer(power.Options{}), target).State(bmctest.Context(t))
	bmctest.WantKind(t, err, target, power.ErrAuth)

	for _, part := range []string{"wrong password", "over Redfish: ", "the certificate is not accepted"} {
		if err != nil && !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
}

func TestPlainHTTP(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{PlainHTTP: true})
	target.Protocol = power.ProtocolRedfish
	bmctest.Do(t, bmctest.Open(t, power.NewDialer(power.Options{PlainHTTP: true}), target), power.On)
	wantProtocol(t, sim, power.ProtocolRedfish)
}
