// Package agentsim stands in for Talos on a machine that booted from the
// network: it reads its machine config where the kernel arguments say, joins
// Omni over SideroLink, and serves the metal agent's calls through a reverse
// tunnel that it dials to the provider.
//
// It keeps to what such a machine does on the wire (the kernel arguments of
// siderolabs/talos-metal-agent's package config, SideroLink's Provision RPC,
// grpctunnel), so that the provider cannot tell. What needs a real machine is
// behind Hardware. It is small enough for an initramfs: no Omni client.
package agentsim

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/jhump/grpctunnel"
	"github.com/jhump/grpctunnel/tunnelpb"
	agentpb "github.com/siderolabs/talos-metal-agent/api/agent"
	"github.com/siderolabs/talos-metal-agent/pkg/constants"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/metadata"
)

// DefaultTalosVersion is the version that a machine names when Agent has none.
const DefaultTalosVersion = "v1.13.7"

// Hardware is what the agent does to the machine that it runs on. The methods
// may be called at once; the agent makes no call twice at the same time with
// the same arguments. Their errors reach the provider as gRPC Internal.
type Hardware interface {
	// IPMIAddress returns the address and UDP port on which the BMC serves IPMI.
	IPMIAddress(ctx context.Context) (addr string, port int, err error)
	// UserExists tells whether the BMC has a user of that name.
	UserExists(ctx context.Context, name string) (bool, error)
	// SetUser makes name an enabled administrator of the BMC with that
	// password, in a free slot unless the user exists.
	SetUser(ctx context.Context, name, password string) error
	// Wipe makes the disks unbootable, or overwrites all of them with zeroes.
	Wipe(ctx context.Context, zeroes bool) error
	// Reboot power cycles the machine. It may never return.
	Reboot(ctx context.Context) error
}

// Agent is one boot of one machine. The fields are read only; make a new Agent
// for the next boot.
type Agent struct {
	// MachineID is the SMBIOS UUID. Required.
	MachineID string
	// Args are the kernel arguments that the machine booted with.
	Args Args
	// Hardware is required by Run; Join does without.
	Hardware Hardware
	// TalosVersion is told to Omni; empty means DefaultTalosVersion.
	TalosVersion string
	// UniqueToken is what Omni once left on the machine's disk; empty on a
	// machine that has none, as in its first life and after a wipe.
	UniqueToken string
	// RejoinEvery repeats the join: Talos asks again when its WireGuard peer,
	// which is not there in the stand-in, falls silent. 0 joins once.
	RejoinEvery time.Duration
	// LocalAddr, if valid, is the source address of everything it dials.
	LocalAddr netip.Addr
	// Log gets what happens; nil means nowhere.
	Log *slog.Logger

	key     string // the WireGuard public key of this boot
	keyOnce sync.Once
}

// Run reads the machine config, joins Omni and serves the agent's calls to the
// provider, each again and again with a back-off until ctx ends. It returns
// ctx's error then, and another one only when the Agent is filled in wrongly.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.check(); err != nil {
		return err
	}

	config, err := a.readConfig(ctx)
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	// The agent is a process beside Talos: it dials the provider whether or not
	// the machine could join.
	group.Go(func() error { return a.keepJoined(ctx, config) })
	group.Go(func() error { return a.keepServing(ctx, config) })

	return group.Wait()
}

// Join reads the machine config and joins Omni once, trying until that worked
// or ctx ended: what a Talos without the agent does, booted for a cluster over
// the network or from its disk.
func (a *Agent) Join(ctx context.Context) error {
	if a.MachineID == "" {
		return errors.New("join: no machine id")
	}

	config, err := a.readConfig(ctx)
	if err != nil {
		return err
	}

	return a.join(ctx, config)
}

func (a *Agent) check() error {
	switch {
	case a.MachineID == "":
		return errors.New("run agent: no machine id")
	case a.Hardware == nil:
		return fmt.Errorf("run agent of %s: no hardware", a.MachineID)
	case a.Args.ProviderAddress == "":
		return fmt.Errorf("run agent of %s: no provider address in the kernel arguments", a.MachineID)
	}

	return nil
}

func (a *Agent) keepJoined(ctx context.Context, config machineConfig) error {
	for {
		if err := a.join(ctx, config); err != nil {
			return err
		}

		if a.RejoinEvery == 0 {
			return nil
		}

		if err := sleep(ctx, a.RejoinEvery); err != nil {
			return err
		}
	}
}

// keepServing serves one tunnel after the other. It returns at the end of ctx.
func (a *Agent) keepServing(ctx context.Context, config machineConfig) error {
	delays := backoff{}

	for {
		started, err := a.serveTunnel(ctx, config)
		if started {
			delays = backoff{}
		}

		if ctx.Err() != nil {
			return ctx.Err()
		}

		a.log().Info("the tunnel to the provider is down", "provider", a.Args.ProviderAddress, "was_up", started, "error", err)

		if err := sleep(ctx, delays.next()); err != nil {
			return err
		}
	}
}

// serveTunnel dials the provider and serves calls until the tunnel ends. It
// tells whether there was a tunnel at all.
func (a *Agent) serveTunnel(ctx context.Context, config machineConfig) (bool, error) {
	address, secure := providerEndpoint(a.Args.ProviderAddress)

	conn, err := a.dialGRPC(address, secure, &tls.Config{RootCAs: config.roots, InsecureSkipVerify: a.Args.TLSSkipVerify}) //nolint:gosec // the operator's --tls-agent-skip-verify
	if err != nil {
		return false, fmt.Errorf("dial provider %s: %w", address, err)
	}
	defer conn.Close() //nolint:errcheck // nothing is left to lose

	tunnel := grpctunnel.NewReverseTunnelServer(tunnelpb.NewTunnelServiceClient(conn))
	agentpb.RegisterAgentServiceServer(tunnel, &service{agent: a})

	ctx = metadata.AppendToOutgoingContext(ctx, constants.MachineIDMetadataKey, a.MachineID)

	a.log().Info("dialling the provider", "provider", address)

	started, err := tunnel.Serve(ctx)
	if err != nil {
		return started, fmt.Errorf("serve over the tunnel to %s: %w", address, err)
	}

	return started, nil
}

// publicKey has the shape of a WireGuard key: 32 bytes in base64. One boot
// keeps one key.
func (a *Agent) publicKey() string {
	a.keyOnce.Do(func() {
		var key [32]byte

		rand.Read(key[:]) //nolint:errcheck // never fails, by crypto/rand's word

		a.key = base64.StdEncoding.EncodeToString(key[:])
	})

	return a.key
}

func (a *Agent) log() *slog.Logger {
	if a.Log == nil {
		return slog.New(slog.DiscardHandler)
	}

	return a.Log.With("machine_id", a.MachineID)
}
