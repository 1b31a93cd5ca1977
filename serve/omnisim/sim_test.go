package omnisim_test

import (
	"context"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/client"
	omniclient "github.com/siderolabs/omni/client/pkg/client/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	pb "github.com/siderolabs/siderolink/api/siderolink"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/bmctl/bmctl/serve/omnisim"
)

const (
	provider  = "bare-metal"
	machineA  = "4c4c4544-0046-3310-8051-b4c04f4d3632"
	machineB  = "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1"
	testLimit = 20 * time.Second
)

// testWriter passes the server's log to the test's.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(b))

	return len(b), nil
}

func start(t *testing.T, cfg omnisim.Config) *omnisim.Server {
	t.Helper()

	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}

	sim, err := omnisim.Start(cfg)
	if err != nil {
		t.Fatalf("start: %v", err)
	}

	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})

	return sim
}

func limited(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	t.Cleanup(cancel)

	return ctx
}

// dial connects the real client of Omni with the key.
func dial(t *testing.T, sim *omnisim.Server, key string, opts ...client.Option) *client.Client {
	t.Helper()

	c, err := client.New(sim.Endpoint(), append(opts, client.WithServiceAccount(key))...)
	if err != nil {
		t.Fatalf("client: %v", err)
	}

	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close the client: %v", err)
		}
	})

	return c
}

func asProvider(t *testing.T, sim *omnisim.Server) state.State {
	t.Helper()

	return dial(t, sim, sim.ProviderKey(), client.WithOmniClientOptions(omniclient.WithProviderID(provider))).Omni().State()
}

func asOperator(t *testing.T, sim *omnisim.Server) state.State {
	t.Helper()

	return dial(t, sim, sim.OperatorKey()).Omni().State()
}

// publishStatus does what a static provider does first of all.
func publishStatus(t *testing.T, st state.State) {
	t.Helper()

	res := infra.NewProviderStatus(provider)
	res.Metadata().Labels().Set(omni.LabelIsStaticInfraProvider, "")
	res.TypedSpec().Value.Name = "Bare Metal"

	if err := st.Create(limited(t), res); err != nil {
		t.Fatalf("publish ProviderStatus: %v", err)
	}
}

// joinConfig reads what the provider would serve at /config.
func joinConfig(t *testing.T, st state.State) *siderolink.ProviderJoinConfig {
	t.Helper()

	config, err := safe.StateGetByID[*siderolink.ProviderJoinConfig](limited(t), st, provider)
	if err != nil {
		t.Fatalf("ProviderJoinConfig: %v", err)
	}

	return config
}

// apiURL is where the machine configuration says to join.
func apiURL(t *testing.T, config *siderolink.ProviderJoinConfig) *url.URL {
	t.Helper()

	documents, err := configloader.NewFromBytes([]byte(config.TypedSpec().Value.Config.Config))
	if err != nil {
		t.Fatalf("the join configuration does not load: %v", err)
	}

	return documents.SideroLink().APIUrl()
}

// join is a machine that joins by the URL in its configuration.
func join(t *testing.T, api *url.URL, id, uniqueToken string) error {
	t.Helper()

	token := api.Query().Get("jointoken")

	return provision(t, api.Host, &pb.ProvisionRequest{
		NodeUuid: id, NodePublicKey: "k", JoinToken: &token, NodeUniqueToken: &uniqueToken,
	})
}

func provision(t *testing.T, host string, req *pb.ProvisionRequest) error {
	t.Helper()

	conn, err := grpc.NewClient(host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatalf("dial: %v", err)
	}

	defer conn.Close() //nolint:errcheck // a test's connection

	resp, err := pb.NewProvisionServiceClient(conn).Provision(limited(t), req)
	if err == nil && (resp.GetServerPublicKey() == "" || resp.GetNodeAddressPrefix() == "" || resp.GetServerAddress() == "") {
		t.Errorf("the answer lacks what Talos needs: %v", resp)
	}

	return err
}

// ready is a server whose provider has published itself and whose machines have joined.
func ready(t *testing.T, cfg omnisim.Config, machines ...string) (*omnisim.Server, state.State) {
	t.Helper()

	cfg.Log = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	sim := start(t, cfg)
	st := asProvider(t, sim)
	publishStatus(t, st)

	for _, id := range machines {
		if err := join(t, apiURL(t, joinConfig(t, st)), id, ""); err != nil {
			t.Fatalf("machine %s does not join: %v", id, err)
		}
	}

	return sim, st
}

// await waits for a machine, as the provider sees it, to be so.
func await[T resource.Resource](t *testing.T, st state.State, ptr resource.Pointer, so func(T) bool) T {
	t.Helper()

	res, err := safe.StateWatchFor[T](limited(t), st, ptr, state.WithEventTypes(state.Created, state.Updated),
		state.WithCondition(func(r resource.Resource) (bool, error) {
			got, ok := r.(T)

			return ok && so(got), nil
		}))
	if err != nil {
		t.Fatalf("%s did not become so: %v", ptr, err)
	}

	return res
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()

	if got := code(err); got != want {
		t.Errorf("%s: %v (%v), want %v", what, got, err, want)
	}
}

// code finds the gRPC status, which the state client replaces by kinds of its own.
func code(err error) codes.Code {
	switch {
	case state.IsNotFoundError(err):
		return codes.NotFound
	case state.IsOwnerConflictError(err):
		return codes.PermissionDenied
	case state.IsPhaseConflictError(err):
		return codes.InvalidArgument
	case state.IsConflictError(err):
		return codes.FailedPrecondition
	default:
		return status.Code(err)
	}
}
