package omnisim_test

import (
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/cosi-project/runtime/pkg/resource/typed"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/client"
	omniclient "github.com/siderolabs/omni/client/pkg/client/omni"
	providerres "github.com/siderolabs/omni/client/pkg/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
	"google.golang.org/grpc/codes"

	"github.com/bmctl/bmctl/serve/omnisim"
)

// ownFact is a resource type of the provider's own that nobody registers.
type ownFact = typed.Resource[protobuf.ResourceSpec[specs.InfraMachineStatusSpec, *specs.InfraMachineStatusSpec], ownFactExtension]

type ownFactExtension struct{}

func (ownFactExtension) ResourceDefinition() meta.ResourceDefinitionSpec {
	return meta.ResourceDefinitionSpec{Type: providerres.ResourceType("TestFact", provider), DefaultNamespace: providerres.ResourceNamespace(provider)}
}

func newOwnFact(namespace, typ, id string) *ownFact {
	return typed.NewResource[protobuf.ResourceSpec[specs.InfraMachineStatusSpec, *specs.InfraMachineStatusSpec], ownFactExtension](
		resource.NewMetadata(namespace, typ, id, resource.VersionUndefined),
		protobuf.NewResourceSpec(&specs.InfraMachineStatusSpec{LastRebootId: "fact"}))
}

// The verbs of an access row, each named by its letter.
const (
	mayRead       = "r" // get, list, watch
	mayFinalize   = "f" // add and remove finalizers
	mayWrite      = "w" // create and change
	mayRemove     = "d" // tear down and destroy
	mayEverything = "rfwd"
)

type accessRow struct {
	make func(id string) resource.Resource
	id   string // empty: any
	may  string
}

// providerRows is the contract's table, written down a second time.
func providerRows() []accessRow {
	return []accessRow{
		{func(id string) resource.Resource { return infra.NewMachine(id) }, "", "rf"},
		{func(id string) resource.Resource { return infra.NewMachineRegistration(id) }, "", "rf"},
		{func(id string) resource.Resource { return infra.NewMachineRequest(id) }, "", "rf"},
		{func(id string) resource.Resource { return infra.NewBMCConfig(id) }, "", "rf"},
		{func(id string) resource.Resource { return siderolink.NewProviderJoinConfig(id) }, "", "rf"},
		{func(id string) resource.Resource { return infra.NewMachineStatus(id) }, "", mayEverything},
		{func(id string) resource.Resource { return infra.NewMachineRequestStatus(id) }, "", mayEverything},
		{func(id string) resource.Resource { return infra.NewConfigPatchRequest(id) }, "", mayEverything},
		{func(id string) resource.Resource { return infra.NewProviderStatus(id) }, provider, mayEverything},
		{func(id string) resource.Resource { return infra.NewProviderHealthStatus(id) }, provider, mayEverything},
		{func(id string) resource.Resource {
			return newOwnFact("infra-provider:"+provider, "TestFact."+provider+".infraprovider.sidero.dev", id)
		}, "", mayEverything},
		{func(id string) resource.Resource { return omni.NewMachine(id) }, "", mayRead},
		{func(string) resource.Resource { return siderolink.NewAPIConfig() }, siderolink.ConfigID, mayRead},
		{func(id string) resource.Resource { return siderolink.NewConnectionParams(id) }, "", mayRead},
		{func(id string) resource.Resource { return omni.NewFeaturesConfig(id) }, "", mayRead},
		{func(id string) resource.Resource { return omni.NewTalosVersion(id) }, "", mayRead},
		{func(id string) resource.Resource { return system.NewSysVersion(id) }, "", mayRead},
		{func(id string) resource.Resource { return siderolink.NewLink(id, &specs.SiderolinkSpec{}) }, "", ""},
		{func(id string) resource.Resource { return omni.NewInfraMachineConfig(id) }, "", ""},
		{func(id string) resource.Resource { return omni.NewInfraMachineBMCConfig(id) }, "", ""},
		{func(id string) resource.Resource { return omni.NewMachineLabels(id) }, "", ""},
		{func(id string) resource.Resource { return omni.NewMachineStatus(id) }, "", ""},
		{func(id string) resource.Resource { return omni.NewCluster(id) }, "", ""},
		{func(id string) resource.Resource { return infra.NewProvider(id) }, "", ""},
		{func(id string) resource.Resource {
			return newOwnFact("infra-provider:other", "TestFact.other.infraprovider.sidero.dev", id)
		}, "", ""},
	}
}

