package omnisim

import (
	"context"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// guarded is the state as the caller in the context may see and change it.
// Teardown needs no method of its own: it arrives here as Get and Update.
type guarded struct {
	core state.CoreState
}

var _ state.CoreState = (*guarded)(nil)

// check finds the caller's row for a kind and compares it with what is wanted.
func (g *guarded) check(ctx context.Context, kind resource.Kind, wanted level, act string) (*account, rule, error) {
	acc := caller(ctx)
	if acc == nil {
		return nil, rule{}, status.Error(codes.Unauthenticated, "the call has no account")
	}

	row, err := acc.ruleFor(kind)
	if err != nil {
		return nil, rule{}, err
	}

	return acc, row, acc.require(row, wanted, kind, act)
}

// existing is the stored object, unless it belongs to somebody else.
func (g *guarded) existing(ctx context.Context, acc *account, row rule, ptr resource.Pointer) (resource.Resource, error) {
	res, err := g.core.Get(ctx, ptr)
	if err != nil {
		return nil, err
	}

	if row.scoped && !acc.owns(res) {
		return nil, inmem.ErrNotFound(ptr)
	}

	return res, nil
}

func (acc *account) owns(res resource.Resource) bool {
	id, ok := res.Metadata().Labels().Get(omni.LabelInfraProviderID)

	return ok && id == acc.providerID
}

// checkID refuses to write an object whose id must be the provider's, but is not.
func (acc *account) checkID(row rule, ptr resource.Pointer) error {
	if row.ownID && ptr.ID() != acc.providerID {
		return status.Errorf(codes.InvalidArgument, "resource ID must match the infra provider ID: %q is not %q", ptr.ID(), acc.providerID)
	}

	return nil
}

func (g *guarded) Get(ctx context.Context, ptr resource.Pointer, _ ...state.GetOption) (resource.Resource, error) {
	acc, row, err := g.check(ctx, ptr, read, "read")
	if err != nil {
		return nil, err
	}

	return g.existing(ctx, acc, row, ptr)
}

func (g *guarded) Create(ctx context.Context, res resource.Resource, opts ...state.CreateOption) error {
	acc, row, err := g.check(ctx, res.Metadata(), everything, "create")
	if err != nil {
		return err
	}

	if err := acc.checkID(row, res.Metadata()); err != nil {
		return err
	}

	if row.scoped {
		res.Metadata().Labels().Set(omni.LabelInfraProviderID, acc.providerID)
	}

	return g.core.Create(ctx, res, opts...)
}

func (g *guarded) Update(ctx context.Context, res resource.Resource, opts ...state.UpdateOption) error {
	acc, row, err := g.check(ctx, res.Metadata(), finalizers, "change")
	if err != nil {
		return err
	}

	if err := acc.checkID(row, res.Metadata()); err != nil {
		return err
	}

	old, err := g.existing(ctx, acc, row, res.Metadata())
	if err != nil {
		return err
	}

	if row.level < everything {
		if err := acc.checkChange(row, old, res); err != nil {
			return err
		}
	}

	return g.core.Update(ctx, res, opts...)
}

// checkChange compares the two versions of an object of which the caller may
// change only a part. A version that is not the stored one cannot be compared;
// it is the conflict that it would be anyway.
func (acc *account) checkChange(row rule, old, changed resource.Resource) error {
	was, is := old.Metadata(), changed.Metadata()
	if !was.Version().Equal(is.Version()) {
		return inmem.ErrVersionConflict(is, is.Version(), was.Version())
	}

	rest := changed.DeepCopy()
	rest.Metadata().Finalizers().Set(*was.Finalizers())

	if row.level == remove {
		rest.Metadata().SetPhase(was.Phase())
	}

	if resource.Equal(old, rest) {
		return nil
	}

	return status.Errorf(codes.PermissionDenied, "%s may change only the finalizers of %s", acc.identity, is.Type())
}

func (g *guarded) Destroy(ctx context.Context, ptr resource.Pointer, opts ...state.DestroyOption) error {
	acc, row, err := g.check(ctx, ptr, remove, "destroy")
	if err != nil {
		return err
	}

	if err := acc.checkID(row, ptr); err != nil {
		return err
	}

	if _, err := g.existing(ctx, acc, row, ptr); err != nil {
		return err
	}

	return g.core.Destroy(ctx, ptr, opts...)
}

func (g *guarded) List(ctx context.Context, kind resource.Kind, opts ...state.ListOption) (resource.List, error) {
	acc, row, err := g.check(ctx, kind, read, "list")
	if err != nil {
		return resource.List{}, err
	}

	return g.core.List(ctx, kind, append(opts, func(o *state.ListOptions) {
		o.LabelQueries = acc.scope(row, o.LabelQueries)
	})...)
}

// scope narrows label queries to the provider's own objects. Several queries
// are alternatives, so that the condition goes into each.
func (acc *account) scope(row rule, queries resource.LabelQueries) resource.LabelQueries {
	if !row.scoped {
		return queries
	}

	if len(queries) == 0 {
		queries = resource.LabelQueries{{}}
	}

	for i := range queries {
		resource.LabelEqual(omni.LabelInfraProviderID, acc.providerID)(&queries[i])
	}

	return queries
}

func (g *guarded) watchScope(ctx context.Context, kind resource.Kind, opts []state.WatchKindOption) ([]state.WatchKindOption, error) {
	acc, row, err := g.check(ctx, kind, read, "watch")
	if err != nil {
		return nil, err
	}

	return append(opts, func(o *state.WatchKindOptions) {
		o.LabelQueries = acc.scope(row, o.LabelQueries)
	}), nil
}

func (g *guarded) WatchKind(ctx context.Context, kind resource.Kind, ch chan<- state.Event, opts ...state.WatchKindOption) error {
	opts, err := g.watchScope(ctx, kind, opts)
	if err != nil {
		return err
	}

	return g.core.WatchKind(ctx, kind, ch, opts...)
}

func (g *guarded) WatchKindAggregated(ctx context.Context, kind resource.Kind, ch chan<- []state.Event, opts ...state.WatchKindOption) error {
	opts, err := g.watchScope(ctx, kind, opts)
	if err != nil {
		return err
	}

	return g.core.WatchKindAggregated(ctx, kind, ch, opts...)
}

func (g *guarded) Watch(ctx context.Context, ptr resource.Pointer, ch chan<- state.Event, opts ...state.WatchOption) error {
	acc, row, err := g.check(ctx, ptr, read, "watch")
	if err != nil {
		return err
	}

	if !row.scoped {
		return g.core.Watch(ctx, ptr, ch, opts...)
	}

	all := make(chan state.Event)
	if err := g.core.Watch(ctx, ptr, all, opts...); err != nil {
		return err
	}

	go acc.hideOthers(ctx, ptr, all, ch)

	return nil
}

// hideOthers passes the events on, those of somebody else's object as if it did
// not exist.
func (acc *account) hideOthers(ctx context.Context, ptr resource.Pointer, all <-chan state.Event, ch chan<- state.Event) {
	for {
		var event state.Event

		select {
		case event = <-all:
		case <-ctx.Done():
			return
		}

		if (event.Type == state.Created || event.Type == state.Updated) && !acc.owns(event.Resource) {
			gone := resource.NewTombstone(resource.NewMetadata(ptr.Namespace(), ptr.Type(), ptr.ID(), resource.VersionUndefined))
			event = state.Event{Type: state.Destroyed, Resource: gone, Bookmark: event.Bookmark}
		}

		select {
		case ch <- event:
		case <-ctx.Done():
			return
		}
	}
}
