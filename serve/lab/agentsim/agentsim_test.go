package agentsim_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jhump/grpctunnel"
	"github.com/jhump/grpctunnel/tunnelpb"
	"github.com/klauspost/compress/zstd"
	siderolink "github.com/siderolabs/siderolink/api/siderolink"
	agentpb "github.com/siderolabs/talos-metal-agent/api/agent"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/bmctl/bmctl/serve/lab/agentsim"
)

const (
	machineID = "7f000000-0000-4000-8000-000000000001"
	patience  = 10 * time.Second
)

// omni is a SideroLink that gives out links for one token.
type omni struct {
	siderolink.UnimplementedProvisionServiceServer

	address  string
	failures atomic.Int32 // how many joins to refuse first
	joins    chan *siderolink.ProvisionRequest
	peers    chan net.Addr
}

func (o *omni) Provision(ctx context.Context, request *siderolink.ProvisionRequest) (*siderolink.ProvisionResponse, error) {
	if o.failures.Add(-1) >= 0 {
		return nil, status.Error(codes.Unavailable, "not now")
	}

	if request.GetJoinToken() != "s3cret" {
		return nil, status.Error(codes.PermissionDenied, "unknown token")
	}

	from, _ := peer.FromContext(ctx)
	o.peers <- from.Addr
	o.joins <- request

	return &siderolink.ProvisionResponse{NodeAddressPrefix: "fdae::2/64"}, nil
}

// provider is the other end of the reverse tunnels, and of the config's URL.
type provider struct {
	address string
	server  *grpc.Server
	opened  chan grpctunnel.TunnelChannel
}

func serveGRPC(t *testing.T, address string, register func(*grpc.Server)) (string, *grpc.Server) {
	t.Helper()

	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}

	server := grpc.NewServer()
	register(server)

	go server.Serve(listener) //nolint:errcheck // ends with Stop

	t.Cleanup(server.Stop)

	return listener.Addr().String(), server
}

func startOmni(t *testing.T) *omni {
	t.Helper()

	o := &omni{joins: make(chan *siderolink.ProvisionRequest, 16), peers: make(chan net.Addr, 16)}
	o.address, _ = serveGRPC(t, "127.0.0.1:0", func(server *grpc.Server) {
		siderolink.RegisterProvisionServiceServer(server, o)
	})

	return o
}

func startProvider(t *testing.T, address string) *provider {
	t.Helper()

	p := &provider{opened: make(chan grpctunnel.TunnelChannel, 16)}
	handler := grpctunnel.NewTunnelServiceHandler(grpctunnel.TunnelServiceHandlerOptions{
		OnReverseTunnelOpen: func(channel grpctunnel.TunnelChannel) { p.opened <- channel },
	})
	p.address, p.server = serveGRPC(t, address, func(server *grpc.Server) {
		tunnelpb.RegisterTunnelServiceServer(server, handler.Service())
	})

	return p
}

// configServer serves text at any path and remembers the queries.
func configServer(t *testing.T, text string) (string, <-chan string) {
	t.Helper()

	queries := make(chan string, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		queries <- r.URL.RawQuery
		fmt.Fprint(w, text)
	}))
	t.Cleanup(server.Close)

	return server.URL, queries
}

func joinConfig(address string) string {
	return `apiVersion: v1alpha1
kind: EventSinkConfig
endpoint: '[fdae:41e4:649b:9303::1]:8090'
---
apiVersion: v1alpha1
kind: SideroLinkConfig
apiUrl: grpc://` + address + `?jointoken=s3cret&grpc_tunnel=true
`
}

// hardware remembers what was done to it.
type hardware struct {
	mu       sync.Mutex
	users    map[string]string
	wipes    []bool
	reboots  int
	release  chan struct{} // if set, Wipe waits for it
	wiping   chan struct{} // if set, gets a word when Wipe begins
	failWith error
}

func (h *hardware) IPMIAddress(context.Context) (string, int, error) {
	return "127.77.0.1", 623, h.failWith
}

func (h *hardware) UserExists(_ context.Context, name string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()

	_, found := h.users[name]

	return found, nil
}

func (h *hardware) SetUser(_ context.Context, name, password string) error {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.users[name] = password

	return h.failWith
}

func (h *hardware) Wipe(ctx context.Context, zeroes bool) error {
	h.mu.Lock()
	h.wipes = append(h.wipes, zeroes)
	h.mu.Unlock()

	if h.release != nil {
		h.wiping <- struct{}{}

		select {
		case <-h.release:
		case <-ctx.Done():
			return ctx.Err()
		}
	}

	return h.failWith
}

