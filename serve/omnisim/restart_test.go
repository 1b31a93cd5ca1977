package omnisim_test

import (
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"

	"github.com/bmctl/bmctl/serve/omnisim"
)

// TestRestart: what Omni keeps on disk is there after a restart, the keys among
// it; what it keeps in memory is not.
func TestRestart(t *testing.T) {
	cfg := omnisim.Config{Dir: t.TempDir()}

	sim, st := ready(t, cfg, machineA)
	cfg.Listen = sim.Endpoint()[len("http://"):]
	ctx := limited(t)

	if err := sim.Accept(machineA); err != nil {
		t.Fatal(err)
	}

	fact := newOwnFact("infra-provider:"+provider, "TestFact."+provider+".infraprovider.sidero.dev", machineA)
	health := infra.NewProviderHealthStatus(provider)

	if err := st.Create(ctx, fact, state.WithCreateOwner("bare-metal.TestController")); err != nil {
		t.Fatal(err)
	}

	if err := st.Create(ctx, health); err != nil {
		t.Fatal(err)
	}

	events := make(chan state.Event)
	if err := st.WatchKind(ctx, infra.NewMachine("").Metadata(), events, state.WithBootstrapContents(true)); err != nil {
		t.Fatal(err)
	}

	next(t, events) // the machine
	next(t, events) // bootstrapped, with a bookmark

	joined := joinConfig(t, st).TypedSpec().Value.JoinToken

	if err := sim.Close(); err != nil {
		t.Fatal(err)
	}

	again := start(t, cfg)
	if again.ProviderKey() != sim.ProviderKey() || again.OperatorKey() != sim.OperatorKey() || again.Endpoint() != sim.Endpoint() {
		t.Error("a restart changed a key or the endpoint")
	}

	// The client of before goes on; its watch learns that its bookmark is worthless.
	if event := next(t, events); event.Type != state.Errored || !state.IsInvalidWatchBookmarkError(event.Error) {
		t.Errorf("the watch goes on with %v: %v", event.Type, event.Error)
	}

	machine := await(t, st, infra.NewMachine(machineA).Metadata(), func(*infra.Machine) bool { return true })
	if machine.TypedSpec().Value.AcceptanceStatus != specs.InfraMachineConfigSpec_ACCEPTED {
		t.Errorf("after the restart the machine is %v", machine.TypedSpec().Value)
	}

	checkFact(t, st, fact)

	_, err := st.Get(ctx, health.Metadata())
	wantCode(t, "the health after a restart", err, codes.NotFound)

	if got := joinConfig(t, st).TypedSpec().Value.JoinToken; got != joined {
		t.Error("a restart changed the join token")
	}
}

// checkFact: a type that the server has never heard of comes back whole.
func checkFact(t *testing.T, st state.State, want *ownFact) {
	t.Helper()

	kept, err := st.Get(limited(t), want.Metadata())
	if err != nil {
		t.Fatal(err)
	}

	raw, err := kept.(*protobuf.Resource).Marshal()
	if err != nil {
		t.Fatal(err)
	}

	var spec specs.InfraMachineStatusSpec
	if err := spec.UnmarshalVT(raw.GetSpec().GetProtoSpec()); err != nil {
		t.Fatal(err)
	}

	if spec.LastRebootId != want.TypedSpec().Value.LastRebootId || kept.Metadata().Owner() != want.Metadata().Owner() {
		t.Errorf("the fact of %q is now %q of %q", want.Metadata().Owner(), spec.LastRebootId, kept.Metadata().Owner())
	}
}

// TestBookmarkOfAnotherRun: a watch cannot go on across a restart, not even
// where the new run has had as many events as the old one.
func TestBookmarkOfAnotherRun(t *testing.T) {
	cfg := omnisim.Config{Dir: t.TempDir()}
	sim, st := ready(t, cfg, machineA)
	kind := infra.NewMachine("").Metadata()
	events := make(chan state.Event)

	if err := st.WatchKind(limited(t), kind, events, state.WithBootstrapBookmark(true)); err != nil {
		t.Fatal(err)
	}

	bookmark := next(t, events).Bookmark

	if err := st.WatchKind(limited(t), kind, make(chan state.Event), state.WithKindStartFromBookmark(bookmark)); err != nil {
		t.Errorf("in its own run the bookmark fails: %v", err)
	}

	if err := sim.Close(); err != nil {
		t.Fatal(err)
	}

	again := start(t, cfg)

	for range 20 {
		if err := again.InstallEvent(machineA); err != nil {
			t.Fatal(err)
		}
	}

	err := asProvider(t, again).WatchKind(limited(t), kind, make(chan state.Event), state.WithKindStartFromBookmark(bookmark))
	if !state.IsInvalidWatchBookmarkError(err) {
		t.Errorf("in the next run: %v, want an invalid bookmark", err)
	}
}

