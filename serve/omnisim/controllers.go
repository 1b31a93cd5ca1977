package omnisim

import (
	"context"
	"fmt"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
)

// Omni's controllers own what they write, and hold what they still need.
const (
	machineOwner = "InfraMachineController"
	bmcOwner     = "BMCConfigController"
)

// startControllers follows everything that a machine's resources depend on and
// brings them up to date after each change.
func (s *Server) startControllers() error {
	events := make(chan state.Event)

	for namespace, types := range map[resource.Namespace][]resource.Type{
		resources.DefaultNamespace: {
			siderolink.LinkType, omni.InfraMachineConfigType, omni.InfraMachineBMCConfigType, omni.MachineLabelsType, omni.ClusterMachineType,
		},
		resources.InfraProviderNamespace: {
			infra.InfraMachineType, infra.InfraMachineStatusType, infra.BMCConfigType, infra.InfraProviderStatusType,
		},
	} {
		for _, typ := range types {
			kind := resource.NewMetadata(namespace, typ, "", resource.VersionUndefined)
			if err := s.store.state.WatchKind(s.ctx, kind, events, state.WithBootstrapContents(typ == siderolink.LinkType)); err != nil {
				return fmt.Errorf("watch %s: %w", typ, err)
			}
		}
	}

	s.tasks.Go(func() {
		for {
			select {
			case event := <-events:
				if err := s.handle(event); err != nil && s.ctx.Err() == nil {
					s.log.Error("omnisim could not follow a change", "error", err)
				}
			case <-s.ctx.Done():
				return
			}
		}
	})

	return s.resumeRemovals()
}

// handle brings the machines up to date that an event may concern.
func (s *Server) handle(event state.Event) error {
	switch event.Type {
	case state.Errored:
		return event.Error
	case state.Bootstrapped, state.Noop:
		return nil
	case state.Created, state.Updated, state.Destroyed:
	}

	if event.Resource.Metadata().Type() == infra.InfraProviderStatusType {
		return s.reconcileAll()
	}

	if wentOff(event) {
		if err := s.disconnect(event.Resource.Metadata().ID()); err != nil {
			return err
		}
	}

	return s.reconcile(event.Resource.Metadata().ID())
}

func (s *Server) reconcileAll() error {
	links, err := safe.StateListAll[*siderolink.Link](s.ctx, s.store.state)
	if err != nil {
		return err
	}

	return links.ForEachErr(func(link *siderolink.Link) error {
		return s.reconcile(link.Metadata().ID())
	})
}

// wentOff tells whether the provider has just reported that a machine is off.
func wentOff(event state.Event) bool {
	off := func(res resource.Resource) bool {
		status, ok := res.(*infra.MachineStatus)

		return ok && status.TypedSpec().Value.PowerState == specs.InfraMachineStatusSpec_POWER_STATE_OFF
	}

	return event.Type != state.Destroyed && off(event.Resource) && !off(event.Old)
}

// disconnect notes what WireGuard would notice: the machine is gone.
func (s *Server) disconnect(id string) error {
	_, err := safe.StateUpdateWithConflicts(s.ctx, s.store.state, linkPointer(id), func(r *siderolink.Link) error {
		r.TypedSpec().Value.Connected = false

		return nil
	}, state.WithExpectedPhaseAny())
	if state.IsNotFoundError(err) {
		return nil
	}

	return err
}

func linkPointer(id string) resource.Pointer {
	return siderolink.NewLink(id, &specs.SiderolinkSpec{}).Metadata()
}

// get returns the resource, or false where there is none.
func get[T resource.Resource](ctx context.Context, st state.State, ptr resource.Pointer) (T, bool, error) {
	res, err := safe.StateGet[T](ctx, st, ptr)
	if state.IsNotFoundError(err) {
		return res, false, nil
	}

	return res, err == nil, err
}

