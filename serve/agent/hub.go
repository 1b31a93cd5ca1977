// Package agent is serve's end of the reverse gRPC tunnels that Talos machines
// in agent mode open to it.
//
// An agent authenticates itself in no way: it names its machine, and any host
// that reaches the API port may name any machine. A tunnel is therefore
// believed only as far as it can be checked. Before every call the hub says
// Hello on all tunnels of the machine, and it refuses the call when hosts at
// two addresses answer for one machine, because a wipe could reach the wrong
// one.
package agent

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jhump/grpctunnel"
	"github.com/jhump/grpctunnel/tunnelpb"
	agentpb "github.com/siderolabs/talos-metal-agent/api/agent"
	"github.com/siderolabs/talos-metal-agent/pkg/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// The limits that a Hub keeps whatever its configuration says.
const (
	// maxMisses is how many Hellos in a row an agent may leave unanswered
	// before its tunnel is closed: one lost answer under disk load is not news.
	maxMisses = 3
	// maxTunnels bounds what a host that redials in a loop can pile up for one
	// machine.
	maxTunnels = 8
)

// Config is what a Hub needs. Zero durations mean the defaults named here.
type Config struct {
	// Log receives connects, disconnects and refused tunnels; nil discards.
	Log *slog.Logger
	// CallTimeout bounds every call but Wipe: 30 s.
	CallTimeout time.Duration
	// FastWipeTimeout bounds a wipe of the disks' beginnings and ends: 5 min.
	FastWipeTimeout time.Duration
	// ZeroesWipeTimeout bounds a wipe of whole disks: 24 h.
	ZeroesWipeTimeout time.Duration
	// HelloInterval is the time between two Hellos on an idle tunnel: 10 s. An
	// agent that vanished silently is forgotten after three of them.
	HelloInterval time.Duration
	// HelloTimeout is how long an agent may take to answer a Hello: 5 s.
	HelloTimeout time.Duration
	// TestMode asks agents for power management over the HTTP API of
	// `talosctl cluster create` instead of IPMI.
	TestMode bool
	// OnChange, if set, is called when what Connected, Tunnels or Conflict say
	// of a machine changed. It is called from several goroutines and must
	// return at once.
	OnChange func(id string)
	// OnRefused, if set, is called for each tunnel that was refused, with the
	// id as the agent sent it. The same rules as for OnChange hold.
	OnRefused func(id string, addr netip.Addr, reason string)
	// Admit, if set, decides whether a tunnel from addr is believed to be
	// machine id; its error is the reason that the agent and the log get.
	Admit func(id string, addr netip.Addr) error
}

func (c Config) withDefaults() Config {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.CallTimeout = cmp.Or(c.CallTimeout, 30*time.Second)
	c.FastWipeTimeout = cmp.Or(c.FastWipeTimeout, 5*time.Minute)
	c.ZeroesWipeTimeout = cmp.Or(c.ZeroesWipeTimeout, 24*time.Hour)
	c.HelloInterval = cmp.Or(c.HelloInterval, 10*time.Second)
	c.HelloTimeout = cmp.Or(c.HelloTimeout, 5*time.Second)

	return c
}

// Hub keeps the open tunnels of all machines. Machine ids are SMBIOS UUIDs, in
// any case on the way in and in lower case on the way out. All methods are safe
// for concurrent use.
type Hub struct {
	cfg     Config
	handler *grpctunnel.TunnelServiceHandler

	mu      sync.Mutex
	opened  uint64               // tunnels opened so far: the hub's clock
	tunnels map[string][]*tunnel // by machine id, oldest first
	wiping  map[string]bool      // machines with a wipe on its way
	closed  bool
}

// New returns a hub without tunnels. Register it on a gRPC server to fill it.
func New(cfg Config) *Hub {
	hub := &Hub{
		cfg:     cfg.withDefaults(),
		tunnels: map[string][]*tunnel{},
		wiping:  map[string]bool{},
	}
	// No affinity key: its channels spread calls over all tunnels of a key, and
	// the handler would remember every key for ever.
	hub.handler = grpctunnel.NewTunnelServiceHandler(grpctunnel.TunnelServiceHandlerOptions{
		OnReverseTunnelOpen:  hub.open,
		OnReverseTunnelClose: hub.forget,
	})

	return hub
}

// Register offers the tunnel service on a gRPC server.
func (h *Hub) Register(server grpc.ServiceRegistrar) {
	tunnelpb.RegisterTunnelServiceServer(server, gate{TunnelServiceServer: h.handler.Service(), hub: h})
}

// Close ends every tunnel, fails the calls that run on them with
// ErrNotConnected, and refuses new tunnels. A second Close is harmless.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true

	var open []*tunnel
	for _, tunnels := range h.tunnels {
		open = append(open, tunnels...)
	}
	h.mu.Unlock()

	for _, t := range open {
		t.channel.Close()
	}
}

// Drop closes the machine's tunnels that were opened before a time at which its
// power was cut: nobody is at their other end, which would otherwise be found out
// only by unanswered Hellos. Calls that run on them fail with ErrNotConnected.
func (h *Hub) Drop(id string, before time.Time) {
	h.mu.Lock()
	open := slices.Clone(h.tunnels[strings.ToLower(id)])
	h.mu.Unlock()

	for _, t := range open {
		if t.since.Before(before) {
			t.channel.Close()
		}
	}
}

// Tunnel is one open tunnel as people are shown it.
type Tunnel struct {
	// Addr is the address and port that opened it.
	Addr netip.AddrPort
	// Since is when it was opened.
	Since time.Time
	// Answers tells whether the latest Hello on it was answered.
	Answers bool
}