func (h *hardware) Reboot(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.reboots++

	return h.failWith
}

// run starts agent and ends it with the test.
func run(t *testing.T, agent *agentsim.Agent) (context.CancelFunc, <-chan error) {
	t.Helper()

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)

	var group sync.WaitGroup

	group.Go(func() { ended <- agent.Run(ctx) })
	t.Cleanup(func() { cancel(); group.Wait() })

	return cancel, ended
}

func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()

	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatalf("no %s within %s", what, patience)

		panic("unreachable")
	}
}

func TestRunJoinsAndServesTheAgent(t *testing.T) {
	o := startOmni(t)
	p := startProvider(t, "127.0.0.1:0")
	url, queries := configServer(t, joinConfig(o.address))
	h := &hardware{users: map[string]string{"root": "x"}}
	o.failures.Store(1)

	cancel, ended := run(t, &agentsim.Agent{
		MachineID: machineID,
		Args: agentsim.ParseArgs("console=ttyS0 talos.platform=metal talos.config=" + url + "/config?u=${uuid}" +
			" metal.provider.address=" + p.address),
		Hardware:  h,
		LocalAddr: netip.MustParseAddr("127.77.0.9"),
	})

	if query := receive(t, "config request", queries); query != "u="+machineID {
		t.Errorf("the config was asked for with query %q", query)
	}

	request := receive(t, "join", o.joins)
	if key, err := base64.StdEncoding.DecodeString(request.GetNodePublicKey()); err != nil || len(key) != 32 {
		t.Errorf("public key %q is not 32 bytes in base64 (%v)", request.GetNodePublicKey(), err)
	}

	if request.GetNodeUuid() != machineID || request.GetTalosVersion() != agentsim.DefaultTalosVersion ||
		!request.GetWireguardOverGrpc() || request.NodeUniqueToken != nil {
		t.Errorf("joined with %v", request)
	}

	if from := receive(t, "peer", o.peers).(*net.TCPAddr); from.IP.String() != "127.77.0.9" {
		t.Errorf("joined from %s", from)
	}

	tunnel := receive(t, "tunnel", p.opened)
	if md, _ := metadata.FromIncomingContext(tunnel.Context()); len(md.Get("machine-id")) != 1 || md.Get("machine-id")[0] != machineID {
		t.Errorf("the tunnel says machine-id %v", md.Get("machine-id"))
	}

	if from, _ := peer.FromContext(tunnel.Context()); !strings.HasPrefix(from.Addr.String(), "127.77.0.9:") {
		t.Errorf("the tunnel comes from %s", from.Addr)
	}

	callAll(t, agentpb.NewAgentServiceClient(tunnel), h)
	cancel()

	if err := receive(t, "end", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Run ended with %v", err)
	}
}

func callAll(t *testing.T, client agentpb.AgentServiceClient, h *hardware) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	must := func(err error) {
		t.Helper()

		if err != nil {
			t.Error(err)
		}
	}
	exists := func() bool {
		got, err := client.GetPowerManagement(ctx, &agentpb.GetPowerManagementRequest{
			Ipmi: &agentpb.GetPowerManagementRequest_IPMI{CheckUsername: "talos-agent"},
		})
		must(err)

		if got.GetIpmi().GetAddress() != "127.77.0.1" || got.GetIpmi().GetPort() != 623 || got.GetApi() != nil {
			t.Errorf("power management is %v", got)
		}

		return got.GetIpmi().GetUserExists()
	}

	_, err := client.Hello(ctx, &agentpb.HelloRequest{})
	must(err)

	if exists() {
		t.Error("the user exists before it was made")
	}

	_, err = client.SetPowerManagement(ctx, &agentpb.SetPowerManagementRequest{
		Ipmi: &agentpb.SetPowerManagementRequest_IPMI{Username: "talos-agent", Password: "pw"},
	})
	must(err)

	if !exists() {
		t.Error("the user does not exist after it was made")
	}

	_, err = client.WipeDisks(ctx, &agentpb.WipeDisksRequest{Zeroes: true})
	must(err)
	_, err = client.Reboot(ctx, &agentpb.RebootRequest{})
	must(err)

	if h.users["talos-agent"] != "pw" || len(h.wipes) != 1 || !h.wipes[0] || h.reboots != 1 {
		t.Errorf("the hardware saw %+v", h)
	}
}

