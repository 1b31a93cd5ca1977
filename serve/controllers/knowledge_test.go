package controllers_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
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

// known is one machine as Omni has it: its version, and whether it is cordoned.
func known(t *testing.T, omni state.State, cordons int) *infra.Machine {
	t.Helper()

	m := infra.NewMachine("7f000000-0000-4000-8000-000000000001")
	if err := omni.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}

	for i := range cordons {
		_, err := safe.StateUpdateWithConflicts(t.Context(), omni, m.Metadata(), func(r *infra.Machine) error {
			r.TypedSpec().Value.Cordoned = i%2 == 0

			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	m, err := safe.StateGet[*infra.Machine](t.Context(), omni, m.Metadata())
	if err != nil {
		t.Fatal(err)
	}

	return m
}

// TestRestoredOmni: what an Omni that was restored from a backup lists holds,
// although we knew later versions.
func TestRestoredOmni(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		omni, backup := state.WrapCore(namespaced.NewState(inmem.Build)), state.WrapCore(namespaced.NewState(inmem.Build))
		m := known(t, omni, 3)
		known(t, backup, 0)

		ctx, cancel := context.WithCancel(t.Context())
		l := newLink(omni)
		k := controllers.NewKnowledge(provider, slog.New(slog.DiscardHandler), func(string) {})

		go k.Run(ctx, l)

		time.Sleep(time.Second)

		if got := k.Machine(m.Metadata().ID()).Infra; got == nil || !got.TypedSpec().Value.Cordoned {
			t.Fatalf("known before: %v, want a cordoned machine", got)
		}

		l.set(true)
		l.CoreState = backup
		l.set(false)
		time.Sleep(time.Minute)

		if got := k.Machine(m.Metadata().ID()).Infra; got == nil || got.TypedSpec().Value.Cordoned || got.Metadata().Version().Value() != 1 {
			t.Errorf("known after the restore: %v, want version 1, not cordoned", got)
		}

		cancel()
		synctest.Wait()
	})
}

// lateList is an Omni whose list of machines arrives after something was written.
type lateList struct {
	state.CoreState

	before func()
}

func (l lateList) WatchKindAggregated(ctx context.Context, kind resource.Kind, ch chan<- []state.Event, opts ...state.WatchKindOption) error {
	listed := make(chan []state.Event)
	if err := l.CoreState.WatchKindAggregated(ctx, kind, listed, opts...); err != nil || kind.Type() != infra.InfraMachineType {
		return err
	}

	go func() {
		events := <-listed
		l.before()

		select {
		case ch <- events:
		case <-ctx.Done():
		}
	}()

	return nil
}

// TestWrittenSinceListed: a list from before our own write does not undo it: a
// decision must not rest on less than what we did last.
func TestWrittenSinceListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		omni, later := state.WrapCore(namespaced.NewState(inmem.Build)), state.WrapCore(namespaced.NewState(inmem.Build))
		known(t, omni, 0)
		written := known(t, later, 1)

		ctx, cancel := context.WithCancel(t.Context())
		k := controllers.NewKnowledge(provider, slog.New(slog.DiscardHandler), func(string) {})

		go k.Run(ctx, lateList{CoreState: omni, before: func() { k.Put(written, true) }})

		time.Sleep(time.Second)

		if got := k.Machine(written.Metadata().ID()).Infra; got == nil || !got.TypedSpec().Value.Cordoned {
			t.Errorf("known: %v, want what we wrote", got)
		}

		cancel()
		synctest.Wait()
	})
}