// TestLocked: the second server on a state says so instead of waiting for ever.
func TestLocked(t *testing.T) {
	cfg := omnisim.Config{Dir: t.TempDir()}
	start(t, cfg)

	if second, err := omnisim.Start(cfg); err == nil {
		t.Error("two servers on one state", second.Close())
	}
}

// TestBusyPort: a failed start leaves nothing behind.
func TestBusyPort(t *testing.T) {
	sim := start(t, omnisim.Config{})
	cfg := omnisim.Config{Dir: t.TempDir(), Listen: sim.Endpoint()[len("http://"):]}

	if second, err := omnisim.Start(cfg); err == nil {
		t.Error("two servers on one port", second.Close())
	}

	cfg.Listen = ""
	start(t, cfg)
}

// TestAway: an absent server refuses, and the same client finds it when it is back.
func TestAway(t *testing.T) {
	sim, st := ready(t, omnisim.Config{}, machineA)
	ptr := infra.NewMachine(machineA).Metadata()

	sim.SetAway(true)

	_, err := st.Get(limited(t), ptr)
	wantCode(t, "a call while away", err, codes.Unavailable)

	sim.SetAway(false)

	ctx, again := limited(t), time.NewTicker(20*time.Millisecond)
	defer again.Stop()

	for {
		if _, err = st.Get(ctx, ptr); err == nil {
			return
		}

		if code(err) != codes.Unavailable {
			t.Fatalf("a call when back: %v", err)
		}

		<-again.C
	}
}

// TestSilent: a silent server still takes connections and never answers.
func TestSilent(t *testing.T) {
	sim, st := ready(t, omnisim.Config{})

	events := make(chan state.Event)
	if err := st.WatchKind(limited(t), infra.NewProviderStatus(provider).Metadata(), events); err != nil {
		t.Fatal(err)
	}

	sim.SetSilent(true)

	if err := sim.State().Destroy(limited(t), infra.NewProviderStatus(provider).Metadata()); err != nil {
		t.Fatal(err)
	}

	host, err := url.Parse(sim.Endpoint())
	if err != nil {
		t.Fatal(err)
	}

	conn, err := net.DialTimeout("tcp", host.Host, time.Second)
	if err != nil {
		t.Fatalf("a silent server does not accept: %v", err)
	}

	if err := conn.Close(); err != nil {
		t.Error(err)
	}

	answered := make(chan error, 1)

	ctx, health := limited(t), infra.NewProviderHealthStatus(provider)

	go func() { answered <- st.Create(ctx, health) }()

	select {
	case err := <-answered:
		t.Errorf("a silent server answered: %v", err)
	case <-events:
		t.Error("a silent server told of a change")
	case <-time.After(100 * time.Millisecond): // it otherwise answers within 1 ms
	}

	_, err = sim.State().Get(ctx, health.Metadata())
	wantCode(t, "what was asked meanwhile", err, codes.NotFound)

	sim.SetSilent(false)

	if err := <-answered; err != nil {
		t.Errorf("when it speaks again: %v", err)
	}

	next(t, events)
}

// TestLinkDeletedByOperator goes the way of omnictl delete link.
func TestLinkDeletedByOperator(t *testing.T) {
	sim, st := ready(t, omnisim.Config{}, machineA)
	admin := asOperator(t, sim)
	ctx := limited(t)

	labels := omni.NewMachineLabels(machineA)
	labels.Metadata().Labels().Set("rack", "r1")
	ensure(t, admin, labels)

	if err := admin.TeardownAndDestroy(ctx, linkOf(machineA)); err != nil {
		t.Fatal(err)
	}

	_, err := st.Get(ctx, infra.NewMachine(machineA).Metadata())
	wantCode(t, "the machine after its link", err, codes.NotFound)

	_, err = admin.Get(ctx, labels.Metadata())
	wantCode(t, "its labels after its link", err, codes.NotFound)
}
