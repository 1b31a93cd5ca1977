package controllers

import (
	"context"
	"fmt"
	"strings"

	omnispecs "github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/protobuf/proto"

	"github.com/bmctl/bmctl/serve/policy"
	"github.com/bmctl/bmctl/serve/resources"
	"github.com/bmctl/bmctl/serve/resources/specs"
)

// report writes what we see of a machine: for ourselves, and for Omni. Nothing
// is written that is there already.
func (c *Controller) report(ctx context.Context, m Machine, facts policy.Facts) error {
	if err := c.reportSeen(ctx, m, facts); err != nil {
		return fmt.Errorf("write what is seen of %s: %w", ShortID(m.ID), err)
	}

	if err := c.reportOmni(ctx, m, facts); err != nil {
		return fmt.Errorf("report the status of %s to Omni: %w", ShortID(m.ID), err)
	}

	return nil
}

func (c *Controller) reportSeen(ctx context.Context, m Machine, facts policy.Facts) error {
	c.mu.Lock()
	asked := c.live(m.ID).boot.asked
	c.mu.Unlock()

	want := &specs.MachineStatusSpec{
		AgentAccessible: facts.AgentConnected,
		PowerState:      specs.PowerState(facts.Power), //nolint:gosec // three values
		Initialized:     asked || (m.Seen != nil && m.Seen.TypedSpec().Value.Initialized),
	}

	if m.Seen != nil && proto.Equal(m.Seen.TypedSpec().Value, want) {
		return nil
	}

	return modify(ctx, c, resources.NewMachineStatus(c.cfg.ProviderID, m.ID), resources.MachineStatusController, func(r *resources.MachineStatus) {
		r.TypedSpec().Value = want
		r.Metadata().Finalizers().Add(resources.Owner(c.cfg.ProviderID, resources.RebootStatusController))
	})
}

func (c *Controller) reportOmni(ctx context.Context, m Machine, facts policy.Facts) error {
	want := statusFor(m, facts)
	labels := c.labelsFor(m)

	if m.Reported != nil && proto.Equal(m.Reported.TypedSpec().Value, want) && sameLabels(m.Reported, labels) {
		return nil
	}

	return modify(ctx, c, infra.NewMachineStatus(m.ID), resources.InfraMachineStatusController, func(r *infra.MachineStatus) {
		r.TypedSpec().Value = want
		setLabels(r, labels)
	})
}

// statusFor is the infra.MachineStatus that the facts and records make.
func statusFor(m Machine, facts policy.Facts) *omnispecs.InfraMachineStatusSpec {
	status := &omnispecs.InfraMachineStatusSpec{
		PowerState: omnispecs.InfraMachineStatusSpec_MachinePowerState(facts.Power), //nolint:gosec // three values
		ReadyToUse: facts.ReadyToUse(),
		Installed:  facts.Installed(),
	}

	if m.Reboot != nil {
		status.LastRebootId = m.Reboot.TypedSpec().Value.LastRebootId
		status.LastRebootTimestamp = m.Reboot.TypedSpec().Value.LastRebootTimestamp
	}

	if m.Wipe != nil {
		status.WipedNodeUniqueToken = m.Wipe.TypedSpec().Value.WipedNodeUniqueToken
	}

	if facts.PowerOffActive() {
		status.LastPowerOffId = facts.LastPowerOffID
	}

	return status
}

// labelsFor are the labels of a machine's status: the provider's, the
// operator's, and the cluster labels of its infra.Machine.
func (c *Controller) labelsFor(m Machine) map[string]string {
	labels := map[string]string{omni.LabelInfraProviderID: c.cfg.ProviderID}

	for key, value := range c.cfg.Labels {
		labels[key] = value
	}

	for _, key := range mirroredLabels {
		if value, ok := m.Infra.Metadata().Labels().Get(key); ok {
			labels[key] = value
		}
	}

	return labels
}

// mirroredLabels are those of an infra.Machine in a cluster.
var mirroredLabels = []string{
	omni.LabelCluster, omni.LabelMachineSet, omni.LabelControlPlaneRole, omni.LabelWorkerRole,
}

// systemLabel tells whether a label is Omni's own and not ours to clear.
func systemLabel(key string) bool {
	for _, ours := range mirroredLabels {
		if key == ours {
			return false
		}
	}

	return strings.HasPrefix(key, omni.SystemLabelPrefix)
}

func sameLabels(r *infra.MachineStatus, want map[string]string) bool {
	for key, value := range want {
		if got, ok := r.Metadata().Labels().Get(key); !ok || got != value {
			return false
		}
	}

	return len(staleLabels(r, want)) == 0
}

// staleLabels are those that we once set and that hold no more.
func staleLabels(r *infra.MachineStatus, want map[string]string) []string {
	var stale []string

	for _, key := range r.Metadata().Labels().Keys() {
		if _, ok := want[key]; !ok && !systemLabel(key) {
			stale = append(stale, key)
		}
	}

	return stale
}

func setLabels(r *infra.MachineStatus, want map[string]string) {
	for _, key := range staleLabels(r, want) {
		r.Metadata().Labels().Delete(key)
	}

	for key, value := range want {
		r.Metadata().Labels().Set(key, value)
	}
}
