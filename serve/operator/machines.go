package operator

import (
	"context"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/controller/generic"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
)

// Acceptance is what the user decided about a machine.
type Acceptance string

// The decisions. Omni never takes an acceptance back.
const (
	Pending  Acceptance = "pending"
	Accepted Acceptance = "accepted"
	Rejected Acceptance = "rejected"
)

// Machine is a machine of an infrastructure provider as Omni knows it.
type Machine struct {
	ID         string // SMBIOS UUID
	ProviderID string
	Acceptance Acceptance
	Cordoned   bool
	Removing   bool // deleted by a user, not yet released by its provider

	Cluster      string // empty: in none
	ControlPlane bool
	TalosVersion string // that its cluster wants
	Extensions   []string

	PreferredOn       bool // what Omni tells the provider: the user's preference, or on while it collects information
	Power             string
	ReadyToUse        bool // the provider wiped it and knows its BMC
	Installed         bool
	KernelArgs        string
	RequestedRebootID string
	LastRebootID      string // equal to RequestedRebootID once handled
	PowerOffRequestID string // not empty: a user wants it off although it is in a cluster

	Labels map[string]string // the user's; never nil
}

// Machines lists the machines of all static providers (or of Config.ProviderID
// alone), sorted by id.
func (c *Client) Machines(ctx context.Context) ([]Machine, error) {
	ctx, cancel := limit(ctx, c.cfg.Timeout)
	defer cancel()

	found, err := c.list(ctx)
	if err != nil {
		return nil, c.fail(ctx, "list the machines", "", err)
	}

	return found, nil
}

func (c *Client) list(ctx context.Context) ([]Machine, error) {
	var scope []state.ListOption
	if c.cfg.ProviderID != "" {
		scope = append(scope, state.WithLabelQuery(resource.LabelEqual(omni.LabelInfraProviderID, c.cfg.ProviderID)))
	}

	machines, err := safe.StateListAll[*infra.Machine](ctx, c.state, scope...)
	if err != nil {
		return nil, err
	}

	statuses, err := byID[*infra.MachineStatus](ctx, c.state, scope...)
	if err != nil {
		return nil, err
	}

	labels, err := byID[*omni.MachineLabels](ctx, c.state)
	if err != nil {
		return nil, err
	}

	found := make([]Machine, 0, machines.Len())

	for m := range machines.All() {
		id := m.Metadata().ID()
		found = append(found, describe(m, statuses[id], labels[id]))
	}

	slices.SortFunc(found, func(a, b Machine) int { return strings.Compare(a.ID, b.ID) })

	return found, nil
}

func byID[T generic.ResourceWithRD](ctx context.Context, st state.State, opts ...state.ListOption) (map[resource.ID]T, error) {
	list, err := safe.StateListAll[T](ctx, st, opts...)
	if err != nil {
		return nil, err
	}

	found := make(map[resource.ID]T, list.Len())
	for res := range list.All() {
		found[res.Metadata().ID()] = res
	}

	return found, nil
}

// Machine is the machine with the id.
func (c *Client) Machine(ctx context.Context, id string) (Machine, error) {
	ctx, cancel := limit(ctx, c.cfg.Timeout)
	defer cancel()

	m, err := c.one(ctx, id)
	if err != nil {
		return Machine{}, c.fail(ctx, "look up machine", id, err)
	}

	return m, nil
}

func (c *Client) one(ctx context.Context, id string) (Machine, error) {
	m, err := safe.StateGetByID[*infra.Machine](ctx, c.state, id)
	if err != nil {
		return Machine{}, err
	}

	reported, err := safe.StateGetByID[*infra.MachineStatus](ctx, c.state, id)
	if err != nil && !state.IsNotFoundError(err) {
		return Machine{}, err
	}

	labels, err := safe.StateGetByID[*omni.MachineLabels](ctx, c.state, id)
	if err != nil && !state.IsNotFoundError(err) {
		return Machine{}, err
	}

	return describe(m, reported, labels), nil
}

// describe joins what Omni has of a machine; status and labels may be nil.
func describe(m *infra.Machine, reported *infra.MachineStatus, labels *omni.MachineLabels) Machine {
	spec := m.TypedSpec().Value
	d := Machine{
		ID:                m.Metadata().ID(),
		Acceptance:        acceptance(spec.AcceptanceStatus),
		Cordoned:          spec.Cordoned,
		Removing:          m.Metadata().Phase() == resource.PhaseTearingDown,
		TalosVersion:      spec.ClusterTalosVersion,
		Extensions:        spec.Extensions,
		PreferredOn:       spec.PreferredPowerState == specs.InfraMachineSpec_POWER_STATE_ON,
		Power:             "unknown",
		KernelArgs:        spec.ExtraKernelArgs,
		RequestedRebootID: spec.RequestedRebootId,
		PowerOffRequestID: spec.PowerOffRequestId,
		Labels:            map[string]string{},
	}

	d.ProviderID, _ = m.Metadata().Labels().Get(omni.LabelInfraProviderID)
	d.Cluster, _ = m.Metadata().Labels().Get(omni.LabelCluster)
	_, d.ControlPlane = m.Metadata().Labels().Get(omni.LabelControlPlaneRole)

	if reported != nil {
		d.Power = powerState(reported.TypedSpec().Value.PowerState)
		d.ReadyToUse = reported.TypedSpec().Value.ReadyToUse
		d.Installed = reported.TypedSpec().Value.Installed
		d.LastRebootID = reported.TypedSpec().Value.LastRebootId
	}

	if labels != nil {
		for key, value := range labels.Metadata().Labels().Raw() {
			d.Labels[key] = value
		}
	}

	return d
}

func acceptance(status specs.InfraMachineConfigSpec_AcceptanceStatus) Acceptance {
	switch status {
	case specs.InfraMachineConfigSpec_ACCEPTED:
		return Accepted
	case specs.InfraMachineConfigSpec_REJECTED:
		return Rejected
	default:
		return Pending
	}
}

func powerState(state specs.InfraMachineStatusSpec_MachinePowerState) string {
	switch state {
	case specs.InfraMachineStatusSpec_POWER_STATE_ON:
		return "on"
	case specs.InfraMachineStatusSpec_POWER_STATE_OFF:
		return "off"
	default:
		return "unknown"
	}
}
