package agentsim

import (
	"net/url"
	"strings"

	"github.com/siderolabs/talos-metal-agent/pkg/config"
	"github.com/siderolabs/talos/pkg/machinery/constants"
)

// Args are the kernel arguments that Talos and its agent read.
type Args struct {
	// ConfigURL is where the machine config is; Talos expands ${uuid} in it.
	ConfigURL string
	// ConfigInline is the machine config itself, zstd-compressed, in base64. It
	// comes before ConfigURL.
	ConfigInline string
	// SideroLinkAPI is the join URL for machines without a config that names it.
	SideroLinkAPI string
	// ProviderAddress is where the agent dials: host:port in plain text, or
	// https://host:port.
	ProviderAddress string
	// TLSSkipVerify believes any certificate of the provider.
	TLSSkipVerify bool
	// TestMode makes the agent answer that power is managed over an HTTP API.
	TestMode bool
}

// ParseArgs reads a kernel command line, as in /proc/cmdline or in an iPXE
// script's kernel line. Of an argument that stands twice the first counts,
// as in Talos; the pieces of talos.config.inline are put together. Unknown
// arguments are skipped.
func ParseArgs(cmdline string) Args {
	var args Args

	first := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}

	for word := range strings.FieldsSeq(cmdline) {
		key, value, _ := strings.Cut(word, "=")

		switch key {
		case constants.KernelParamConfig:
			first(&args.ConfigURL, value)
		case constants.KernelParamConfigInline:
			args.ConfigInline += value
		case constants.KernelParamSideroLink:
			first(&args.SideroLinkAPI, value)
		case config.MetalProviderAddressKernelArg:
			first(&args.ProviderAddress, value)
		case config.TLSSkipVerifyKernelArg:
			args.TLSSkipVerify = isTrue(value)
		case config.TestModeKernelArg:
			args.TestMode = isTrue(value)
		}
	}

	return args
}

func isTrue(value string) bool { return value == "1" || value == "true" }

// providerEndpoint splits the agent's idea of an address into host:port and
// whether TLS is spoken there.
func providerEndpoint(address string) (hostPort string, secure bool) {
	if parsed, err := url.Parse(address); err == nil && parsed.Host != "" {
		return parsed.Host, parsed.Scheme == "https"
	}

	return address, false
}
