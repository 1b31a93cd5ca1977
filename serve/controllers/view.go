package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/policy"
	"github.com/bmctl/bmctl/serve/resources"
	"github.com/bmctl/bmctl/serve/resources/specs"
)

var (
	// ErrNotFound: no such machine is known.
	ErrNotFound = errors.New("no such machine")
	// ErrNotYet: nothing can be said or done now, and the same may succeed later.
	ErrNotYet = errors.New("not yet")
	// ErrNotHeld: there is no hold to lift.
	ErrNotHeld = errors.New("not held")
)

// Machines returns every machine that Omni knows, sorted by id, or ErrNotYet.
func (c *Controller) Machines() ([]localapi.Machine, error) {
	if !c.known.Complete() {
		return nil, fmt.Errorf("the machines: %w: Omni's list is not complete", ErrNotYet)
	}

	ids := c.known.IDs()
	machines := make([]localapi.Machine, 0, len(ids))

	for _, id := range ids {
		if m, err := c.View(id); err == nil {
			machines = append(machines, m)
		}
	}

	return machines, nil
}

// listed returns what is known of a machine that Omni knows. Before every kind
// was listed a machine would look as if its records were lost: that is ErrNotYet.
func (c *Controller) listed(id string) (Machine, error) {
	if !c.known.Complete() {
		return Machine{}, fmt.Errorf("%s: %w: Omni's list is not complete", id, ErrNotYet)
	}

	m := c.known.Machine(id)
	if m.Infra == nil {
		return Machine{}, fmt.Errorf("%s: %w", id, ErrNotFound)
	}

	return m, nil
}

// clusterOf says which cluster the machine is in, and as what, by the labels that
// Omni keeps on it while it is.
func clusterOf(m Machine) (cluster, role string) {
	labels := m.Infra.Metadata().Labels()
	cluster, _ = labels.Get(omni.LabelCluster)

	if _, ok := labels.Get(omni.LabelControlPlaneRole); ok {
		return cluster, localapi.RoleControlPlane
	}

	if _, ok := labels.Get(omni.LabelWorkerRole); ok {
		return cluster, localapi.RoleWorker
	}

	return cluster, ""
}

// View returns one machine as people are shown it, ErrNotFound or ErrNotYet.
func (c *Controller) View(id string) (localapi.Machine, error) {
	m, err := c.listed(id)
	if err != nil {
		return localapi.Machine{}, err
	}

	facts := c.facts(m)
	plan := policy.PlanFor(facts)
	cluster, role := clusterOf(m)
	kept := c.store.machine(id)

	c.mu.Lock()
	defer c.mu.Unlock()

	l := c.live(id)
	status, reason := statusOf(facts, plan, l)

	v := localapi.Machine{
		ID:            id,
		Power:         powerWord(facts.Power),
		PowerAt:       l.powerAt,
		LastPower:     l.lastPower(),
		Status:        status,
		Reason:        reason,
		Cluster:       cluster,
		Role:          role,
		TalosVersion:  m.Infra.TypedSpec().Value.ClusterTalosVersion,
		ReadyToUse:    m.Reported != nil && m.Reported.TypedSpec().Value.ReadyToUse,
		Installed:     facts.Installed(),
		BMC:           localapi.BMC{LatencySeconds: l.latency.Seconds(), Error: l.bmcErr},
		LastEvent:     localapi.LastEvent{At: l.lastAt, Text: l.lastText},
		Labels:        map[string]string{},
		Accepted:      facts.Acceptance == policy.Accepted,
		AcceptPending: facts.Acceptance == policy.Pending,
		Cordoned:      facts.Cordoned,
		Held:          facts.Held(),
		MAC:           l.boot.mac,
		Address:       l.boot.addr,
		Serial:        cmp.Or(kept.Serial, l.boot.serial),
		Vendor:        cmp.Or(l.boot.vendor, kept.Vendor),
		Model:         cmp.Or(l.boot.model, kept.Model),
		FirstSeen:     firstOf(kept.FirstSeen, firstOf(l.boot.firstSeen, m.Infra.Metadata().Created())),
		AgentSince:    l.agentSince,
		BootDecision:  [...]string{"wait", "agent", "talos", "disk"}[plan.Boot],
		BootReason:    plan.BootReason,
		BootAttempt:   l.boot.attempt.number,
		Stage:         stageOf(facts, status, l),
	}

	v.BMC.Protocol, v.BMC.Address = l.access(m)
	v.Name = c.name(id, v.BMC.Address)

	for key, value := range c.cfg.Labels {
		v.Labels[key] = value
	}

	return v, nil
}

func firstOf(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}

	return t
}

