package serve

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
	"github.com/bmctl/bmctl/serve/pins"
)

// What --redfish-insecure-skip-tls-verify says: a BMC's certificate that changed
// is an event, and with the flag false an error too.
func TestCertificateOfABMCChanges(t *testing.T) {
	for insecure, want := range map[bool]error{true: nil, false: power.ErrAuth} {
		cfg := DefaultConfig()
		cfg.OmniAPIEndpoint, cfg.OmniServiceAccountKey, cfg.APIAdvertiseAddress = "http://127.0.0.1:1", power.NewSecret(key), "127.0.0.1"
		cfg.StateDir, cfg.StateDirGiven = t.TempDir(), true
		cfg.RedfishInsecureSkipTLSVerify = insecure

		_, target := bmctest.Simulated(t, bmcsim.Config{IPMIPort: bmcsim.PortOff})
		pin := fmt.Sprintf(`{%q: {"fingerprint": %q}}`, target.UUID, power.Fingerprint(bmctest.Certificate(t, target)))

		if err := os.WriteFile(filepath.Join(cfg.StateDir, pins.File), []byte(pin), 0o600); err != nil {
			t.Fatal(err)
		}

		s, err := New(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}

		dialer := power.NewDialer(s.powerOptions())
		bmctest.WantState(t, bmctest.Open(t, dialer, target), power.StateOff)

		_, other := bmctest.Simulated(t, bmcsim.Config{UUID: target.UUID, IPMIPort: bmcsim.PortOff})
		other.Protocol = power.ProtocolRedfish

		_, err = bmctest.Open(t, dialer, other).State(bmctest.Context(t))
		if want == nil && err != nil {
			t.Error(err)
		} else if want != nil {
			bmctest.WantKind(t, err, other, want)
		}

		events, _, _ := s.events.after(0)
		if len(events) != 1 || events[0].Type != pins.TypeCertificate || events[0].MachineID != target.UUID {
			t.Errorf("with the flag %v: events %+v", insecure, events)
		}
	}
}