func TestEqualWipesShareOneRunAndErrorsReachTheProvider(t *testing.T) {
	o := startOmni(t)
	p := startProvider(t, "127.0.0.1:0")
	h := &hardware{users: map[string]string{}, failWith: errors.New("no disk"), release: make(chan struct{}), wiping: make(chan struct{}, 2)}

	run(t, &agentsim.Agent{MachineID: machineID, Hardware: h, Args: agentsim.Args{
		SideroLinkAPI: "grpc://" + o.address + "?jointoken=s3cret", ProviderAddress: p.address,
	}})

	client := agentpb.NewAgentServiceClient(receive(t, "tunnel", p.opened))
	failures := make(chan error, 2)
	wipe := func() {
		_, err := client.WipeDisks(t.Context(), &agentpb.WipeDisksRequest{})
		failures <- err
	}

	go wipe()

	receive(t, "wipe", h.wiping)

	go wipe()

	select {
	case <-h.wiping:
		t.Error("two equal wipes ran at once")
	case <-time.After(100 * time.Millisecond):
	}

	close(h.release)

	for range 2 {
		if err := receive(t, "answer", failures); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "no disk") {
			t.Errorf("a failed wipe is answered with %v", err)
		}
	}
}

func TestTheTunnelComesBack(t *testing.T) {
	o := startOmni(t)
	first := startProvider(t, "127.0.0.1:0")

	run(t, &agentsim.Agent{MachineID: machineID, Hardware: &hardware{}, RejoinEvery: 50 * time.Millisecond, Args: agentsim.Args{
		SideroLinkAPI: "grpc://" + o.address + "?jointoken=s3cret", ProviderAddress: "http://" + first.address,
	}})

	receive(t, "tunnel", first.opened)
	first.server.Stop()

	second := startProvider(t, first.address)

	tunnel := receive(t, "second tunnel", second.opened)
	if _, err := agentpb.NewAgentServiceClient(tunnel).Hello(t.Context(), &agentpb.HelloRequest{}); err != nil {
		t.Error(err)
	}

	key := receive(t, "join", o.joins).GetNodePublicKey()
	if again := receive(t, "second join", o.joins).GetNodePublicKey(); again != key {
		t.Error("one boot joined with two keys")
	}
}

func TestTestModeAsksNothingOfTheHardware(t *testing.T) {
	o := startOmni(t)
	p := startProvider(t, "127.0.0.1:0")

	run(t, &agentsim.Agent{MachineID: machineID, Hardware: &hardware{failWith: errors.New("asked")}, Args: agentsim.Args{
		SideroLinkAPI: "grpc://" + o.address + "?jointoken=s3cret", ProviderAddress: p.address, TestMode: true,
	}})

	client := agentpb.NewAgentServiceClient(receive(t, "tunnel", p.opened))

	got, err := client.GetPowerManagement(t.Context(), &agentpb.GetPowerManagementRequest{})
	if err != nil || got.GetApi() == nil || got.GetIpmi() != nil {
		t.Errorf("power management in test mode is %v, %v", got, err)
	}

	if _, err := client.SetPowerManagement(t.Context(), &agentpb.SetPowerManagementRequest{}); err != nil {
		t.Error(err)
	}
}

func TestTheProviderIsVerifiedOverTLS(t *testing.T) {
	o := startOmni(t)

	issuer := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer issuer.Close()

	p := &provider{opened: make(chan grpctunnel.TunnelChannel, 16)}
	handler := grpctunnel.NewTunnelServiceHandler(grpctunnel.TunnelServiceHandlerOptions{
		OnReverseTunnelOpen: func(channel grpctunnel.TunnelChannel) { p.opened <- channel },
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	p.server = grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&issuer.TLS.Certificates[0])))
	tunnelpb.RegisterTunnelServiceServer(p.server, handler.Service())

	go p.server.Serve(listener) //nolint:errcheck // ends with Stop

	t.Cleanup(p.server.Stop)

	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw})
	trusting := joinConfig(o.address) + "---\nkind: TrustedRootsConfig\nname: infra-provider-ca\ncertificates: |\n  " +
		strings.ReplaceAll(strings.TrimSpace(string(root)), "\n", "\n  ") + "\n"

	for _, test := range []struct {
		name, config string
		skip, opens  bool
	}{
		{"with its root", trusting, false, true},
		{"verification skipped", joinConfig(o.address), true, true},
		{"unknown root", joinConfig(o.address), false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			url, _ := configServer(t, test.config)
			lines := make(chan string, 64)

			run(t, &agentsim.Agent{
				MachineID: machineID, Hardware: &hardware{}, Log: slog.New(slog.NewTextHandler(lineWriter(lines), nil)),
				Args: agentsim.Args{ConfigURL: url, ProviderAddress: "https://" + listener.Addr().String(), TLSSkipVerify: test.skip},
			})

			if test.opens {
				receive(t, "tunnel", p.opened)

				return
			}

			for !strings.Contains(receive(t, "log line", lines), "certificate signed by unknown authority") {
				// other lines come first
			}
		})
	}
}

