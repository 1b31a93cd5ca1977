package bmctest

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
)

// The user of every simulated controller of the suite.
const (
	User     = "admin"
	Password = "Secret-12345678"
)

// Simulated starts a simulated controller that ends with the test, and the
// target that means it. The configuration may be the zero one.
func Simulated(t *testing.T, cfg bmcsim.Config) (*bmcsim.BMC, power.Target) {
	t.Helper()

	if cfg.Users == nil {
		cfg.Users = map[string]string{User: Password}
	}

	if !cfg.ListenIP.IsValid() {
		cfg.ListenIP = netip.MustParseAddr("127.0.0.1")
	}

	sim, err := bmcsim.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})

	// A face that is off has no port; the discard port stands in for one.
	const discard = 9

	target := power.Target{
		Name: "r1n07", Address: sim.Addr().String(), Port: discard, RedfishPort: discard,
		Username: User, Password: power.NewSecret(Password), UUID: sim.UUID(),
	}
	if port := sim.IPMIPort(); port > 0 {
		target.Port = port
	}

	if port := sim.RedfishPort(); port > 0 {
		target.RedfishPort = port
	}

	return sim, target
}

// Certificate is what the target's Redfish face shows to anybody.
func Certificate(t *testing.T, target power.Target) *x509.Certificate {
	t.Helper()

	address := net.JoinHostPort(target.Address, strconv.Itoa(target.RedfishPort))
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // it is what is asked for

	conn, err := dialer.DialContext(Context(t), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}

	defer conn.Close() //nolint:errcheck // nothing is lost with it

	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0] //nolint:forcetypeassert // tls.Dialer's documentation
}
