package serve

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bmctl/bmctl/boot"
)

// Problem is one thing wrong with a configuration.
type Problem struct {
	// Flag is the flag's name without dashes.
	Flag string
	// Text says what is wrong and what is accepted.
	Text string
}

// String returns "--flag: text".
func (p Problem) String() string { return "--" + p.Flag + ": " + p.Text }

// Validate returns every problem of the configuration, in the order of the
// flags' groups; none means that New accepts it. Nothing is bound or asked, but
// the files that flags name are looked at.
func (c Config) Validate() []Problem {
	var problems problemList

	c.validateOmni(&problems)
	c.validateBoot(&problems)
	c.validatePower(&problems)
	c.validateDurations(&problems)
	c.validateTLS(&problems)

	return problems
}

type problemList []Problem

func (l *problemList) add(flag, format string, args ...any) {
	*l = append(*l, Problem{Flag: flag, Text: fmt.Sprintf(format, args...)})
}

func (l *problemList) check(ok bool, flag, format string, args ...any) {
	if !ok {
		l.add(flag, format, args...)
	}
}

// wrong adds the error that the flag's file led to, if there is one, on one line.
func (l *problemList) wrong(flag string, err error) {
	if err != nil {
		l.add(flag, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

func (l *problemList) address(flag, value string) {
	_, err := netip.ParseAddr(value)
	l.check(value == "" || err == nil, flag, "%q is not an IP address", value)
}

func (l *problemList) port(flag string, value int) {
	l.check(value >= 0 && value <= 65535, flag, "%d is not a port", value)
}

func (l *problemList) url(flag, value string) {
	u, err := url.Parse(value)
	l.check(err == nil && u.Host != "" && oneOf(u.Scheme, "https", "http"), flag, "%q is not an http(s) URL", value)
}

func oneOf(value string, allowed ...string) bool {
	for _, a := range allowed {
		if value == a {
			return true
		}
	}

	return false
}

func (c Config) validateOmni(l *problemList) {
	l.check(c.ID != "" && !strings.ContainsAny(c.ID, " \t\n/:"), "id", "%q is not a provider id", c.ID)

	u, err := url.Parse(c.OmniAPIEndpoint)
	switch {
	case c.OmniAPIEndpoint == "":
		l.add("omni-api-endpoint", "missing: give Omni's URL here or in OMNI_ENDPOINT")
	case err != nil || u.Host == "" || !oneOf(u.Scheme, "https", "http", "grpc"):
		l.add("omni-api-endpoint", "%q is not a URL of Omni (https://omni.example.com)", c.OmniAPIEndpoint)
	}

	if err := checkServiceAccountKey(c.OmniServiceAccountKey.Reveal()); err != nil {
		l.add("omni-service-account-key", "$OMNI_SERVICE_ACCOUNT_KEY %v", err)
	}

	for _, label := range c.MachineLabels {
		key, _, _ := strings.Cut(label, "=")
		l.check(strings.TrimSpace(key) != "", "machine-labels", "%q has no key", label)
	}
}

// checkServiceAccountKey looks at the form alone: base64 of JSON with a name and
// a key. Its words never repeat any of the key.
func checkServiceAccountKey(key string) error {
	if key == "" {
		return fmt.Errorf("is missing: create an infra provider in Omni and set its key")
	}

	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(key))
	if err != nil {
		return fmt.Errorf("is malformed: not base64")
	}

	var account struct {
		Name   string `json:"name"`
		PGPKey string `json:"pgp_key"`
	}

	if json.Unmarshal(raw, &account) != nil || account.Name == "" || account.PGPKey == "" {
		return fmt.Errorf("is malformed: no service account inside")
	}

	return nil
}

func (c Config) validateBoot(l *problemList) {
	l.address("api-listen-address", c.APIListenAddress)
	l.address("api-advertise-address", c.APIAdvertiseAddress)
	l.port("api-port", c.APIPort)
	l.port("dhcp-port", c.DHCPPort)
	l.port("pxe-port", c.PXEPort)
	l.port("tftp-port", c.TFTPPort)

	l.check(oneOf(string(c.BootFromDiskMethod), string(boot.DiskExit), string(boot.DiskSanboot), string(boot.DiskHTTP404)),
		"boot-from-disk-method", "%q: want ipxe-exit, http-404 or ipxe-sanboot", c.BootFromDiskMethod)
	l.check(oneOf(c.PXEStyle, "auto", "binl", "pxe10"), "pxe-style", "%q: want auto, binl or pxe10", c.PXEStyle)

	l.url("image-factory-base-url", c.ImageFactoryBaseURL)
	l.url("image-factory-pxe-base-url", c.ImageFactoryPXEBaseURL)

	l.check(strings.HasPrefix(c.AgentModeTalosVersion, "v"), "agent-mode-talos-version", "%q: want a version like v1.13.7", c.AgentModeTalosVersion)

	if c.SecureBootEnabled {
		l.check(c.IPMIPXEBootMode == "uefi", "secure-boot-enabled", "needs --ipmi-pxe-boot-mode=uefi")
		l.check(!c.UseLocalBootAssets, "secure-boot-enabled", "excludes --use-local-boot-assets: the local kernel is not signed")
	}

	if c.UseLocalBootAssets {
		l.check(hasLocalAssets(c.BootAssetsPath), "boot-assets-path",
			"%s holds no complete set of kernel-<arch>, initramfs-metal-<arch>.xz and cmdline-metal-<arch>", c.BootAssetsPath)
	}
}

// hasLocalAssets tells whether at least one architecture has all three files.
func hasLocalAssets(dir string) bool {
	for _, arch := range []string{"amd64", "arm64"} {
		complete := true

		for _, name := range []string{"kernel-" + arch, "initramfs-metal-" + arch + ".xz", "cmdline-metal-" + arch} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				complete = false
			}
		}

		if complete {
			return true
		}
	}

	return false
}

