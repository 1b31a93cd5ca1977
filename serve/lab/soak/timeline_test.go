package soak_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"

	"github.com/bmctl/bmctl/serve/omnisim"
	"github.com/bmctl/bmctl/serve/resources"
)

const provider = "bare-metal"

// moment is all that Omni says of one machine at one time; nil does not exist.
type moment struct {
	at       time.Time
	machine  *infra.Machine
	reported *infra.MachineStatus
	bmc      *resources.BMCConfiguration
	wipe     *resources.WipeStatus
	reboot   *resources.RebootStatus
	power    *resources.PowerOperation
}

func (m *moment) set(r resource.Resource, present bool) {
	switch r := r.(type) {
	case *infra.Machine:
		m.machine = keepIf(r, present)
	case *infra.MachineStatus:
		m.reported = keepIf(r, present)
	case *resources.BMCConfiguration:
		m.bmc = keepIf(r, present)
	case *resources.WipeStatus:
		m.wipe = keepIf(r, present)
	case *resources.RebootStatus:
		m.reboot = keepIf(r, present)
	case *resources.PowerOperation:
		m.power = keepIf(r, present)
	}
}

func keepIf[T any](r *T, present bool) *T {
	if present {
		return r
	}

	return nil
}

// timeline is what Omni said, over time. It is filled from Omni's own state, not
// through serve's eyes.
type timeline struct {
	t *testing.T

	mu      sync.Mutex
	moments map[string][]moment // by machine id, oldest first
}

// follow watches Omni until ctx ends: each start of Omni anew.
func (l *timeline) follow(ctx context.Context, omni *omnisim.Server) {
	events := make(chan state.Event)

	for _, kind := range []resource.Resource{
		infra.NewMachine(""), infra.NewMachineStatus(""), resources.NewBMCConfiguration(provider, ""), resources.NewWipeStatus(provider, ""),
		resources.NewRebootStatus(provider, ""), resources.NewPowerOperation(provider, ""),
	} {
		if err := omni.State().WatchKind(ctx, kind.Metadata(), events, state.WithBootstrapContents(true)); err != nil {
			l.t.Fatal(err)
		}
	}

	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case event := <-events:
				l.note(event)
			}
		}
	}()
}

func (l *timeline) note(event state.Event) {
	switch event.Type {
	case state.Created, state.Updated, state.Destroyed:
	case state.Bootstrapped, state.Noop, state.Errored:
		return
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	var next moment

	id := event.Resource.Metadata().ID()
	if past := l.moments[id]; len(past) > 0 {
		next = past[len(past)-1]
	}

	next.at = time.Now()
	next.set(event.Resource, event.Type != state.Destroyed)
	l.moments[id] = append(l.moments[id], next)
}

// during returns what held at any time between from and to.
func (l *timeline) during(id string, from, to time.Time) []moment {
	l.mu.Lock()
	defer l.mu.Unlock()

	held := []moment{{}}

	for _, m := range l.moments[id] {
		switch {
		case m.at.After(to):
			return held
		case m.at.Before(from):
			held[0] = m
		default:
			held = append(held, m)
		}
	}

	return held
}

// latest returns what holds now.
func (l *timeline) latest(id string) moment {
	held := l.during(id, time.Now(), time.Now())

	return held[len(held)-1]
}

// forget drops what was long ago.
func (l *timeline) forget(before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()

	for id, moments := range l.moments {
		i := slices.IndexFunc(moments, func(m moment) bool { return !m.at.Before(before) })
		if i > 1 {
			l.moments[id] = slices.Clone(moments[i-1:])
		}
	}
}

func (m moment) known() bool { return m.machine != nil }

func (m moment) leaving() bool {
	return m.known() && m.machine.Metadata().Phase() == resource.PhaseTearingDown
}

func (m moment) accepted() bool {
	return m.known() && m.machine.TypedSpec().Value.AcceptanceStatus == 1
}

func (m moment) pending() bool {
	return m.known() && m.machine.TypedSpec().Value.AcceptanceStatus == 0
}

func (m moment) cordoned() bool { return m.known() && m.machine.TypedSpec().Value.Cordoned }

func (m moment) allocated() bool {
	return m.known() && m.machine.TypedSpec().Value.ClusterTalosVersion != ""
}

// wiped tells whether serve has recorded the wipe that is called for.
func (m moment) wiped() bool {
	return m.known() && m.wipe != nil && m.wipe.TypedSpec().Value.InitialWipeDone &&
		m.wipe.TypedSpec().Value.LastWipeId == m.machine.TypedSpec().Value.WipeId
}

func (m moment) installed() bool {
	var before uint64
	if m.wipe != nil {
		before = m.wipe.TypedSpec().Value.LastWipeInstallEventId
	}

	return m.known() && m.machine.TypedSpec().Value.InstallEventId > before
}

// inUse: a member of a cluster that must not be disturbed.
func (m moment) inUse() bool {
	return m.allocated() && m.installed() && m.wiped() && !m.leaving()
}

func (m moment) rebootWanted() bool {
	done := ""
	if m.reboot != nil {
		done = m.reboot.TypedSpec().Value.LastRebootId
	}

	return m.known() && m.machine.TypedSpec().Value.RequestedRebootId != done
}

func (m moment) offRequested() bool {
	return m.known() && m.power != nil && m.power.TypedSpec().Value.LastPowerOffId != "" &&
		m.power.TypedSpec().Value.LastPowerOffId == m.machine.TypedSpec().Value.PowerOffRequestId &&
		m.power.TypedSpec().Value.WipeIdAtPowerOff == m.machine.TypedSpec().Value.WipeId
}

// life tells one life of a machine, and one use in it, from another.
func (m moment) life() string {
	if !m.known() {
		return ""
	}

	return m.machine.Metadata().Created().UTC().Format(time.RFC3339) + m.machine.TypedSpec().Value.WipeId
}
