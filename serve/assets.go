package serve

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	agentconfig "github.com/siderolabs/talos-metal-agent/pkg/config"
	"github.com/siderolabs/talos/pkg/machinery/constants"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/factory"
)

// assets says from where a machine loads Talos, and with which kernel arguments.
// It implements controllers.Assets.
type assets struct {
	cfg     Config
	factory *factory.Client
	// at is the address and port that machines are told, for HTTP and gRPC.
	at func() netip.AddrPort
}

// Agent is Talos in agent mode, from local files or from the Image Factory.
func (a *assets) Agent(ctx context.Context, arch string, args []string) (boot.Decision, error) {
	args = append(a.agentArgs(arch), args...)

	if a.cfg.UseLocalBootAssets {
		return a.local(arch, args)
	}

	return a.fromFactory(ctx, arch, a.cfg.AgentModeTalosVersion, factory.AgentExtensions(), args)
}

// Talos is the version that a cluster wants; it always comes from the factory.
func (a *assets) Talos(ctx context.Context, arch, version string, extensions, args []string) (boot.Decision, error) {
	return a.fromFactory(ctx, arch, version, extensions, append(a.args(arch), args...))
}

func (a *assets) fromFactory(ctx context.Context, arch, version string, extensions, args []string) (boot.Decision, error) {
	id, err := a.factory.EnsureSchematic(ctx, factory.NewSchematic(extensions, args))
	if err != nil {
		return boot.Decision{}, err
	}

	return boot.Decision{Chain: a.factory.PXEScriptURL(id, version, arch, a.cfg.SecureBootEnabled)}, nil
}

func (a *assets) local(arch string, args []string) (boot.Decision, error) {
	cmdline, err := os.ReadFile(filepath.Join(a.cfg.BootAssetsPath, "cmdline-metal-"+arch))
	if err != nil {
		return boot.Decision{}, fmt.Errorf("no local boot assets for %s: %w", arch, err)
	}

	base := "http://" + a.at().String() + "/assets/"

	return boot.Decision{
		Kernel: base + "kernel-" + arch,
		Initrd: base + "initramfs-metal-" + arch + ".xz",
		Args:   append(strings.Fields(string(cmdline)), args...),
	}, nil
}

// args are the kernel arguments of every Talos: where its config is, and its
// consoles. iPXE expands ${uuid}.
func (a *assets) args(arch string) []string {
	serial := "console=ttyS0"
	if arch == "arm64" {
		serial = "console=ttyAMA0"
	}

	return []string{
		constants.KernelParamConfig + "=http://" + a.at().String() + "/config?u=${uuid}",
		"console=tty0", serial,
	}
}

// agentArgs aim the metal agent at us.
func (a *assets) agentArgs(arch string) []string {
	args := append(a.args(arch), agentconfig.MetalProviderAddressKernelArg+"="+a.at().String())

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
