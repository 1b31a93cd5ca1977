package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/serve"
)

// flagGroup is the annotation that sorts serve's flags in its help.
const flagGroup = "bmctl-group"

// The groups, in the order of the help.
const (
	groupTrial         = "Instead of serving"
	groupOmni          = "Omni"
	groupBoot          = "Network boot"
	groupPower         = "Power"
	groupTLS           = "TLS"
	groupAgent         = "Agent"
	groupState         = "State"
	groupObservability = "Observability"
)

func flagGroups() []string {
	return []string{groupTrial, groupOmni, groupBoot, groupPower, groupTLS, groupAgent, groupState, groupObservability}
}

// serveFlags defines every flag of serve on the configuration. Names and
// defaults are those of the existing provider where it has the flag.
func serveFlags(flags *pflag.FlagSet, c *serve.Config) {
	for group, define := range map[string]func(*pflag.FlagSet, *serve.Config){
		groupOmni: omniServeFlags, groupBoot: bootServeFlags, groupPower: powerServeFlags, groupTLS: tlsServeFlags,
		groupAgent: agentServeFlags, groupState: stateServeFlags, groupObservability: observabilityFlags,
	} {
		own := pflag.NewFlagSet(group, pflag.ContinueOnError)
		define(own, c)
		own.VisitAll(func(flag *pflag.Flag) {
			flag.Annotations = map[string][]string{flagGroup: {group}}
			flags.AddFlag(flag)
		})
	}
}

func omniServeFlags(flags *pflag.FlagSet, c *serve.Config) {
	flags.StringVar(&c.ID, "id", c.ID, "provider id, as registered in Omni")
	flags.StringVar(&c.OmniAPIEndpoint, "omni-api-endpoint", c.OmniAPIEndpoint, "Omni's `URL` (default $OMNI_ENDPOINT); the key is in $OMNI_SERVICE_ACCOUNT_KEY")
	flags.BoolVar(&c.InsecureSkipTLSVerify, "insecure-skip-tls-verify", c.InsecureSkipTLSVerify, "accept any certificate of Omni")
	flags.StringVar(&c.ProviderName, "provider-name", c.ProviderName, "name shown in Omni")
	flags.StringVar(&c.ProviderDescription, "provider-description", c.ProviderDescription, "description shown in Omni")
	flags.StringSliceVar(&c.MachineLabels, "machine-labels", c.MachineLabels, "labels of all machines: key=value,key2,...")
	flags.BoolVar(&c.EnableResourceCache, "enable-resource-cache", c.EnableResourceCache, "cache the provider's own resources")
	flags.BoolVar(&c.Takeover, "takeover", c.Takeover, "act although another provider of this id seems to run")
}

func bootServeFlags(flags *pflag.FlagSet, c *serve.Config) {
	flags.StringVar(&c.APIListenAddress, "api-listen-address", c.APIListenAddress, "`IP` that HTTP, gRPC and TFTP listen on (default all)")
	flags.StringVar(&c.APIAdvertiseAddress, "api-advertise-address", c.APIAdvertiseAddress, "`IP` that machines are told (default the only routable one)")
	flags.IntVar(&c.APIPort, "api-port", c.APIPort, "port of HTTP and gRPC")
	flags.StringVar(&c.DHCPProxyIfaceOrIP, "dhcp-proxy-iface-or-ip", c.DHCPProxyIfaceOrIP, "interface of the DHCP proxy (default that of the advertised address)")
	flags.BoolVar(&c.DisableDHCPProxy, "disable-dhcp-proxy", c.DisableDHCPProxy, "no DHCP proxy at all")
	flags.BoolVar(&c.DisableDHCPProxyBroadcast, "disable-dhcp-proxy-broadcast", c.DisableDHCPProxyBroadcast, "the proxy's unicast port alone, for the host of the DHCP server")
	flags.IntVar(&c.DHCPPort, "dhcp-port", c.DHCPPort, "port of the DHCP proxy; 0 is any")
	flags.IntVar(&c.PXEPort, "pxe-port", c.PXEPort, "port of the boot server discovery; 0 is any")
	flags.IntVar(&c.TFTPPort, "tftp-port", c.TFTPPort, "port of TFTP; 0 is any")
	flags.BoolVar(&c.TFTPSinglePort, "tftp-single-port", c.TFTPSinglePort, "answer TFTP from its one port, through firewalls; slower")
	choiceVar(flags, &c.PXEStyle, "pxe-style", "STYLE", "how firmware is pointed at us", "auto", "binl", "pxe10")
	flags.DurationVar(&c.DHCPReplyDelay, "dhcp-reply-delay", c.DHCPReplyDelay, "let the DHCP server answer first")
	flags.Var(newDiskMethod(&c.BootFromDiskMethod), "boot-from-disk-method", "how iPXE boots the machine's own disk: "+diskMethods)
	flags.StringVar(&c.ImageFactoryBaseURL, "image-factory-base-url", c.ImageFactoryBaseURL, "`URL` of the Image Factory")
	flags.StringVar(&c.ImageFactoryPXEBaseURL, "image-factory-pxe-base-url", c.ImageFactoryPXEBaseURL, "`URL` of the Image Factory's PXE scripts")
	flags.StringVar(&c.AgentModeTalosVersion, "agent-mode-talos-version", c.AgentModeTalosVersion, "Talos of agent mode")
	flags.BoolVar(&c.UseLocalBootAssets, "use-local-boot-assets", c.UseLocalBootAssets, "boot agent mode from local files")
	flags.StringVar(&c.BootAssetsPath, "boot-assets-path", c.BootAssetsPath, "`DIR` of kernel-<arch>, initramfs-metal-<arch>.xz, cmdline-metal-<arch>")
	flags.BoolVar(&c.SecureBootEnabled, "secure-boot-enabled", c.SecureBootEnabled, "boot signed unified kernel images")
	flags.StringVar(&c.ExtraMachineConfigPath, "extra-machine-config-path", c.ExtraMachineConfigPath, "`FILE` of machine config documents to append")
	flags.StringVar(&c.IPXEDir, "ipxe-dir", c.IPXEDir, "`DIR` of iPXE binaries to serve in place of the built-in ones")
}