func (c Config) validatePower(l *problemList) {
	l.check(oneOf(c.IPMIPXEBootMode, "uefi", "bios"), "ipmi-pxe-boot-mode", "%q: want uefi or bios", c.IPMIPXEBootMode)
	l.port("redfish-port", c.RedfishPort)
	l.check(c.MaxDisruptions > 0, "max-disruptions", "%d: want at least 1", c.MaxDisruptions)
	l.check(c.PollConcurrency > 0, "poll-concurrency", "%d: want at least 1", c.PollConcurrency)
	l.check(oneOf(c.AgentSourceCheck, "off", "warn", "enforce"), "agent-source-check", "%q: want off, warn or enforce", c.AgentSourceCheck)

	if _, _, err := net.SplitHostPort(c.MetricsAddress); c.MetricsAddress != "" && err != nil {
		l.add("metrics-address", "%q is not host:port", c.MetricsAddress)
	}
}

func (c Config) validateDurations(l *problemList) {
	l.check(c.MinRebootInterval >= 0, "min-reboot-interval", "must not be negative")
	l.check(c.DHCPReplyDelay >= 0, "dhcp-reply-delay", "must not be negative")
	l.check(c.PollInterval > 0, "poll-interval", "must be positive")
	l.check(c.PollTimeout > 0, "poll-timeout", "must be positive")
	l.check(c.AgentCallTimeout > 0, "agent-call-timeout", "must be positive")
	l.check(c.AgentFastWipeTimeout > 0, "agent-fast-wipe-timeout", "must be positive")
	l.check(c.AgentZeroesWipeTimeout > 0, "agent-zeroes-wipe-timeout", "must be positive")
	l.check(c.MaxStaleness > 0, "max-staleness", "must be positive")
}

func (c Config) validateTLS(l *problemList) {
	l.port("tls-api-port", c.TLSAPIPort)

	own := c.TLSCertFile != "" || c.TLSKeyFile != ""
	l.check(!own || (c.TLSCertFile != "" && c.TLSKeyFile != ""), "tls-cert-file", "--tls-cert-file and --tls-key-file go together")

	_, err := c.roots()
	l.wrong("extra-ca-file", err)

	_, err = c.ipxeRoot()
	l.wrong("tls-custom-ipxe-ca-cert-file", err)

	l.check(c.TLSCACertFile == "" || own, "tls-ca-cert-file", "needs --tls-cert-file and --tls-key-file")
	l.check(!c.TLSEnabled || c.TLSCertTTL >= time.Hour, "tls-cert-ttl", "%s: want at least 1h", c.TLSCertTTL)
}
