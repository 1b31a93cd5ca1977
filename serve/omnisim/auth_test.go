package omnisim_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/go-api-signature/pkg/message"
	"github.com/siderolabs/go-api-signature/pkg/pgp"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"github.com/siderolabs/omni/client/pkg/client"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/bmctl/bmctl/serve/omnisim"
)

func decode(t *testing.T, key string) *serviceaccount.ServiceAccount {
	t.Helper()

	account, err := serviceaccount.Decode(key)
	if err != nil {
		t.Fatal(err)
	}

	return account
}

// rawList lists machines with the metadata as it is.
func rawList(t *testing.T, sim *omnisim.Server, md metadata.MD) error {
	t.Helper()

	conn, err := grpc.NewClient(sim.Endpoint()[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}

	defer conn.Close() //nolint:errcheck // a test's connection

	ptr := infra.NewMachine("").Metadata()

	stream, err := v1alpha1.NewStateClient(conn).List(metadata.NewOutgoingContext(limited(t), md),
		&v1alpha1.ListRequest{Namespace: ptr.Namespace(), Type: ptr.Type()})
	if err != nil {
		return err
	}

	_, err = stream.Recv()
	if err != nil && err.Error() == "EOF" {
		return nil
	}

	return err
}

func TestSignatures(t *testing.T) {
	sim := start(t, omnisim.Config{})
	operator := decode(t, sim.OperatorKey())
	own := decode(t, sim.ProviderKey())

	stranger, err := pgp.GenerateKey("stranger", "", "stranger@example.com", time.Hour)
	if err != nil {
		t.Fatal(err)
	}

	signed := func(identity string, key *pgp.Key, method string) metadata.MD {
		md := metadata.MD{}
		if err := message.NewGRPC(md, method).Sign(identity, key); err != nil {
			t.Fatal(err)
		}

		return md
	}

	old := signed(own.Name, own.Key, v1alpha1.State_List_FullMethodName)
	old.Set(message.TimestampHeaderKey, strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10))

	for name, row := range map[string]struct {
		md   metadata.MD
		want codes.Code
	}{
		"good":                   {signed(own.Name, own.Key, v1alpha1.State_List_FullMethodName), codes.OK},
		"the operator's":         {signed(operator.Name, operator.Key, v1alpha1.State_List_FullMethodName), codes.OK},
		"unsigned":               {metadata.MD{}, codes.Unauthenticated},
		"a stranger's":           {signed(own.Name, stranger, v1alpha1.State_List_FullMethodName), codes.Unauthenticated},
		"another's name":         {signed(operator.Name, own.Key, v1alpha1.State_List_FullMethodName), codes.Unauthenticated},
		"for another call":       {signed(own.Name, own.Key, v1alpha1.State_Get_FullMethodName), codes.Unauthenticated},
		"of another time":        {old, codes.Unauthenticated},
		"a header cut short":     {metadata.Pairs(message.SignatureHeaderKey, "siderov1 "+own.Name), codes.Unauthenticated},
		"a header of other kind": {metadata.Pairs(message.SignatureHeaderKey, "a b c d"), codes.Unauthenticated},
		"bad base64":             {metadata.Pairs(message.SignatureHeaderKey, "siderov1 a b ???"), codes.Unauthenticated},
	} {
		if got := status.Code(rawList(t, sim, row.md)); got != row.want {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}

	forged, err := serviceaccount.Encode(own.Name, stranger)
	if err != nil {
		t.Fatal(err)
	}

	_, err = dial(t, sim, forged).Omni().State().Get(limited(t), infra.NewMachine(machineA).Metadata())
	wantCode(t, "the client with a forged key", err, codes.Unauthenticated)
}

// compressions collects how the two sides compressed their messages.
type compressions struct {
	mu  sync.Mutex
	saw []string
}

func (c *compressions) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (c *compressions) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (c *compressions) HandleConn(context.Context, stats.ConnStats) {}

func (c *compressions) HandleRPC(_ context.Context, event stats.RPCStats) {
	c.mu.Lock()
	defer c.mu.Unlock()

	switch e := event.(type) {
	case *stats.OutHeader:
		c.saw = append(c.saw, "sent "+e.Compression)
	case *stats.InHeader:
		c.saw = append(c.saw, "received "+e.Compression)
	}
}

func TestGzip(t *testing.T) {
	sim := start(t, omnisim.Config{})
	seen := &compressions{}
	st := dial(t, sim, sim.OperatorKey(), client.WithGrpcOpts(grpc.WithStatsHandler(seen))).Omni().State()

	if _, err := st.Get(limited(t), infra.NewProvider(provider).Metadata()); err != nil {
		t.Fatal(err)
	}

	seen.mu.Lock()
	defer seen.mu.Unlock()

	if want := []string{"sent gzip", "received gzip"}; !slices.Equal(seen.saw, want) {
		t.Errorf("compression: %q, want %q", seen.saw, want)
	}
}