func operatorRows() []accessRow {
	return []accessRow{
		{func(id string) resource.Resource { return omni.NewInfraMachineConfig(id) }, "", mayEverything},
		{func(id string) resource.Resource { return omni.NewInfraMachineBMCConfig(id) }, "", mayEverything},
		{func(id string) resource.Resource { return omni.NewMachineLabels(id) }, "", mayEverything},
		{func(id string) resource.Resource { return siderolink.NewLink(id, &specs.SiderolinkSpec{}) }, "", "rfd"},
		{func(id string) resource.Resource { return infra.NewMachine(id) }, "", mayRead},
		{func(id string) resource.Resource { return infra.NewMachineStatus(id) }, "", mayRead},
		{func(id string) resource.Resource { return omni.NewMachineStatus(id) }, "", mayRead},
		{func(id string) resource.Resource { return infra.NewBMCConfig(id) }, "", ""},
		{func(id string) resource.Resource {
			return newOwnFact("infra-provider:"+provider, "TestFact."+provider+".infraprovider.sidero.dev", id)
		}, "", ""},
	}
}

func TestAccessTable(t *testing.T) {
	sim := start(t, omnisim.Config{})

	for who, accounts := range map[string]struct {
		st   state.State
		rows []accessRow
	}{
		"provider": {asProvider(t, sim), providerRows()},
		"operator": {asOperator(t, sim), operatorRows()},
	} {
		for _, row := range accounts.rows {
			typ := row.make("x").Metadata().Type()
			t.Run(who+"/"+typ+"/"+row.make("x").Metadata().Namespace(), func(t *testing.T) {
				checkRow(t, sim.State(), accounts.st, row)
			})
		}
	}
}

func checkRow(t *testing.T, admin, st state.State, row accessRow) {
	t.Helper()

	ctx := limited(t)
	want := func(verb string) codes.Code {
		if strings.Contains(row.may, verb) {
			return codes.OK
		}

		return codes.PermissionDenied
	}

	id := row.id
	if id == "" {
		id = "accessible"
	}

	res := row.make(id)
	res.Metadata().Labels().Set(omni.LabelInfraProviderID, provider)

	ptr := res.Metadata()
	ensure(t, admin, res)

	_, err := st.Get(ctx, ptr)
	wantCode(t, "get", err, want(mayRead))

	_, err = st.List(ctx, ptr)
	wantCode(t, "list", err, want(mayRead))

	wantCode(t, "watch", st.WatchKind(ctx, ptr, make(chan state.Event)), want(mayRead))
	wantCode(t, "watch one", st.Watch(ctx, ptr, make(chan state.Event)), want(mayRead))

	stored, err := admin.Get(ctx, ptr)
	if err != nil {
		t.Fatal(err)
	}

	held := stored.DeepCopy()
	held.Metadata().Finalizers().Add("test")

	err = st.Update(ctx, held, state.WithExpectedPhaseAny())
	wantCode(t, "add a finalizer", err, want(mayFinalize))

	if err == nil {
		wantCode(t, "remove a finalizer", st.RemoveFinalizer(ctx, ptr, "test"), codes.OK)
	}

	if stored, err = admin.Get(ctx, ptr); err != nil {
		t.Fatal(err)
	}

	changed := stored.DeepCopy()
	changed.Metadata().Labels().Set("changed", "yes")
	wantCode(t, "change", st.Update(ctx, changed, state.WithExpectedPhaseAny()), want(mayWrite))

	_, err = st.Teardown(ctx, ptr)
	wantCode(t, "tear down", err, want(mayRemove))

	wantCode(t, "destroy", st.Destroy(ctx, ptr), want(mayRemove))

	fresh := row.make(id)
	if row.id == "" {
		fresh = row.make("fresh")
	}

	wantCode(t, "create", st.Create(ctx, fresh), want(mayWrite))
}

// ensure creates the resource unless Omni itself did.
func ensure(t *testing.T, admin state.State, res resource.Resource) {
	t.Helper()

	if err := admin.Create(limited(t), res); err != nil && !state.IsConflictError(err) {
		t.Fatal(err)
	}
}

