package serve

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/bmctl/bmctl/boot"
)

// TestKernelArgumentsTravel says what is posted to the factory and what we append:
// the inline config, which holds the join token, is never posted; a unified kernel
// image takes nothing appended, so that all of its arguments are posted.
func TestKernelArgumentsTravel(t *testing.T) {
	const token, config = "jointoken: hush", "talos.config=http://10.0.2.5:50042/config?u=${uuid}"

	for name, test := range map[string]struct {
		change func(*Config)
		posted []string // must be among them
		never  []string // prefixes
		inline bool
	}{
		"plain": {func(*Config) {}, []string{config, "metal.provider.address=10.0.2.5:50042"}, []string{"metal.provider.tls"}, false},
		"TLS": {func(c *Config) { c.TLSEnabled = true },
			[]string{"metal.provider.address=https://10.0.2.5:50043"}, []string{"talos.config", "metal.provider.tls"}, true},
		"TLS, unchecked": {func(c *Config) { c.TLSEnabled, c.TLSAgentSkipVerify = true, true },
			[]string{"metal.provider.tls.skip.verify=1"}, []string{"talos.config"}, true},
		"unchecked without TLS": {func(c *Config) { c.TLSAgentSkipVerify = true }, []string{config}, []string{"metal.provider.tls"}, false},
		"secure boot and TLS": {func(c *Config) { c.TLSEnabled, c.SecureBootEnabled = true, true },
			[]string{config, "metal.provider.address=https://10.0.2.5:50043"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			test.change(&cfg)

			s := &Server{cfg: cfg, advertise: netip.MustParseAddr("10.0.2.5")}
			a := &assets{cfg: cfg, at: s.machinesSee, agentAt: s.agentsDial, inline: func() (string, error) { return token, nil }}
			posted := a.agentWish("amd64", []string{"mine=1"}).schematic.Customization.ExtraKernelArgs

			for _, want := range append(test.posted, "mine=1", "console=ttyS0") {
				if !slices.Contains(posted, want) {
					t.Errorf("%q is not in %q", want, posted)
				}
			}

			for _, arg := range posted {
				if slices.ContainsFunc(append(test.never, "talos.config.inline"), func(p string) bool { return strings.HasPrefix(arg, p) }) {
					t.Errorf("%q was posted", arg)
				}
			}

			d, err := a.withSecrets(boot.Decision{Args: []string{"talos.platform=metal"}})
			if err != nil {
				t.Fatal(err)
			}

			if packed, found := strings.CutPrefix(d.Args[len(d.Args)-1], "talos.config.inline="); found != test.inline || found && unpacked(t, packed) != token {
				t.Errorf("appended %q", d.Args)
			}
		})
	}
}

func unpacked(t *testing.T, packed string) string {
	t.Helper()

	raw, err := base64.StdEncoding.DecodeString(packed)
	if err != nil {
		t.Fatal(err)
	}

	decoder, err := zstd.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()

	var text bytes.Buffer
	if _, err := text.ReadFrom(decoder); err != nil {
		t.Fatal(err)
	}

	return text.String()
}

// TestOwnCertificate: the operator's files are what agents are shown and told to
// trust; what does not fit together is refused.
func TestOwnCertificate(t *testing.T) {
	ca, caKey, leaf := authorityOf(t, time.Hour)

	raw, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}

	cfg := DefaultConfig()
	cfg.TLSEnabled = true
	cfg.TLSCertFile, cfg.TLSCACertFile = pemFile(t, certificatePEM(leaf.Certificate[0])), pemFile(t, ca)
	cfg.TLSKeyFile = pemFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
	loopback, log := netip.MustParseAddr("127.0.0.1"), slog.New(slog.DiscardHandler)

	id, err := newIdentity(cfg, loopback, log)
	if err != nil {
		t.Fatal(err)
	}

	shown, err := id.certificate()
	if err != nil || !bytes.Equal(shown.Certificate[0], leaf.Certificate[0]) {
		t.Errorf("agents are shown another certificate: %v", err)
	}

	if told, err := id.CA(); err != nil || told != ca {
		t.Errorf("agents are told to trust %q, %v", told, err)
	}

	cfg.TLSKeyFile = pemFile(t, caKey)
	if _, err := newIdentity(cfg, loopback, log); err == nil || !strings.Contains(err.Error(), "private key does not match") {
		t.Errorf("with another's key: %v", err)
	}

	cfg.TLSCertFile, cfg.TLSKeyFile = "", ""

	var flags []string
	for _, p := range cfg.Validate() {
		flags = append(flags, p.Flag)
	}

	if !slices.Contains(flags, "tls-ca-cert-file") {
		t.Errorf("a CA alone is accepted: %v", flags)
	}
}
