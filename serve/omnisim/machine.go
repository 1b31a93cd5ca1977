package omnisim

import (
	"slices"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/uuid"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
)

// machineFacts is everything that infra.Machine is made of.
type machineFacts struct {
	providerID string
	config     *specs.InfraMachineConfigSpec
	token      string
	cluster    allocation
	// collected: Omni has talked to the machine after it was accepted.
	collected bool
}

// allocation is the cluster that a machine is in; the zero value is none.
type allocation struct {
	talosVersion string
	extensions   []string
	labels       map[string]string
}

// clusterLabels are the labels that infra.Machine takes over from ClusterMachine.
func clusterLabels() []string {
	return []string{omni.LabelCluster, omni.LabelMachineSet, omni.LabelControlPlaneRole, omni.LabelWorkerRole}
}

func (s *Server) gather(link *siderolink.Link) (machineFacts, error) {
	id := link.Metadata().ID()
	facts := machineFacts{config: &specs.InfraMachineConfigSpec{}}
	facts.providerID, _ = link.Metadata().Labels().Get(omni.LabelInfraProviderID)

	config, ok, err := get[*omni.InfraMachineConfig](s.ctx, s.store.state, omni.NewInfraMachineConfig(id).Metadata())
	if err != nil {
		return facts, err
	}

	if ok {
		facts.config = config.TypedSpec().Value
	}

	token, ok, err := get[*siderolink.NodeUniqueToken](s.ctx, s.store.state, siderolink.NewNodeUniqueToken(id).Metadata())
	if err != nil {
		return facts, err
	}

	if ok {
		facts.token = token.TypedSpec().Value.Token
	}

	if facts.cluster, err = s.allocationOf(id); err != nil {
		return facts, err
	}

	facts.collected, err = s.collect(link, facts)

	return facts, err
}

func (s *Server) allocationOf(id string) (allocation, error) {
	member, ok, err := get[*omni.ClusterMachine](s.ctx, s.store.state, omni.NewClusterMachine(id).Metadata())
	if err != nil || !ok || member.Metadata().Phase() == resource.PhaseTearingDown {
		return allocation{}, err
	}

	alloc := allocation{labels: map[string]string{}}

	for _, label := range clusterLabels() {
		if value, ok := member.Metadata().Labels().Get(label); ok {
			alloc.labels[label] = value
		}
	}

	cluster, ok, err := get[*omni.Cluster](s.ctx, s.store.state, omni.NewCluster(alloc.labels[omni.LabelCluster]).Metadata())
	if err != nil || !ok {
		return allocation{}, err
	}

	alloc.talosVersion = cluster.TypedSpec().Value.TalosVersion

	extensions, ok, err := get[*omni.MachineExtensions](s.ctx, s.store.state, omni.NewMachineExtensions(id).Metadata())
	if err == nil && ok {
		alloc.extensions = extensions.TypedSpec().Value.Extensions
	}

	return alloc, err
}

// collect tells whether Omni has the machine's information. It gets it as soon
// as an accepted machine is connected, and keeps it from then on: that is Omni's
// Machine and MachineStatus.
func (s *Server) collect(link *siderolink.Link, facts machineFacts) (bool, error) {
	id := link.Metadata().ID()
	connected := link.TypedSpec().Value.Connected

	_, known, err := get[*omni.MachineStatus](s.ctx, s.store.state, omni.NewMachineStatus(id).Metadata())
	if err != nil {
		return false, err
	}

	accepted := facts.config.AcceptanceStatus == specs.InfraMachineConfigSpec_ACCEPTED
	if !known && (!accepted || !connected) {
		return false, nil
	}

	err = put(s.ctx, s.store.state, omni.NewMachine(id), func(r *omni.Machine) {
		r.Metadata().Labels().Set(omni.LabelInfraProviderID, facts.providerID)
		r.TypedSpec().Value.Connected = connected
		r.TypedSpec().Value.ManagementAddress = link.TypedSpec().Value.NodeSubnet
	})
	if err != nil {
		return false, err
	}

	return true, put(s.ctx, s.store.state, omni.NewMachineStatus(id), func(r *omni.MachineStatus) {
		r.Metadata().Labels().Set(omni.LabelIsManagedByStaticInfraProvider, "")
		r.TypedSpec().Value.Connected = connected
	})
}

// apply writes the facts into the machine, as Omni's controller does.
func (f machineFacts) apply(r *infra.Machine) {
	spec := r.TypedSpec().Value

	if spec.AcceptanceStatus != specs.InfraMachineConfigSpec_ACCEPTED {
		spec.AcceptanceStatus = f.config.AcceptanceStatus
	}

	spec.ExtraKernelArgs = f.config.ExtraKernelArgs
	spec.RequestedRebootId = f.config.RequestedRebootId
	spec.Cordoned = f.config.Cordoned
	spec.PreferredPowerState = f.preferredPower()
	spec.NodeUniqueToken = f.token

	f.applyAllocation(spec)
	f.applyLabels(r)
}

// preferredPower is off unless the user says on, but on until Omni has seen
// what the machine is.
func (f machineFacts) preferredPower() specs.InfraMachineSpec_MachinePowerState {
	if !f.collected || f.config.PowerState == specs.InfraMachineConfigSpec_POWER_STATE_ON {
		return specs.InfraMachineSpec_POWER_STATE_ON
	}

	return specs.InfraMachineSpec_POWER_STATE_OFF
}

// applyAllocation sets the cluster's wishes; a machine that leaves its cluster
// gets a new wipe id, and forgets the request to stay off.
func (f machineFacts) applyAllocation(spec *specs.InfraMachineSpec) {
	if spec.ClusterTalosVersion != "" && f.cluster.talosVersion == "" {
		spec.WipeId = uuid.NewString()
	}

	spec.ClusterTalosVersion = f.cluster.talosVersion
	spec.Extensions = slices.Clone(f.cluster.extensions)
	spec.PowerOffRequestId = ""

	if spec.ClusterTalosVersion != "" {
		spec.PowerOffRequestId = f.config.PowerOffRequestId
	}
}

func (f machineFacts) applyLabels(r *infra.Machine) {
	labels := r.Metadata().Labels()
	labels.Set(omni.LabelInfraProviderID, f.providerID)

	if r.TypedSpec().Value.AcceptanceStatus == specs.InfraMachineConfigSpec_PENDING {
		labels.Set(omni.LabelMachinePendingAccept, "")
	} else {
		labels.Delete(omni.LabelMachinePendingAccept)
	}

	for _, label := range clusterLabels() {
		if value, ok := f.cluster.labels[label]; ok {
			labels.Set(label, value)
		} else {
			labels.Delete(label)
		}
	}
}