// TestScope: a provider sees its own objects alone.
func TestScope(t *testing.T) {
	sim := start(t, omnisim.Config{})
	st := asProvider(t, sim)
	ctx := limited(t)

	foreign := infra.NewMachineStatus(machineB)
	foreign.Metadata().Labels().Set(omni.LabelInfraProviderID, "other")
	foreign.Metadata().Labels().Set("rack", "r1")
	ensure(t, sim.State(), foreign)

	own := infra.NewMachineStatus(machineA)
	own.Metadata().Labels().Set(omni.LabelInfraProviderID, "other") // forced to be its own
	own.Metadata().Labels().Set("rack", "r1")

	if err := st.Create(ctx, own); err != nil {
		t.Fatal(err)
	}

	stored, err := sim.State().Get(ctx, own.Metadata())
	if err != nil {
		t.Fatal(err)
	}

	if got, _ := stored.Metadata().Labels().Get(omni.LabelInfraProviderID); got != provider {
		t.Errorf("create left the provider's label at %q", got)
	}

	_, err = st.Get(ctx, foreign.Metadata())
	wantCode(t, "get somebody else's", err, codes.NotFound)
	wantCode(t, "change somebody else's", st.Update(ctx, foreign), codes.NotFound)
	wantCode(t, "destroy somebody else's", st.Destroy(ctx, foreign.Metadata()), codes.NotFound)

	for name, opts := range map[string][]state.ListOption{
		"all":              nil,
		"label queries":    {state.WithLabelQuery(resource.LabelEqual("rack", "r1")), state.WithLabelQuery(resource.LabelExists("rack"))},
		"other's provider": {state.WithLabelQuery(resource.LabelEqual(omni.LabelInfraProviderID, "other"))},
	} {
		list, err := safe.StateListAll[*infra.MachineStatus](ctx, st, opts...)
		if err != nil {
			t.Fatal(err)
		}

		want := 1
		if name == "other's provider" {
			want = 0
		}

		if list.Len() != want {
			t.Errorf("list %s: %d objects, want %d", name, list.Len(), want)
		}

		for status := range list.All() {
			if status.Metadata().ID() != machineA {
				t.Errorf("list %s shows %s", name, status.Metadata().ID())
			}
		}
	}

	watchScope(t, sim, st)
	watchAggregated(t, st)
}

// watchAggregated is the form of watch that the controller runtime uses.
func watchAggregated(t *testing.T, st state.State) {
	t.Helper()

	events := make(chan []state.Event)
	kind := infra.NewMachineStatus("").Metadata()

	if err := st.WatchKindAggregated(limited(t), kind, events, state.WithBootstrapContents(true)); err != nil {
		t.Fatal(err)
	}

	select {
	case got := <-events:
		if len(got) != 2 || got[0].Type != state.Created || got[0].Resource.Metadata().ID() != machineA || got[1].Type != state.Bootstrapped {
			t.Errorf("the aggregated watch begins with %v", got)
		}
	case <-limited(t).Done():
		t.Error("no event")
	}
}

