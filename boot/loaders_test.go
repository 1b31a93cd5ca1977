package boot

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The warning is for those whom it concerns: the proxy is off, and the BIOS loader
// is the one that cannot be changed.
func TestWhatDHCPNeedsIsSaid(t *testing.T) {
	own := t.TempDir()
	build := placeholderStart + strings.Repeat("#", 1000) + placeholderEnd
	if err := os.WriteFile(filepath.Join(own, "undionly.kpxe"), []byte(build), 0o600); err != nil {
		t.Fatal(err)
	}
	us := netip.AddrFrom4(ours).String()
	script := "http://" + us + ":50042/ipxe/init.ipxe"
	for name, c := range map[string]struct {
		config Config
		said   bool
	}{
		"the proxy is on":           {Config{}, false},
		"off":                       {Config{DisableDHCPProxy: true}, true},
		"off, with an own build":    {Config{DisableDHCPProxy: true, IPXEDir: own}, false},
		"off, with own other files": {Config{DisableDHCPProxy: true, IPXEDir: t.TempDir()}, true},
	} {
		var log bytes.Buffer
		c.config.Decider, c.config.Advertise, c.config.HTTPPort = deciderFunc(nil), netip.AddrFrom4(ours), 50042
		c.config.Log = slog.New(slog.NewTextHandler(&log, nil))
		s, err := New(c.config)
		if err != nil {
			t.Fatal(err)
		}
		s.sayWhatDHCPNeeds()
		if said := strings.Contains(log.String(), "level=WARN"); said != c.said {
			t.Errorf("%s: %q", name, log.String())
		}
		for _, line := range []string{
			"dhcp-userclass=set:bmctl,Tinkerbell\\n", `dhcp-boot=tag:bmctl,` + script + `,,` + us + `\n`, `dhcp-boot=tag:!bmctl,undionly.kpxe,,` + us,
			`next-server ` + us + `; if option user-class = \"Tinkerbell\" { filename \"` + script + `\"; } else { filename \"undionly.kpxe\"; }`,
			`\"next-server\": \"` + us + `\", \"boot-file-name\": \"` + script + `\"`,
		} {
			if c.said && !strings.Contains(strings.ReplaceAll(log.String(), `\\`, `\`), line) {
				t.Errorf("%s: %s does not say %s", name, log.String(), line)
			}
		}
	}
}
