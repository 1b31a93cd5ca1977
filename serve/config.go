// Package serve is the provider: it composes power, boot and the agents' hub
// into an Omni infrastructure provider. Policy decides, controllers act, this
// package only puts the parts together.
package serve

import (
	"time"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/power"
)

// Config is everything that serve can be told. Field comments name the flag;
// zero values are not defaults: start from DefaultConfig.
type Config struct {
	// Omni.
	ID                    string       // --id
	OmniAPIEndpoint       string       // --omni-api-endpoint
	OmniServiceAccountKey power.Secret // $OMNI_SERVICE_ACCOUNT_KEY
	InsecureSkipTLSVerify bool         // --insecure-skip-tls-verify
	ProviderName          string       // --provider-name
	ProviderDescription   string       // --provider-description
	MachineLabels         []string     // --machine-labels, key=value or key
	EnableResourceCache   bool         // --enable-resource-cache
	Takeover              bool         // --takeover

	// Network boot.
	APIListenAddress          string          // --api-listen-address
	APIAdvertiseAddress       string          // --api-advertise-address
	APIPort                   int             // --api-port
	DHCPProxyIfaceOrIP        string          // --dhcp-proxy-iface-or-ip
	DisableDHCPProxy          bool            // --disable-dhcp-proxy
	DisableDHCPProxyBroadcast bool            // --disable-dhcp-proxy-broadcast
	DHCPPort                  int             // --dhcp-port, 0: any
	PXEPort                   int             // --pxe-port, 0: any
	TFTPPort                  int             // --tftp-port, 0: any
	TFTPSinglePort            bool            // --tftp-single-port
	PXEStyle                  string          // --pxe-style
	DHCPReplyDelay            time.Duration   // --dhcp-reply-delay
	BootFromDiskMethod        boot.DiskMethod // --boot-from-disk-method
	ImageFactoryBaseURL       string          // --image-factory-base-url
	ImageFactoryPXEBaseURL    string          // --image-factory-pxe-base-url
	AgentModeTalosVersion     string          // --agent-mode-talos-version
	UseLocalBootAssets        bool            // --use-local-boot-assets
	BootAssetsPath            string          // --boot-assets-path
	SecureBootEnabled         bool            // --secure-boot-enabled
	ExtraMachineConfigPath    string          // --extra-machine-config-path
	IPXEDir                   string          // --ipxe-dir
	Machines                  []MachineConfig // the file's machines: section

	// Power.
	IPMIPXEBootMode                  string        // --ipmi-pxe-boot-mode
	MinRebootInterval                time.Duration // --min-reboot-interval
	MaxDisruptions                   int           // --max-disruptions
	RedfishUseAlways                 bool          // --redfish-use-always
	RedfishUseWhenAvailable          bool          // --redfish-use-when-available
	RedfishUseHTTPS                  bool          // --redfish-use-https
	RedfishPort                      int           // --redfish-port
	RedfishInsecureSkipTLSVerify     bool          // --redfish-insecure-skip-tls-verify
	RedfishSetBootSourceOverrideMode bool          // --redfish-set-boot-source-override-mode
	PollInterval                     time.Duration // --poll-interval
	PollConcurrency                  int           // --poll-concurrency
	PollTimeout                      time.Duration // --poll-timeout
	APIPowerMgmtStateDir             string        // --api-power-mgmt-state-dir

	// Agent.
	AgentTestMode          bool          // --agent-test-mode
	AgentCallTimeout       time.Duration // --agent-call-timeout
	AgentFastWipeTimeout   time.Duration // --agent-fast-wipe-timeout
	AgentZeroesWipeTimeout time.Duration // --agent-zeroes-wipe-timeout
	AgentSourceCheck       string        // --agent-source-check
	WipeWithZeroes         bool          // --wipe-with-zeroes

	// TLS.
	TLSEnabled              bool          // --tls-enabled
	TLSAPIPort              int           // --tls-api-port
	TLSAgentSkipVerify      bool          // --tls-agent-skip-verify
	TLSCATTL                time.Duration // --tls-ca-ttl
	TLSCertTTL              time.Duration // --tls-cert-ttl
	TLSCACertFile           string        // --tls-ca-cert-file
	TLSCertFile             string        // --tls-cert-file
	TLSKeyFile              string        // --tls-key-file
	TLSCustomIPXECACertFile string        // --tls-custom-ipxe-ca-cert-file
	ExtraCAFile             string        // --extra-ca-file

	// State and observability. The Given fields tell whether the operator named
	// the path or address: only then is a failure to use it an error.
	StateDir            string        // --state-dir
	StateDirGiven       bool          //
	AssetCacheDir       string        // --asset-cache-dir
	AssetCacheSize      int64         // --asset-cache-size, bytes
	MaxStaleness        time.Duration // --max-staleness
	SocketPath          string        // --socket
	SocketGiven         bool          //
	SocketGroup         string        // --socket-group
	MetricsAddress      string        // --metrics-address
	MetricsAddressGiven bool          //
	Debug               bool          // --debug
	Version             string        // of this binary

	// Names are how people call machines, for the inventory's hosts: by machine
	// id, else by BMC address.
	NamesByID      map[string]string
	NamesByAddress map[string]string
}

// MachineConfig is one entry of the file's machines: section. Exactly one of
// UUID, Serial and MAC matches.
type MachineConfig struct {
	UUID   string
	Serial string
	MAC    string
	// BootFromDiskMethod of this machine.
	BootFromDiskMethod boot.DiskMethod
}

// DefaultConfig returns the defaults of every flag; they are those of the
// existing provider where it has the flag.
func DefaultConfig() Config {
	return Config{
		ID:                               "bare-metal",
		ProviderName:                     "Bare Metal",
		ProviderDescription:              "Bare metal infrastructure provider",
		APIPort:                          50042,
		DHCPPort:                         67,
		PXEPort:                          4011,
		TFTPPort:                         69,
		PXEStyle:                         "auto",
		BootFromDiskMethod:               boot.DiskExit,
		ImageFactoryBaseURL:              "https://factory.talos.dev",
		ImageFactoryPXEBaseURL:           "https://pxe.factory.talos.dev",
		AgentModeTalosVersion:            "v1.13.7",
		BootAssetsPath:                   "/assets",
		IPMIPXEBootMode:                  "uefi",
		MinRebootInterval:                15 * time.Minute,
		MaxDisruptions:                   3,
		RedfishUseWhenAvailable:          true,
		RedfishUseHTTPS:                  true,
		RedfishPort:                      443,
		RedfishInsecureSkipTLSVerify:     true,
		RedfishSetBootSourceOverrideMode: true,
		PollInterval:                     30 * time.Second,
		PollConcurrency:                  64,
		PollTimeout:                      5 * time.Second,
		AgentCallTimeout:                 30 * time.Second,
		AgentFastWipeTimeout:             5 * time.Minute,
		AgentZeroesWipeTimeout:           24 * time.Hour,
		AgentSourceCheck:                 "warn",
		TLSAPIPort:                       50043,
		TLSCATTL:                         30 * 365 * 24 * time.Hour,
		TLSCertTTL:                       24 * time.Hour,
		StateDir:                         "/var/lib/bmctl",
		AssetCacheSize:                   20 << 30,
		MaxStaleness:                     10 * time.Minute,
		SocketPath:                       "/run/bmctl/bmctl.sock",
		MetricsAddress:                   "127.0.0.1:50044",
	}
}
