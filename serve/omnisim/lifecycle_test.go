package omnisim_test

import (
	"slices"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/bmctl/bmctl/serve/omnisim"
)

// TestJoinAcceptAllocate follows one machine as its provider sees it.
func TestJoinAcceptAllocate(t *testing.T) {
	sim, st := ready(t, omnisim.Config{}, machineA)
	ptr := infra.NewMachine(machineA).Metadata()

	pending := await(t, st, ptr, func(*infra.Machine) bool { return true })
	if spec := pending.TypedSpec().Value; spec.AcceptanceStatus != specs.InfraMachineConfigSpec_PENDING ||
		spec.PreferredPowerState != specs.InfraMachineSpec_POWER_STATE_ON || spec.WipeId != "" || spec.InstallEventId != 0 {
		t.Errorf("a new machine is %v", spec)
	}

	if _, ok := pending.Metadata().Labels().Get(omni.LabelMachinePendingAccept); !ok {
		t.Error("a pending machine has no label accept-pending")
	}

	if err := sim.Allocate(machineA, "prod", "1.13.5", nil); err == nil {
		t.Error("a pending machine can be allocated")
	}

	if err := sim.Accept(machineA); err != nil {
		t.Fatal(err)
	}

	accepted := await(t, st, ptr, func(m *infra.Machine) bool {
		return m.TypedSpec().Value.AcceptanceStatus == specs.InfraMachineConfigSpec_ACCEPTED
	})
	if _, ok := accepted.Metadata().Labels().Get(omni.LabelMachinePendingAccept); ok {
		t.Error("an accepted machine has the label accept-pending")
	}

	if got := accepted.TypedSpec().Value.PreferredPowerState; got != specs.InfraMachineSpec_POWER_STATE_OFF {
		t.Errorf("an accepted machine that has joined is preferred %v", got)
	}

	if err := sim.Allocate(machineA, "prod", "1.13.5", []string{"siderolabs/iscsi-tools"}); err != nil {
		t.Fatal(err)
	}

	allocated := await(t, st, ptr, func(m *infra.Machine) bool { return m.TypedSpec().Value.ClusterTalosVersion == "1.13.5" })
	if !slices.Equal(allocated.TypedSpec().Value.Extensions, []string{"siderolabs/iscsi-tools"}) {
		t.Errorf("extensions are %v", allocated.TypedSpec().Value.Extensions)
	}

	for label, want := range map[string]string{omni.LabelCluster: "prod", omni.LabelMachineSet: "prod-workers", omni.LabelWorkerRole: ""} {
		if got, ok := allocated.Metadata().Labels().Get(label); !ok || got != want {
			t.Errorf("label %s is %q, %v", label, got, ok)
		}
	}

	if err := sim.InstallEvent(machineA); err != nil {
		t.Fatal(err)
	}

	await(t, st, ptr, func(m *infra.Machine) bool { return m.TypedSpec().Value.InstallEventId == 1 })

	if err := sim.Deallocate(machineA); err != nil {
		t.Fatal(err)
	}

	free := await(t, st, ptr, func(m *infra.Machine) bool { return m.TypedSpec().Value.ClusterTalosVersion == "" })
	if free.TypedSpec().Value.WipeId == "" || len(free.TypedSpec().Value.Extensions) != 0 || free.TypedSpec().Value.InstallEventId != 1 {
		t.Errorf("a deallocated machine is %v", free.TypedSpec().Value)
	}

	if _, ok := free.Metadata().Labels().Get(omni.LabelCluster); ok {
		t.Error("a deallocated machine keeps its cluster's label")
	}
}

// TestRemoval: the provider's finalizers hold a removed machine, and the user's
// word about it is gone before it is torn down.
func TestRemoval(t *testing.T) {
	sim, st := ready(t, omnisim.Config{}, machineA)
	ctx := limited(t)
	ptr := infra.NewMachine(machineA).Metadata()

	if err := sim.Accept(machineA); err != nil {
		t.Fatal(err)
	}

	if err := st.AddFinalizer(ctx, ptr, "bare-metal.WipeStatusController"); err != nil {
		t.Fatalf("the provider may not add its finalizer: %v", err)
	}

	if err := sim.Remove(machineA); err != nil {
		t.Fatal(err)
	}

	await(t, st, ptr, func(m *infra.Machine) bool { return m.Metadata().Phase() == resource.PhaseTearingDown })

	if _, err := sim.State().Get(ctx, omni.NewInfraMachineConfig(machineA).Metadata()); !state.IsNotFoundError(err) {
		t.Errorf("InfraMachineConfig outlives the teardown: %v", err)
	}

	if err := st.RemoveFinalizer(ctx, ptr, "bare-metal.WipeStatusController"); err != nil {
		t.Fatalf("the provider may not remove its finalizer: %v", err)
	}

	if _, err := st.WatchFor(ctx, ptr, state.WithEventTypes(state.Destroyed)); err != nil {
		t.Fatalf("the released machine stays: %v", err)
	}

	rejoin := func() error { return join(t, apiURL(t, joinConfig(t, st)), machineA, "") }
	if err := rejoin(); err != nil {
		t.Fatalf("the machine does not join again: %v", err)
	}

	again := await(t, st, ptr, func(m *infra.Machine) bool { return m.Metadata().Phase() == resource.PhaseRunning })
	if got := again.TypedSpec().Value.AcceptanceStatus; got != specs.InfraMachineConfigSpec_PENDING {
		t.Errorf("a machine that comes back is %v", got)
	}
}
