package serve

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/siderolabs/image-factory/pkg/schematic"
	agentconfig "github.com/siderolabs/talos-metal-agent/pkg/config"
	"github.com/siderolabs/talos/pkg/machinery/constants"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/assetcache"
	"github.com/bmctl/bmctl/serve/factory"
)

// assets says from where a machine loads Talos, and with which kernel arguments.
// It implements controllers.Assets.
type assets struct {
	cfg     Config
	factory *factory.Client
	cache   *assetcache.Cache // nil: machines load from the factory
	log     *slog.Logger
	// at is the address and port that machines are told, for HTTP and gRPC.
	at func() netip.AddrPort
	// agentAt is where agents are told to call.
	agentAt func() string
	// inline is the machine config that travels in the kernel arguments with TLS,
	// as it holds the join token.
	inline func() (string, error)
}

// Agent is Talos in agent mode, from local files or from the Image Factory.
func (a *assets) Agent(ctx context.Context, arch string, args []string) (boot.Decision, error) {
	if a.cfg.UseLocalBootAssets {
		return a.local(arch, append(a.agentArgs(arch), args...))
	}

	return a.fromFactory(ctx, a.agentWish(arch, args))
}

// Talos is the version that a cluster wants; it always comes from the factory.
func (a *assets) Talos(ctx context.Context, arch, version string, extensions, args []string) (boot.Decision, error) {
	return a.fromFactory(ctx, a.talosWish(arch, version, extensions, args))
}

// wish is a Talos to boot.
type wish struct {
	schematic     schematic.Schematic
	version, arch string
}

func (a *assets) agentWish(arch string, args []string) wish {
	args = append(a.agentArgs(arch), args...)

	return wish{factory.NewSchematic(factory.AgentExtensions(), args), a.cfg.AgentModeTalosVersion, arch}
}

func (a *assets) talosWish(arch, version string, extensions, args []string) wish {
	return wish{factory.NewSchematic(extensions, append(a.args(arch), args...)), version, arch}
}

func (a *assets) fromFactory(ctx context.Context, w wish) (boot.Decision, error) {
	if a.cache != nil {
		return a.fromCache(ctx, w)
	}

	id, err := a.factory.EnsureSchematic(ctx, w.schematic)
	if err != nil {
		return boot.Decision{}, err
	}

	return a.direct(ctx, id, w)
}

// direct has machines load from the factory.
func (a *assets) direct(ctx context.Context, id string, w wish) (boot.Decision, error) {
	if !a.cfg.TLSEnabled {
		return boot.Decision{Chain: a.factory.PXEScriptURL(id, w.version, w.arch, a.cfg.SecureBootEnabled)}, nil
	}

	script, err := a.factory.Script(ctx, id, w.version, w.arch, a.cfg.SecureBootEnabled)
	if err != nil {
		return boot.Decision{}, err
	}

	return a.withSecrets(boot.Decision{Kernel: script.Kernel, Initrd: script.Initrd, Args: script.Args})
}

// withSecrets adds what must not be posted to the factory, with TLS the inline
// config with its join token, to the factory's own arguments. A unified kernel image
// takes no more arguments: what it needs is fetched from /config.
func (a *assets) withSecrets(d boot.Decision) (boot.Decision, error) {
	if !a.cfg.TLSEnabled || a.cfg.SecureBootEnabled {
		return d, nil
	}

	inline, err := a.inlineArg()
	if err != nil {
		return boot.Decision{}, err
	}

	d.Args = append(slices.Clone(d.Args), inline)

	return d, nil
}

// inlineArg is the machine config as a kernel argument: zstd in base64.
func (a *assets) inlineArg() (string, error) {
	document, err := a.inline()
	if err != nil {
		return "", err
	}

	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		return "", err
	}
	defer encoder.Close() //nolint:errcheck // it writes nowhere

	packed := encoder.EncodeAll([]byte(document), nil)

	return constants.KernelParamConfigInline + "=" + base64.StdEncoding.EncodeToString(packed), nil
}

func (a *assets) local(arch string, args []string) (boot.Decision, error) {
	cmdline, err := os.ReadFile(filepath.Join(a.cfg.BootAssetsPath, "cmdline-metal-"+arch))
	if err != nil {
		return boot.Decision{}, fmt.Errorf("no local boot assets for %s: %w", arch, err)
	}

	base := "http://" + a.at().String() + "/assets/"
	d := boot.Decision{
		Kernel: base + "kernel-" + arch + askerQuery,
		Initrd: base + "initramfs-metal-" + arch + ".xz" + askerQuery,
		Args:   append(strings.Fields(string(cmdline)), args...),
	}

	if a.cfg.TLSEnabled {
		inline, err := a.inlineArg()
		if err != nil {
			return boot.Decision{}, err
		}

		d.Args = append(d.Args, inline)
	}

	return d, nil
}

// args are the kernel arguments of every Talos: where its config is, and its
// consoles. iPXE expands ${uuid}.
func (a *assets) args(arch string) []string {
	serial := "console=ttyS0"
	if arch == "arm64" {
		serial = "console=ttyAMA0"
	}

	args := []string{"console=tty0", serial}
	if a.cfg.TLSEnabled && !a.cfg.SecureBootEnabled {
		return args // the config travels inline
	}

	return append([]string{constants.KernelParamConfig + "=http://" + a.at().String() + "/config?u=${uuid}"}, args...)
}

// agentArgs aim the metal agent at us.
func (a *assets) agentArgs(arch string) []string {
	args := append(a.args(arch), agentconfig.MetalProviderAddressKernelArg+"="+a.agentAt())

	if a.cfg.TLSEnabled && a.cfg.TLSAgentSkipVerify {
		args = append(args, agentconfig.TLSSkipVerifyKernelArg+"=1")
	}

	if a.cfg.AgentTestMode {
		args = append(args, agentconfig.TestModeKernelArg+"=1")
	}

	return args
}

// advertised finds the address that machines are told: the given one, else the
// only routable one of this host.
func advertised(given string) (netip.Addr, error) {
	if given != "" {
		return netip.ParseAddr(given)
	}

	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list this host's addresses: %w", err)
	}

	var routable []netip.Addr

	for _, a := range all {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			routable = append(routable, prefix.Addr())
		}
	}

	if len(routable) != 1 {
		return netip.Addr{}, fmt.Errorf("this host has %s routable addresses: say with --api-advertise-address which one machines are told", strconv.Itoa(len(routable)))
	}

	return routable[0], nil
}
