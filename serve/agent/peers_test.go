package agent_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jhump/grpctunnel"
	"github.com/jhump/grpctunnel/tunnelpb"
	agentpb "github.com/siderolabs/talos-metal-agent/api/agent"
	"github.com/siderolabs/talos-metal-agent/pkg/constants"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/bmctl/bmctl/serve/agent"
)

const (
	machine = "7d1fe9c2-08d1-4b4e-9d0f-0c55e5a3a6d1"
	// patience is how long a test waits for what must happen; it is reached
	// only when the test fails.
	patience = 20 * time.Second
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a hub behind a real HTTP/2 port, served as serve does it: gRPC by
// ServeHTTP of a plain http.Server.
type site struct {
	*agent.Hub
	addr    string
	changes chan string
	refused chan string
}

func newSite(t *testing.T, cfg agent.Config) *site {
	t.Helper()

	s := &site{changes: make(chan string, 1000), refused: make(chan string, 10)}
	cfg.OnChange = func(id string) { s.changes <- id }
	cfg.OnRefused = func(id string, addr netip.Addr, reason string) { s.refused <- id + " " + addr.String() + ": " + reason }
	s.Hub = agent.New(cfg)

	grpcServer := grpc.NewServer()
	s.Register(grpcServer)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	s.addr = listener.Addr().String()
	server := &http.Server{Handler: grpcServer, Protocols: new(http.Protocols), ReadHeaderTimeout: patience}
	server.Protocols.SetUnencryptedHTTP2(true)

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	t.Cleanup(func() {
		s.Close()

		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})

	return s
}

// await blocks until the condition holds, looking again after each change that
// the hub announces.
func (s *site) await(t *testing.T, what string, condition func() bool) {
	t.Helper()

	timeout := time.After(patience)

	for !condition() {
		select {
		case <-s.changes:
		case <-timeout:
			t.Fatalf("never happened: %s; tunnels: %+v", what, s.Tunnels(machine))
		}
	}
}

// fakeAgent answers as the metal agent does, over the real tunnel. What it does
// on each call can be replaced.
type fakeAgent struct {
	agentpb.UnimplementedAgentServiceServer

	hellos, wipes atomic.Int64
	silent        atomic.Bool // leaves Hellos unanswered
	wipe          func(context.Context, *agentpb.WipeDisksRequest) error
	power         func(*agentpb.GetPowerManagementRequest) (*agentpb.GetPowerManagementResponse, error)
	setPower      func(*agentpb.SetPowerManagementRequest) error
	reboot        func(context.Context) error
}

func (f *fakeAgent) Hello(ctx context.Context, _ *agentpb.HelloRequest) (*agentpb.HelloResponse, error) {
	f.hellos.Add(1)

	if f.silent.Load() {
		<-ctx.Done()

		return nil, ctx.Err()
	}

	return &agentpb.HelloResponse{}, nil
}

func (f *fakeAgent) WipeDisks(ctx context.Context, request *agentpb.WipeDisksRequest) (*agentpb.WipeDisksResponse, error) {
	f.wipes.Add(1)

	if f.wipe != nil {
		if err := f.wipe(ctx, request); err != nil {
			return nil, err
		}
	}

	return &agentpb.WipeDisksResponse{}, nil
}

func (f *fakeAgent) GetPowerManagement(_ context.Context, request *agentpb.GetPowerManagementRequest) (*agentpb.GetPowerManagementResponse, error) {
	return f.power(request)
}

func (f *fakeAgent) SetPowerManagement(_ context.Context, request *agentpb.SetPowerManagementRequest) (*agentpb.SetPowerManagementResponse, error) {
	if err := f.setPower(request); err != nil {
		return nil, err
	}

	return &agentpb.SetPowerManagementResponse{}, nil
}

func (f *fakeAgent) Reboot(ctx context.Context, _ *agentpb.RebootRequest) (*agentpb.RebootResponse, error) {
	if f.reboot != nil {
		if err := f.reboot(ctx); err != nil {
			return nil, err
		}
	}

	return &agentpb.RebootResponse{}, nil
}

// host is where an agent dials from.
type host struct {
	stop  func()       // ends the tunnel and waits for that
	ended <-chan error // what ended it
}

// dial opens a tunnel for the agent from the local address, with the given
// metadata values as machine id.
func (s *site) dial(t *testing.T, from string, f *fakeAgent, ids ...string) host {
	t.Helper()

	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}

	conn, err := grpc.NewClient("passthrough:///"+s.addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(t.Context(),
		metadata.MD{constants.MachineIDMetadataKey: ids}))

	server := grpctunnel.NewReverseTunnelServer(tunnelpb.NewTunnelServiceClient(conn))
	agentpb.RegisterAgentServiceServer(server, f)

	ended, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)

		_, err := server.Serve(ctx)
		ended <- err
	}()

	h := host{ended: ended, stop: func() {
		cancel()
		<-done
		conn.Close()
	}}
	t.Cleanup(h.stop)

	return h
}

// connect dials and waits until the agent has answered on its new tunnel.
func (s *site) connect(t *testing.T, from string, f *fakeAgent) host {
	t.Helper()

	seen := map[netip.AddrPort]bool{}
	for _, tunnel := range s.Tunnels(machine) {
		seen[tunnel.Addr] = true
	}

	h := s.dial(t, from, f, machine)
	s.await(t, "agent from "+from+" answers", func() bool {
		for _, tunnel := range s.Tunnels(machine) {
			if tunnel.Answers && !seen[tunnel.Addr] {
				return true
			}
		}

		return false
	})

	return h
}