// access is the protocol and address of the machine's BMC, without credentials.
func (l *live) access(m Machine) (protocol, address string) {
	if m.BMC == nil {
		return "", ""
	}

	spec := m.BMC.TypedSpec().Value
	if spec.GetApi() != nil {
		return "api", spec.Api.Address
	}

	return string(l.protocol), spec.GetIpmi().GetAddress()
}

// statusOf is the one word for a machine, and the reason behind it.
func statusOf(f policy.Facts, plan policy.Plan, l *live) (status, reason string) {
	switch {
	case f.TearingDown:
		return localapi.StatusRemoving, plan.Reason
	case f.Acceptance == policy.Rejected:
		return localapi.StatusRejected, "rejected by the operator"
	case f.Acceptance == policy.Pending:
		return localapi.StatusPending, "waits to be accepted"
	case f.Cordoned:
		return localapi.StatusCordoned, "cordoned by the operator"
	case f.Held() != "":
		return localapi.StatusError, "held: " + f.Held()
	case l.failure() != "":
		return localapi.StatusError, l.failure()
	case l.lost:
		return localapi.StatusError, "bmc: " + l.bmcErr
	case f.Wiping:
		return localapi.StatusWiping, "wiping for " + time.Since(l.jobSince).Round(time.Second).String()
	case !f.ReadyToUse():
		return localapi.StatusAccepted, plan.Reason
	default:
		return statusOfReady(f, plan)
	}
}

func statusOfReady(f policy.Facts, plan policy.Plan) (status, reason string) {
	switch {
	case f.PowerOffActive():
		return localapi.StatusOffRequested, "a power-off was requested in Omni"
	case f.Allocated && f.Installed() && f.Power == policy.PowerOn:
		return localapi.StatusRunning, plan.Reason
	case f.Allocated:
		return localapi.StatusBooting, plan.BootReason
	default:
		return localapi.StatusReady, plan.Reason
	}
}

// stageOf is how far the machine's boot has come, while it boots.
func stageOf(f policy.Facts, status string, l *live) string {
	const lasts = 10 * time.Minute

	switch {
	case f.AgentConnected:
		return "agent"
	case f.Power == policy.PowerOff || status == localapi.StatusRunning || time.Since(l.boot.stageAt) > lasts:
		return ""
	default:
		return l.boot.stage
	}
}

// Release lifts the hold of a machine: the operator says that its board is the
// right one, and that a machine whose record was lost is in use as it is and must
// not be wiped. A hold whose cause lasts (two agents, a BMC that refuses) comes
// back by itself. Errors are ErrNotFound, ErrNotHeld, ErrNotYet, or say why
// nothing can be recorded.
func (c *Controller) Release(ctx context.Context, id, reason, by string) error {
	m, err := c.listed(id)
	if err != nil {
		return err
	}

	if c.facts(m).Held() == "" {
		return fmt.Errorf("%s: %w", ShortID(id), ErrNotHeld)
	}

	if m.facts().LostState() {
		if !c.mayWrite() {
			return fmt.Errorf("%s: %w: %s", ShortID(id), ErrNotYet, c.Idle())
		}

		if err := c.adopt(ctx, m); err != nil {
			return err
		}
	}

	c.mu.Lock()
	l := c.live(id)
	serial := l.serial
	l.distrustBMC = ""
	c.mu.Unlock()

	if err := c.store.trust(id, serial); err != nil {
		return fmt.Errorf("%s: %w", ShortID(id), err)
	}

	c.log.Info("hold released", "machine_id", id, "reason", reason, "by", by)
	c.observe(id, "held", "released by "+by, reason)
	c.Enqueue(id)

	return nil
}

// adopt records a machine whose record was lost as one that was wiped before its
// present life began: installed, and not to be wiped until it is deallocated.
func (c *Controller) adopt(ctx context.Context, m Machine) error {
	spec := m.Infra.TypedSpec().Value

	return modify(ctx, c, resources.NewWipeStatus(c.cfg.ProviderID, m.ID), resources.WipeStatusController, func(r *resources.WipeStatus) {
		r.TypedSpec().Value = &specs.WipeStatusSpec{
			LastWipeId: spec.WipeId, InitialWipeDone: true, WipedNodeUniqueToken: spec.NodeUniqueToken,
		}
	})
}

// Idle says why no machine is acted upon at present; empty: they are.
func (c *Controller) Idle() string {
	switch {
	case !c.known.Complete():
		return "Omni's list is not complete yet"
	case c.known.Age() >= c.cfg.MaxStaleness:
		return "Omni has been away too long"
	default:
		return c.lease.idle()
	}
}
