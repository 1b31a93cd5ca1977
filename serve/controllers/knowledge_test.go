package controllers_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bmctl/bmctl/serve/controllers"
)

// older is an Omni from before ProviderJoinConfig.
type older struct{ state.CoreState }

func (o older) WatchKindAggregated(ctx context.Context, kind resource.Kind, ch chan<- []state.Event, opts ...state.WatchKindOption) error {
	if kind.Type() == siderolink.ProviderJoinConfigType {
		return status.Error(codes.PermissionDenied, "no access is permitted to resources of this type")
	}

	return o.CoreState.WatchKindAggregated(ctx, kind, ch, opts...)
}

// TestOlderOmni: where Omni does not know the provider's join config, it is made
// from the connection parameters, with the provider's id in the token.
func TestOlderOmni(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		omni := state.WrapCore(namespaced.NewState(inmem.Build))
		ctx, cancel := context.WithCancel(t.Context())

		k := controllers.NewKnowledge(provider, slog.New(slog.DiscardHandler), func(string) {})
		go k.Run(ctx, older{omni})

		time.Sleep(time.Second)

		if config, err := k.JoinConfig(); !k.Complete() || config != "" || err != nil {
			t.Fatalf("complete %t, config %q, %v; want complete without a config", k.Complete(), config, err)
		}

		params := siderolink.NewConnectionParams(siderolink.ConfigID)
		params.TypedSpec().Value = &specs.ConnectionParamsSpec{
			ApiEndpoint: "grpc://omni.example.com:8090", JoinToken: "secrettoken", EventsPort: 8091, LogsPort: 8092,
		}

		if err := omni.Create(ctx, params); err != nil {
			t.Fatal(err)
		}

		time.Sleep(time.Second)

		config, err := k.JoinConfig()
		if err != nil || !strings.Contains(config, "kind: SideroLinkConfig") || !strings.Contains(config, "grpc://omni.example.com:8090?jointoken=") {
			t.Errorf("%v:\n%s", err, config)
		}

		cancel()
		synctest.Wait()
	})
}