// watchScope: changes of somebody else's object reach no watch.
func watchScope(t *testing.T, sim *omnisim.Server, st state.State) {
	t.Helper()

	ctx := limited(t)
	kinds, one := make(chan state.Event), make(chan state.Event)

	if err := st.WatchKind(ctx, infra.NewMachineStatus("").Metadata(), kinds, state.WithBootstrapContents(true)); err != nil {
		t.Fatal(err)
	}

	if err := st.Watch(ctx, infra.NewMachineStatus(machineB).Metadata(), one); err != nil {
		t.Fatal(err)
	}

	for _, id := range []string{machineB, machineA} {
		_, err := safe.StateUpdateWithConflicts(ctx, sim.State(), infra.NewMachineStatus(id).Metadata(), func(r *infra.MachineStatus) error {
			r.TypedSpec().Value.LastRebootId = "again"

			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	for _, want := range []state.EventType{state.Created, state.Bootstrapped, state.Updated} {
		event := next(t, kinds)
		if event.Type != want || (want != state.Bootstrapped && event.Resource.Metadata().ID() != machineA) {
			t.Errorf("watch got %v of %v, want %v of our own", event.Type, event.Resource, want)
		}
	}

	if event := next(t, one); event.Type != state.Destroyed {
		t.Errorf("the watch of somebody else's object begins with %v", event.Type)
	}
}

func next(t *testing.T, events <-chan state.Event) state.Event {
	t.Helper()

	select {
	case event := <-events:
		return event
	case <-limited(t).Done():
		t.Fatal("no event")

		return state.Event{}
	}
}

func TestRefusals(t *testing.T) {
	sim := start(t, omnisim.Config{})
	st := asProvider(t, sim)
	ctx := limited(t)

	err := st.Create(ctx, infra.NewProviderStatus("other"))
	wantCode(t, "ProviderStatus of another id", err, codes.InvalidArgument)

	if err == nil || !strings.Contains(err.Error(), "resource ID must match the infra provider ID") {
		t.Errorf("it says %v", err)
	}

	wantCode(t, "ProviderHealthStatus of another id", st.Create(ctx, infra.NewProviderHealthStatus("other")), codes.InvalidArgument)

	wantCode(t, "own namespace without the suffix",
		st.Create(ctx, newOwnFact("infra-provider:"+provider, "Facts.omni.sidero.dev", "x")), codes.InvalidArgument)
	wantCode(t, "own suffix in another namespace",
		st.Create(ctx, newOwnFact("default", "TestFact."+provider+".infraprovider.sidero.dev", "x")), codes.PermissionDenied)

	held := infra.NewMachineStatus(machineA)
	held.Metadata().Finalizers().Add("somebody")

	if err := st.Create(ctx, held); err != nil {
		t.Fatal(err)
	}

	wantCode(t, "destroy with a finalizer", st.Destroy(ctx, held.Metadata()), codes.FailedPrecondition)
	wantCode(t, "create twice", st.Create(ctx, infra.NewMachineStatus(machineA)), codes.FailedPrecondition)

	stale, err := sim.State().Get(ctx, infra.NewMachineStatus(machineA).Metadata())
	if err != nil {
		t.Fatal(err)
	}

	if err := st.RemoveFinalizer(ctx, held.Metadata(), "somebody"); err != nil {
		t.Fatal(err)
	}

	wantCode(t, "change an old version", st.Update(ctx, stale), codes.FailedPrecondition)

	named := dial(t, sim, sim.ProviderKey(), client.WithOmniClientOptions(omniclient.WithProviderID("other"))).Omni().State()
	_, err = named.List(ctx, infra.NewMachine("").Metadata())
	wantCode(t, "call as another provider", err, codes.PermissionDenied)
}

// TestStaleReadOnlyUpdate: an old version of a read-only object is a conflict to
// be tried again, not a refusal.
func TestStaleReadOnlyUpdate(t *testing.T) {
	sim, st := ready(t, omnisim.Config{}, machineA)
	ctx := limited(t)
	ptr := infra.NewMachine(machineA).Metadata()

	stale, err := st.Get(ctx, ptr)
	if err != nil {
		t.Fatal(err)
	}

	if err := sim.InstallEvent(machineA); err != nil {
		t.Fatal(err)
	}

	stale.Metadata().Finalizers().Add("ours")
	err = st.Update(ctx, stale, state.WithUpdateOwner(stale.Metadata().Owner()))
	wantCode(t, "finalizer on an old version", err, codes.FailedPrecondition)

	machine, err := sim.Machine(machineA)
	if err != nil || machine.TypedSpec().Value.InstallEventId != 1 {
		t.Errorf("the install event is lost: %v, %v", machine, err)
	}
}

func TestUnregistered(t *testing.T) {
	sim := start(t, omnisim.Config{})
	st := asProvider(t, sim)
	ctx := limited(t)

	if err := sim.Unregister(); err != nil {
		t.Fatal(err)
	}

	_, err := st.List(ctx, infra.NewMachine("").Metadata())
	wantCode(t, "a call of an unregistered provider", err, codes.PermissionDenied)

	if err == nil || !strings.Contains(err.Error(), "not registered") {
		t.Errorf("it says %v", err)
	}

	if err := sim.Register(); err != nil {
		t.Fatal(err)
	}

	_, err = st.List(ctx, infra.NewMachine("").Metadata())
	wantCode(t, "a call after registering again", err, codes.OK)
}