func powerServeFlags(flags *pflag.FlagSet, c *serve.Config) {
	choiceVar(flags, &c.IPMIPXEBootMode, "ipmi-pxe-boot-mode", "MODE", "firmware mode of PXE boots over IPMI", "uefi", "bios")
	flags.DurationVar(&c.MinRebootInterval, "min-reboot-interval", c.MinRebootInterval, "between reboots of a machine that we cause")
	flags.IntVar(&c.MaxDisruptions, "max-disruptions", c.MaxDisruptions, "reboots and first wipes of machines in clusters, in ten minutes")
	flags.BoolVar(&c.RedfishUseAlways, "redfish-use-always", c.RedfishUseAlways, "never IPMI")
	flags.BoolVar(&c.RedfishUseWhenAvailable, "redfish-use-when-available", c.RedfishUseWhenAvailable, "Redfish where it answers")
	flags.BoolVar(&c.RedfishUseHTTPS, "redfish-use-https", c.RedfishUseHTTPS, "Redfish over TLS")
	flags.IntVar(&c.RedfishPort, "redfish-port", c.RedfishPort, "port of Redfish")
	flags.BoolVar(&c.RedfishInsecureSkipTLSVerify, "redfish-insecure-skip-tls-verify", c.RedfishInsecureSkipTLSVerify, "accept a BMC's certificate that changed (it is an event either way)")
	flags.BoolVar(&c.RedfishSetBootSourceOverrideMode, "redfish-set-boot-source-override-mode", c.RedfishSetBootSourceOverrideMode, "send the firmware mode with the boot override")
	flags.DurationVar(&c.PollInterval, "poll-interval", c.PollInterval, "between power readings of a machine")
	flags.IntVar(&c.PollConcurrency, "poll-concurrency", c.PollConcurrency, "power readings at a time")
	flags.DurationVar(&c.PollTimeout, "poll-timeout", c.PollTimeout, "of one power reading")
	flags.StringVar(&c.APIPowerMgmtStateDir, "api-power-mgmt-state-dir", c.APIPowerMgmtStateDir, "`DIR` of the QEMU machines' state, for their power API")
}

func tlsServeFlags(flags *pflag.FlagSet, c *serve.Config) {
	flags.BoolVar(&c.TLSEnabled, "tls-enabled", c.TLSEnabled, "agents over TLS")
	flags.IntVar(&c.TLSAPIPort, "tls-api-port", c.TLSAPIPort, "port of gRPC over TLS")
	flags.BoolVar(&c.TLSAgentSkipVerify, "tls-agent-skip-verify", c.TLSAgentSkipVerify, "agents accept any certificate of ours")
	flags.DurationVar(&c.TLSCATTL, "tls-ca-ttl", c.TLSCATTL, "validity of the generated CA")
	flags.DurationVar(&c.TLSCertTTL, "tls-cert-ttl", c.TLSCertTTL, "validity of the generated certificates")
	flags.StringVar(&c.TLSCACertFile, "tls-ca-cert-file", c.TLSCACertFile, "`FILE` of your own CA certificate")
	flags.StringVar(&c.TLSCertFile, "tls-cert-file", c.TLSCertFile, "`FILE` of your own certificate")
	flags.StringVar(&c.TLSKeyFile, "tls-key-file", c.TLSKeyFile, "`FILE` of its key")
	flags.StringVar(&c.TLSCustomIPXECACertFile, "tls-custom-ipxe-ca-cert-file", c.TLSCustomIPXECACertFile, "`FILE` of a CA certificate that iPXE trusts")
	flags.StringVar(&c.ExtraCAFile, extraCAFlag, c.ExtraCAFile, "`FILE` of CA certificates to trust besides the system's")
}