// reconcile brings all that Omni derives for one machine up to date.
func (s *Server) reconcile(id string) error {
	s.reconcileMu.Lock()
	defer s.reconcileMu.Unlock()

	link, linked, err := get[*siderolink.Link](s.ctx, s.store.state, linkPointer(id))
	if err != nil {
		return err
	}

	switch {
	case linked && link.Metadata().Phase() == resource.PhaseTearingDown:
		return s.release(id)
	case linked:
		return s.reconcileLinked(link)
	default:
		return s.releaseOrphan(id)
	}
}

func (s *Server) reconcileLinked(link *siderolink.Link) error {
	providerID, ok := link.Metadata().Labels().Get(omni.LabelInfraProviderID)
	if !ok {
		return nil // a machine of no provider
	}

	static, err := s.isStatic(providerID)
	if err != nil || !static {
		return err
	}

	if err := s.store.state.AddFinalizer(s.ctx, link.Metadata(), machineOwner); err != nil {
		return err
	}

	facts, err := s.gather(link)
	if err != nil {
		return err
	}

	err = safe.StateModify(s.ctx, s.store.state, infra.NewMachine(link.Metadata().ID()), func(r *infra.Machine) error {
		facts.apply(r)

		return nil
	}, state.WithUpdateOwner(machineOwner), state.WithExpectedPhaseAny())
	if err != nil {
		return err
	}

	if err := s.reconcileBMCConfig(link.Metadata().ID(), providerID); err != nil {
		return err
	}

	return s.showProviderLabels(link.Metadata().ID(), providerID)
}

// isStatic tells whether the provider said that it works on machines that
// exist; for another one Omni makes no infra.Machine.
func (s *Server) isStatic(providerID string) (bool, error) {
	status, ok, err := get[*infra.ProviderStatus](s.ctx, s.store.state, infra.NewProviderStatus(providerID).Metadata())
	if err != nil || !ok {
		return false, err
	}

	_, static := status.Metadata().Labels().Get(omni.LabelIsStaticInfraProvider)

	return static, nil
}

// reconcileBMCConfig copies the user's BMC access for the provider.
func (s *Server) reconcileBMCConfig(id, providerID string) error {
	user, ok, err := get[*omni.InfraMachineBMCConfig](s.ctx, s.store.state, omni.NewInfraMachineBMCConfig(id).Metadata())
	if err != nil {
		return err
	}

	if !ok || user.Metadata().Phase() == resource.PhaseTearingDown {
		_, err = s.drop(infra.NewBMCConfig(id).Metadata(), bmcOwner)

		return err
	}

	return safe.StateModify(s.ctx, s.store.state, infra.NewBMCConfig(id), func(r *infra.BMCConfig) error {
		r.Metadata().Labels().Set(omni.LabelInfraProviderID, providerID)
		r.TypedSpec().Value.Config = user.TypedSpec().Value

		return nil
	}, state.WithUpdateOwner(bmcOwner))
}

// showProviderLabels shows the labels that the provider and the user gave the
// machine on Omni's own MachineStatus, which exists once Omni knows the machine.
func (s *Server) showProviderLabels(id, providerID string) error {
	status, ok, err := get[*infra.MachineStatus](s.ctx, s.store.state, infra.NewMachineStatus(id).Metadata())
	if err != nil || !ok {
		return err
	}

	prefix := fmt.Sprintf(omni.InfraProviderLabelPrefixFormat, providerID)

	_, err = safe.StateUpdateWithConflicts(s.ctx, s.store.state, omni.NewMachineStatus(id).Metadata(), func(r *omni.MachineStatus) error {
		for key := range r.Metadata().Labels().Raw() {
			if strings.HasPrefix(key, prefix) {
				r.Metadata().Labels().Delete(key)
			}
		}

		for key, value := range status.Metadata().Labels().Raw() {
			if !strings.HasPrefix(key, omni.SystemLabelPrefix) {
				r.Metadata().Labels().Set(prefix+key, value)
			}
		}

		return nil
	})
	if state.IsNotFoundError(err) {
		return nil
	}

	return err
}
