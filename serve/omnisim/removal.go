package omnisim

import (
	"fmt"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
)

// Remove deletes the machine's Link, as a user does. It returns once the machine
// is being torn down; the machine is gone when its provider has released it.
func (s *Server) Remove(id string) error {
	if _, err := s.store.state.Teardown(s.ctx, linkPointer(id)); err != nil {
		return fmt.Errorf("remove machine %s: %w", id, err)
	}

	s.finishLater(id)

	return s.reconcile(id)
}

// finishLater destroys the Link when the controllers have let go of it.
func (s *Server) finishLater(id string) {
	s.tasks.Go(func() {
		err := s.store.state.TeardownAndDestroy(s.ctx, linkPointer(id))
		if err != nil && !state.IsNotFoundError(err) && s.ctx.Err() == nil {
			s.log.Error("omnisim could not remove a machine", "machine_id", id, "error", err)
		}
	})
}

// resumeRemovals finishes what was under way when the server was stopped.
func (s *Server) resumeRemovals() error {
	links, err := safe.StateListAll[*siderolink.Link](s.ctx, s.store.state)
	if err != nil {
		return err
	}

	links.ForEach(func(link *siderolink.Link) {
		if link.Metadata().Phase() == resource.PhaseTearingDown {
			s.finishLater(link.Metadata().ID())
		}
	})

	return nil
}

// release takes the machine away from its provider: first what the user and
// Omni said about it, then infra.Machine, for whose finalizers it waits, then
// its hold on the Link.
func (s *Server) release(id string) error {
	for _, owned := range []struct {
		ptr   resource.Pointer
		owner string
	}{
		{omni.NewInfraMachineConfig(id).Metadata(), ""},
		{omni.NewInfraMachineBMCConfig(id).Metadata(), ""},
		{infra.NewBMCConfig(id).Metadata(), bmcOwner},
		{omni.NewClusterMachine(id).Metadata(), ""},
		{omni.NewMachineExtensions(id).Metadata(), ""},
		{infra.NewMachine(id).Metadata(), machineOwner},
		{omni.NewMachineLabels(id).Metadata(), ""},
		{omni.NewMachineStatus(id).Metadata(), ""},
		{omni.NewMachine(id).Metadata(), ""},
		{siderolink.NewNodeUniqueToken(id).Metadata(), ""},
	} {
		if gone, err := s.drop(owned.ptr, owned.owner); err != nil || !gone {
			return err
		}
	}

	err := s.store.state.RemoveFinalizer(s.ctx, linkPointer(id), machineOwner)
	if state.IsNotFoundError(err) {
		return nil
	}

	return err
}

// releaseOrphan releases a machine whose Link is gone altogether. Where there is
// no infra.Machine either, a user may have said something about a machine that
// has yet to come: that stays.
func (s *Server) releaseOrphan(id string) error {
	_, known, err := get[*infra.Machine](s.ctx, s.store.state, infra.NewMachine(id).Metadata())
	if err != nil || !known {
		return err
	}

	return s.release(id)
}

// drop tears a resource down and destroys it if nobody holds it; gone tells
// whether it exists no longer.
func (s *Server) drop(ptr resource.Pointer, owner string) (gone bool, err error) {
	ready, err := s.store.state.Teardown(s.ctx, ptr, state.WithTeardownOwner(owner))
	if state.IsNotFoundError(err) {
		return true, nil
	}

	if err != nil {
		return false, fmt.Errorf("tear down %s: %w", ptr, err)
	}

	if !ready {
		return false, nil
	}

	if err := s.store.state.Destroy(s.ctx, ptr, state.WithDestroyOwner(owner)); err != nil && !state.IsNotFoundError(err) {
		return false, fmt.Errorf("destroy %s: %w", ptr, err)
	}

	return true, nil
}