// Connected tells whether an agent of the machine answered a Hello on a tunnel
// that is still believed to be alive.
func (h *Hub) Connected(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()

	return slices.ContainsFunc(h.tunnels[strings.ToLower(id)], (*tunnel).alive)
}

// Tunnels returns the machine's open tunnels, oldest first.
func (h *Hub) Tunnels(id string) []Tunnel {
	h.mu.Lock()
	defer h.mu.Unlock()

	var result []Tunnel
	for _, t := range h.tunnels[strings.ToLower(id)] {
		result = append(result, Tunnel{Addr: t.addr, Since: t.since, Answers: t.answers()})
	}

	return result
}

// Conflict tells whether hosts at two addresses answer for the machine, and
// which: older is the one whose tunnel is older. A tunnel left over from the
// machine's last boot is none, because nobody answers on it.
func (h *Hub) Conflict(id string) (older, newer netip.Addr, found bool) {
	h.mu.Lock()
	defer h.mu.Unlock()

	return conflict(h.tunnels[strings.ToLower(id)])
}

// identity reads who opened the stream: the machine id in lower case and the
// address. Its errors are gRPC statuses.
func identity(ctx context.Context) (id string, addr netip.AddrPort, err error) {
	remote, ok := peer.FromContext(ctx)
	if !ok {
		return "", addr, status.Error(codes.Internal, "the connection has no peer address")
	}

	addr, err = netip.ParseAddrPort(remote.Addr.String())
	if err != nil {
		return "", addr, status.Errorf(codes.FailedPrecondition, "peer address %q is not an IP address and port", remote.Addr)
	}

	addr = netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port())
	values := metadata.ValueFromIncomingContext(ctx, constants.MachineIDMetadataKey)

	if len(values) != 1 {
		return strings.Join(values, ","), addr, status.Errorf(codes.InvalidArgument,
			"metadata holds %d values of %q, want exactly one", len(values), constants.MachineIDMetadataKey)
	}

	parsed, err := uuid.Parse(values[0])
	if err != nil || len(values[0]) != len(parsed.String()) {
		return values[0], addr, status.Errorf(codes.InvalidArgument,
			"metadata %q is %q, want a UUID such as 7d1fe9c2-08d1-4b4e-9d0f-0c55e5a3a6d1", constants.MachineIDMetadataKey, values[0])
	}

	return parsed.String(), addr, nil
}

// gate stands before the tunnel service and turns away who may not pass.
type gate struct {
	tunnelpb.TunnelServiceServer
	hub *Hub
}

// OpenReverseTunnel holds the stream until the tunnel ends.
func (g gate) OpenReverseTunnel(stream tunnelpb.TunnelService_OpenReverseTunnelServer) error {
	id, addr, err := identity(stream.Context())
	if err == nil {
		err = g.hub.admit(id, addr.Addr())
	}

	if err != nil {
		g.hub.refuse(id, addr.Addr(), status.Convert(err).Message())

		return err
	}

	return g.TunnelServiceServer.OpenReverseTunnel(stream)
}

// admit returns a gRPC status that says why a tunnel may not be opened.
func (h *Hub) admit(id string, addr netip.Addr) error {
	h.mu.Lock()
	closed, count := h.closed, len(h.tunnels[id])
	h.mu.Unlock()

	if closed {
		return status.Error(codes.Unavailable, "the provider is shutting down")
	}

	if count >= maxTunnels {
		return status.Errorf(codes.ResourceExhausted, "machine %s has %d tunnels open already", id, count)
	}

	if h.cfg.Admit == nil {
		return nil
	}

	if err := h.cfg.Admit(id, addr); err != nil {
		return status.Error(codes.PermissionDenied, err.Error())
	}

	return nil
}

func (h *Hub) refuse(id string, addr netip.Addr, reason string) {
	h.cfg.Log.Warn("agent tunnel refused", "machine_id", id, "source", addr.String(), "reason", reason)

	if h.cfg.OnRefused != nil {
		h.cfg.OnRefused(id, addr, reason)
	}
}

// open takes a new tunnel in. The tunnel handler waits for it to return.
func (h *Hub) open(channel grpctunnel.TunnelChannel) {
	id, addr, err := identity(channel.Context())
	if err != nil { // the gate let nobody through without one
		channel.Close()

		return
	}

	h.mu.Lock()
	h.opened++
	t := &tunnel{
		id: id, addr: addr, since: time.Now(), opened: h.opened,
		channel: channel, agent: agentpb.NewAgentServiceClient(channel),
	}
	h.tunnels[id] = append(h.tunnels[id], t)
	closed := h.closed
	h.mu.Unlock()

	if closed { // Close ran between the gate and here and has not seen it
		channel.Close()
	}

	h.cfg.Log.Info("agent tunnel opened", "machine_id", id, "source", addr.String())
	h.changed(id)

	go h.watch(t)
}

// forget drops a tunnel that ended.
func (h *Hub) forget(channel grpctunnel.TunnelChannel) {
	id, addr, err := identity(channel.Context())
	if err != nil {
		return // never taken in
	}

	h.mu.Lock()
	h.tunnels[id] = slices.DeleteFunc(h.tunnels[id], func(t *tunnel) bool { return t.channel == channel })

	if len(h.tunnels[id]) == 0 {
		delete(h.tunnels, id)
	}
	h.mu.Unlock()

	h.cfg.Log.Info("agent tunnel closed", "machine_id", id, "source", addr.String())
	h.changed(id)
}

func (h *Hub) changed(id string) {
	if h.cfg.OnChange != nil {
		h.cfg.OnChange(id)
	}
}