func agentServeFlags(flags *pflag.FlagSet, c *serve.Config) {
	flags.BoolVar(&c.AgentTestMode, "agent-test-mode", c.AgentTestMode, "for QEMU machines of talosctl cluster create")
	flags.DurationVar(&c.AgentCallTimeout, "agent-call-timeout", c.AgentCallTimeout, "of a call to an agent")
	flags.DurationVar(&c.AgentFastWipeTimeout, "agent-fast-wipe-timeout", c.AgentFastWipeTimeout, "of a fast wipe")
	flags.DurationVar(&c.AgentZeroesWipeTimeout, "agent-zeroes-wipe-timeout", c.AgentZeroesWipeTimeout, "of a wipe with zeroes")
	choiceVar(flags, &c.AgentSourceCheck, "agent-source-check", "MODE", "agents from an address that asked for no boot script", "off", "warn", "enforce")
	flags.BoolVar(&c.WipeWithZeroes, "wipe-with-zeroes", c.WipeWithZeroes, "overwrite whole disks instead of the fast wipe")
}

func stateServeFlags(flags *pflag.FlagSet, c *serve.Config) {
	flags.StringVar(&c.StateDir, "state-dir", c.StateDir, "`DIR` of the event log and caches, else $STATE_DIRECTORY")
	flags.StringVar(&c.AssetCacheDir, "asset-cache-dir", c.AssetCacheDir, "`DIR` of boot assets that machines load from here; without it they load from the Image Factory")
	flags.Var(size{&c.AssetCacheSize}, "asset-cache-size", "how much of them is kept")
	flags.DurationVar(&c.MaxStaleness, "max-staleness", c.MaxStaleness, "do not act on knowledge of Omni that is older")
	flags.StringVar(&c.SocketGroup, "socket-group", c.SocketGroup, "`NAME` of the group that may use --socket")
}

func observabilityFlags(flags *pflag.FlagSet, c *serve.Config) {
	flags.StringVar(&c.MetricsAddress, "metrics-address", c.MetricsAddress, "`HOST:PORT` of /metrics, /healthz and /readyz")
	flags.BoolVar(&c.Debug, "debug", c.Debug, "debug log")
}

var _ pflag.Value = diskMethod{}

const diskMethods = "ipxe-exit | http-404 | ipxe-sanboot"

// diskMethod is a flag of a boot.DiskMethod. Validation refuses other words,
// together with all other problems.
type diskMethod struct{ method *boot.DiskMethod }

func newDiskMethod(method *boot.DiskMethod) diskMethod { return diskMethod{method} }

// Set implements pflag.Value.
func (d diskMethod) Set(text string) error {
	*d.method = boot.DiskMethod(text)

	return nil
}

// String implements pflag.Value.
func (d diskMethod) String() string {
	if d.method == nil {
		return ""
	}

	return string(*d.method)
}

// Type implements pflag.Value.
func (d diskMethod) Type() string { return "METHOD" }

// resolveServe fills in what the command line left out.
func (a *app) resolveServe(flags *pflag.FlagSet) (config.Origins, config.Problems) {
	return config.Resolve(flags, config.Source{
		Env: a.env, Path: a.file.Path, Values: a.file.Serve,
		Fallback: map[string]string{"omni-api-endpoint": "OMNI_ENDPOINT", "state-dir": "STATE_DIRECTORY"},
	})
}

// groupedUsage writes the flags by group, then the global ones.
func groupedUsage(cmd *cobra.Command) error {
	var text strings.Builder

	fmt.Fprintf(&text, "Usage:\n  %s\n", cmd.UseLine())

	for _, group := range flagGroups() {
		set := pflag.NewFlagSet(group, pflag.ContinueOnError)

		cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
			if of := flag.Annotations[flagGroup]; len(of) == 1 && of[0] == group {
				set.AddFlag(flag)
			}
		})

		fmt.Fprintf(&text, "\n%s:\n%s", group, set.FlagUsages())
	}

	if cmd.HasAvailableInheritedFlags() {
		fmt.Fprintf(&text, "\nGlobal flags:\n%s", cmd.InheritedFlags().FlagUsages())
	}

	_, err := fmt.Fprint(cmd.OutOrStdout(), text.String())

	return err
}