func TestJoinAlone(t *testing.T) {
	o := startOmni(t)

	packed := new(bytes.Buffer)
	writer, err := zstd.NewWriter(packed)
	if err != nil {
		t.Fatal(err)
	}

	fmt.Fprint(writer, joinConfig(o.address))

	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}

	agent := &agentsim.Agent{
		MachineID: machineID, TalosVersion: "v1.12.0", UniqueToken: `{"Fingerprint":"f","Token":"t"}`,
		Args: agentsim.ParseArgs("talos.config.inline=" + base64.StdEncoding.EncodeToString(packed.Bytes())),
	}

	if err := agent.Join(t.Context()); err != nil {
		t.Fatal(err)
	}

	request := receive(t, "join", o.joins)
	if request.GetTalosVersion() != "v1.12.0" || request.GetNodeUniqueToken() != agent.UniqueToken {
		t.Errorf("joined with %v", request)
	}
}

func TestBadConfigsAreRetriedAndNeverLogTheToken(t *testing.T) {
	for name, text := range map[string]string{
		"no SideroLinkConfig": "kind: EventSinkConfig\n",
		"not YAML":            "kind: [jointoken=s3cret\n",
		"bad URL":             "kind: SideroLinkConfig\napiUrl: 'grpc://omni:port?jointoken=s3cret'\n",
		"join: other scheme":  "kind: SideroLinkConfig\napiUrl: 'ftp://omni?jointoken=s3cret'\n",
		"bad roots":           joinConfig("127.0.0.1:1") + "---\nkind: TrustedRootsConfig\ncertificates: none\n",
		"join: refused":       joinConfig("127.0.0.1:1"),
	} {
		t.Run(name, func(t *testing.T) {
			url, queries := configServer(t, text)
			ctx, cancel := context.WithCancel(t.Context())
			lines := make(chan string, 64)
			ended := make(chan error, 1)

			go func() {
				agent := &agentsim.Agent{MachineID: machineID, Args: agentsim.Args{ConfigURL: url}, Log: slog.New(slog.NewTextHandler(lineWriter(lines), nil))}
				ended <- agent.Join(ctx)
			}()

			for range 2 { // it tries again
				receive(t, "config request", queries)

				if line := receive(t, "log line", lines); !strings.Contains(line, "level=WARN") || strings.Contains(line, "s3cret") {
					t.Errorf("the log says %q", line)
				}

				if strings.HasPrefix(name, "join: ") {
					break // with the config that it has
				}
			}

			cancel()

			if err := receive(t, "end", ended); !errors.Is(err, context.Canceled) {
				t.Errorf("Join ended with %v", err)
			}
		})
	}
}

// lineWriter passes each write on as one string.
type lineWriter chan<- string

func (w lineWriter) Write(line []byte) (int, error) {
	w <- string(line)

	return len(line), nil
}

func TestRunRefusesAnIncompleteAgent(t *testing.T) {
	for want, agent := range map[string]*agentsim.Agent{
		"no machine id":       {},
		"no hardware":         {MachineID: machineID},
		"no provider address": {MachineID: machineID, Hardware: &hardware{}},
	} {
		if err := agent.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run says %v, not %q", err, want)
		}
	}
}

func TestParseArgs(t *testing.T) {
	got := agentsim.ParseArgs(" quiet talos.config=http://a/config?u=${uuid}  talos.config=http://b\ttalos.config.inline=ab= " +
		"talos.config.inline=cd siderolink.api=grpc://o?jointoken=x metal.provider.address=https://p:50043 " +
		"metal.provider.tls.skip.verify=1 metal.provider.test.mode=0\n")
	want := agentsim.Args{
		ConfigURL: "http://a/config?u=${uuid}", ConfigInline: "ab=cd", SideroLinkAPI: "grpc://o?jointoken=x",
		ProviderAddress: "https://p:50043", TLSSkipVerify: true,
	}

	if got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
