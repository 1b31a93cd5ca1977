package omnisim

import (
	"context"
	"errors"
	"fmt"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/google/uuid"
	"github.com/siderolabs/omni/client/api/omni/management"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrNotAccepted: the machine is not one that can be given to a cluster.
var ErrNotAccepted = errors.New("the machine is not accepted")

// Machines lists the machines of all providers, sorted by id.
func (s *Server) Machines() ([]*infra.Machine, error) {
	list, err := safe.StateListAll[*infra.Machine](s.ctx, s.store.state)
	if err != nil {
		return nil, fmt.Errorf("list the machines: %w", err)
	}

	machines := make([]*infra.Machine, 0, list.Len())
	for machine := range list.All() {
		machines = append(machines, machine)
	}

	return machines, nil
}

// Machine is one machine as Omni tells its provider; the error satisfies
// state.IsNotFoundError if there is none.
func (s *Server) Machine(id string) (*infra.Machine, error) {
	machine, err := safe.StateGetByID[*infra.Machine](s.ctx, s.store.state, id)
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", id, err)
	}

	return machine, nil
}

// Status is what the provider reported about the machine; the error satisfies
// state.IsNotFoundError if it reported nothing.
func (s *Server) Status(id string) (*infra.MachineStatus, error) {
	reported, err := safe.StateGetByID[*infra.MachineStatus](s.ctx, s.store.state, id)
	if err != nil {
		return nil, fmt.Errorf("status of machine %s: %w", id, err)
	}

	return reported, nil
}

// Configure edits the user's InfraMachineConfig of the machine. When it returns,
// infra.Machine follows.
func (s *Server) Configure(id string, edit func(*specs.InfraMachineConfigSpec)) error {
	err := put(s.ctx, s.store.state, omni.NewInfraMachineConfig(id), func(r *omni.InfraMachineConfig) {
		edit(r.TypedSpec().Value)
	})
	if err != nil {
		return fmt.Errorf("configure machine %s: %w", id, err)
	}

	return s.reconcile(id)
}

// Accept accepts the machine.
func (s *Server) Accept(id string) error {
	return s.Configure(id, func(spec *specs.InfraMachineConfigSpec) {
		spec.AcceptanceStatus = specs.InfraMachineConfigSpec_ACCEPTED
	})
}

// RequestReboot asks for a reboot of the machine.
func (s *Server) RequestReboot(id string) error {
	return s.Configure(id, func(spec *specs.InfraMachineConfigSpec) { spec.RequestedRebootId = uuid.NewString() })
}

// RequestPowerOff asks to shut the machine down and to leave it off although a
// cluster wants it on.
func (s *Server) RequestPowerOff(id string) error {
	if err := s.Configure(id, func(spec *specs.InfraMachineConfigSpec) { spec.PowerOffRequestId = uuid.NewString() }); err != nil {
		return err
	}

	if s.cfg.Shutdown != nil {
		s.cfg.Shutdown(id)
	}

	return nil
}

// ClearPowerOff takes the power-off request back: power on.
func (s *Server) ClearPowerOff(id string) error {
	return s.Configure(id, func(spec *specs.InfraMachineConfigSpec) { spec.PowerOffRequestId = "" })
}

// Allocate adds the accepted machine to the cluster as a worker. The cluster is
// created if need be, and runs talosVersion ("1.13.5") from now on; extensions
// are those that the machine's Talos gets ("siderolabs/iscsi-tools").
func (s *Server) Allocate(id, cluster, talosVersion string, extensions []string) error {
	machine, err := s.Machine(id)
	if err != nil {
		return fmt.Errorf("allocate: %w", err)
	}

	if machine.TypedSpec().Value.AcceptanceStatus != specs.InfraMachineConfigSpec_ACCEPTED {
		return fmt.Errorf("allocate machine %s to cluster %s: %w", id, cluster, ErrNotAccepted)
	}

	err = errors.Join(
		put(s.ctx, s.store.state, omni.NewCluster(cluster), func(r *omni.Cluster) { r.TypedSpec().Value.TalosVersion = talosVersion }),
		put(s.ctx, s.store.state, omni.NewMachineExtensions(id), func(r *omni.MachineExtensions) { r.TypedSpec().Value.Extensions = extensions }),
		put(s.ctx, s.store.state, omni.NewClusterMachine(id), func(r *omni.ClusterMachine) {
			r.Metadata().Labels().Set(omni.LabelCluster, cluster)
			r.Metadata().Labels().Set(omni.LabelMachineSet, cluster+"-workers")
			r.Metadata().Labels().Set(omni.LabelWorkerRole, "")
		}),
	)
	if err != nil {
		return fmt.Errorf("allocate machine %s to cluster %s: %w", id, cluster, err)
	}

	return s.reconcile(id)
}

// Deallocate takes the machine out of its cluster, which gives it a new wipe id.
func (s *Server) Deallocate(id string) error {
	if _, err := s.drop(omni.NewClusterMachine(id).Metadata(), ""); err != nil {
		return fmt.Errorf("deallocate machine %s: %w", id, err)
	}

	if _, err := s.drop(omni.NewMachineExtensions(id).Metadata(), ""); err != nil {
		return fmt.Errorf("deallocate machine %s: %w", id, err)
	}

	return s.reconcile(id)
}

// InstallEvent tells Omni that Talos is on the machine's disk, as Talos itself
// does over SideroLink after an installation and at each boot from disk.
func (s *Server) InstallEvent(id string) error {
	_, err := safe.StateUpdateWithConflicts(s.ctx, s.store.state, infra.NewMachine(id).Metadata(), func(r *infra.Machine) error {
		r.TypedSpec().Value.InstallEventId++

		return nil
	}, state.WithUpdateOwner(machineOwner), state.WithExpectedPhaseAny())
	if err != nil {
		return fmt.Errorf("install event of machine %s: %w", id, err)
	}

	return nil
}

// manager answers the calls of Omni's management API that are a user's acts on
// a machine's power.
type manager struct {
	management.UnimplementedManagementServiceServer

	server *Server
}

// MachinePowerOff is RequestPowerOff for a user with the role Operator.
func (m *manager) MachinePowerOff(ctx context.Context, req *management.MachinePowerOffRequest) (*management.MachinePowerOffResponse, error) {
	return &management.MachinePowerOffResponse{}, m.act(ctx, req.GetMachineId(), m.server.RequestPowerOff)
}

// MachinePowerOn is ClearPowerOff for a user with the role Operator.
func (m *manager) MachinePowerOn(ctx context.Context, req *management.MachinePowerOnRequest) (*management.MachinePowerOnResponse, error) {
	return &management.MachinePowerOnResponse{}, m.act(ctx, req.GetMachineId(), m.server.ClearPowerOff)
}

func (m *manager) act(ctx context.Context, id string, do func(string) error) error {
	if acc := caller(ctx); acc.role != RoleOperator {
		return status.Errorf(codes.PermissionDenied, "%s lacks the role Operator", acc.identity)
	}

	if _, err := m.server.Machine(id); state.IsNotFoundError(err) {
		return status.Errorf(codes.NotFound, "%v", err)
	}

	if err := do(id); err != nil {
		return status.Errorf(codes.Internal, "%v", err)
	}

	return nil
}
