package omnisim_test

import (
	"slices"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"

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

	checkDeallocation(t, sim, st)
}

func checkDeallocation(t *testing.T, sim *omnisim.Server, st state.State) {
	t.Helper()

	ptr := infra.NewMachine(machineA).Metadata()

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

// spec is what Omni tells the provider about the machine now.
func spec(t *testing.T, sim *omnisim.Server) *specs.InfraMachineSpec {
	t.Helper()

	machine, err := sim.Machine(machineA)
	if err != nil {
		t.Fatal(err)
	}

	return machine.TypedSpec().Value
}

func configure(t *testing.T, sim *omnisim.Server, edit func(*specs.InfraMachineConfigSpec)) {
	t.Helper()

	if err := sim.Configure(machineA, edit); err != nil {
		t.Fatal(err)
	}
}

func TestFollowsConfig(t *testing.T) {
	sim, _ := ready(t, omnisim.Config{}, machineA)

	configure(t, sim, func(c *specs.InfraMachineConfigSpec) {
		c.AcceptanceStatus = specs.InfraMachineConfigSpec_REJECTED
	})

	if got := spec(t, sim).AcceptanceStatus; got != specs.InfraMachineConfigSpec_REJECTED {
		t.Errorf("a rejected machine is %v", got)
	}

	configure(t, sim, func(c *specs.InfraMachineConfigSpec) {
		c.AcceptanceStatus = specs.InfraMachineConfigSpec_ACCEPTED
		c.PowerState = specs.InfraMachineConfigSpec_POWER_STATE_ON
		c.ExtraKernelArgs = "console=ttyS1"
		c.RequestedRebootId = "reboot"
		c.Cordoned = true
	})

	got := spec(t, sim)
	if got.AcceptanceStatus != specs.InfraMachineConfigSpec_ACCEPTED || got.PreferredPowerState != specs.InfraMachineSpec_POWER_STATE_ON ||
		got.ExtraKernelArgs != "console=ttyS1" || got.RequestedRebootId != "reboot" || !got.Cordoned {
		t.Errorf("the machine does not follow: %v", got)
	}

	configure(t, sim, func(c *specs.InfraMachineConfigSpec) {
		*c = specs.InfraMachineConfigSpec{}
	})

	got = spec(t, sim)
	if got.AcceptanceStatus != specs.InfraMachineConfigSpec_ACCEPTED {
		t.Errorf("the acceptance was taken back: %v", got.AcceptanceStatus)
	}

	if got.PreferredPowerState != specs.InfraMachineSpec_POWER_STATE_OFF || got.ExtraKernelArgs != "" || got.Cordoned {
		t.Errorf("the machine does not follow back: %v", got)
	}

	if err := sim.RequestReboot(machineA); err != nil {
		t.Fatal(err)
	}

	if id := spec(t, sim).RequestedRebootId; id == "" || id == "reboot" {
		t.Errorf("a requested reboot has the id %q", id)
	}
}

// TestPowerOffRequest: it exists only while the machine is in a cluster.
func TestPowerOffRequest(t *testing.T) {
	shutdowns := make(chan string, 1)
	sim, _ := ready(t, omnisim.Config{Shutdown: func(id string) { shutdowns <- id }}, machineA)

	if err := sim.Accept(machineA); err != nil {
		t.Fatal(err)
	}

	if err := sim.RequestPowerOff(machineA); err != nil {
		t.Fatal(err)
	}

	if id := <-shutdowns; id != machineA {
		t.Errorf("%s is asked to shut down", id)
	}

	if got := spec(t, sim).PowerOffRequestId; got != "" {
		t.Errorf("outside a cluster the request is %q", got)
	}

	if err := sim.Allocate(machineA, "prod", "1.13.5", nil); err != nil {
		t.Fatal(err)
	}

	if spec(t, sim).PowerOffRequestId == "" {
		t.Error("in a cluster there is no request")
	}

	if err := sim.ClearPowerOff(machineA); err != nil {
		t.Fatal(err)
	}

	if got := spec(t, sim).PowerOffRequestId; got != "" {
		t.Errorf("after power on the request is %q", got)
	}

	if err := sim.RequestPowerOff(machineA); err != nil {
		t.Fatal(err)
	}

	first := spec(t, sim)

	if err := sim.Deallocate(machineA); err != nil {
		t.Fatal(err)
	}

	if got := spec(t, sim); first.PowerOffRequestId == "" || got.PowerOffRequestId != "" || got.WipeId == "" {
		t.Errorf("before the deallocation %v, after it %v", first, got)
	}
}

// report writes what the provider says about the machine.
func report(t *testing.T, st state.State, power specs.InfraMachineStatusSpec_MachinePowerState) {
	t.Helper()

	err := safe.StateModify(limited(t), st, infra.NewMachineStatus(machineA), func(r *infra.MachineStatus) error {
		r.Metadata().Labels().Set("rack", "r1")
		r.TypedSpec().Value.PowerState = power

		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWantsInformation: a machine that went off before it was accepted is wanted
// on until it has joined.
func TestWantsInformation(t *testing.T) {
	sim, st := ready(t, omnisim.Config{}, machineA)

	report(t, st, specs.InfraMachineStatusSpec_POWER_STATE_ON)
	report(t, st, specs.InfraMachineStatusSpec_POWER_STATE_OFF)
	await(t, sim.State(), linkOf(machineA), func(r *siderolink.Link) bool { return !r.TypedSpec().Value.Connected })

	if err := sim.Accept(machineA); err != nil {
		t.Fatal(err)
	}

	if got := spec(t, sim).PreferredPowerState; got != specs.InfraMachineSpec_POWER_STATE_ON {
		t.Errorf("an accepted machine of which nothing is known is preferred %v", got)
	}

	if err := join(t, apiURL(t, joinConfig(t, st)), machineA, ""); err != nil {
		t.Fatal(err)
	}

	if got := spec(t, sim).PreferredPowerState; got != specs.InfraMachineSpec_POWER_STATE_OFF {
		t.Errorf("an accepted machine that has joined is preferred %v", got)
	}

	shown := await(t, sim.State(), omni.NewMachineStatus(machineA).Metadata(), func(*omni.MachineStatus) bool { return true })
	if got, _ := shown.Metadata().Labels().Get("omni.sidero.dev/infra-provider/bare-metal/rack"); got != "r1" {
		t.Errorf("Omni shows the provider's label as %v", shown.Metadata().Labels().Raw())
	}
}

// TestBMCConfig: the provider sees the user's BMC access, and on removal holds
// the machine by its finalizer on that too.
func TestBMCConfig(t *testing.T) {
	sim, st := ready(t, omnisim.Config{}, machineA)
	ctx := limited(t)
	ptr := infra.NewBMCConfig(machineA).Metadata()

	user := omni.NewInfraMachineBMCConfig(machineA)
	user.TypedSpec().Value.Ipmi = &specs.InfraMachineBMCConfigSpec_IPMI{Address: "10.0.3.9", Username: "u", Password: "p"}
	ensure(t, asOperator(t, sim), user)

	seen := await(t, st, ptr, func(*infra.BMCConfig) bool { return true })
	if got := seen.TypedSpec().Value.Config.GetIpmi(); got.GetAddress() != "10.0.3.9" || got.GetPassword() != "p" {
		t.Errorf("the provider sees %v", got)
	}

	if err := st.AddFinalizer(ctx, ptr, "ours"); err != nil {
		t.Fatal(err)
	}

	if err := sim.Remove(machineA); err != nil {
		t.Fatal(err)
	}

	if machine, err := sim.Machine(machineA); err != nil || machine.Metadata().Phase() != resource.PhaseRunning {
		t.Errorf("the machine is torn down before its BMCConfig is gone: %v, %v", machine, err)
	}

	if err := st.RemoveFinalizer(ctx, ptr, "ours"); err != nil {
		t.Fatal(err)
	}

	if _, err := sim.State().WatchFor(ctx, linkOf(machineA), state.WithEventTypes(state.Destroyed)); err != nil {
		t.Errorf("the released machine's link stays: %v", err)
	}
}
