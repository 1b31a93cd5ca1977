package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	join "github.com/siderolabs/omni/client/pkg/siderolink"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bmctl/bmctl/serve/resources"
)

// Knowledge is what we know of Omni: a local copy of every resource that
// decisions depend on, kept by watches. It outlives lost connections: boot
// requests are answered from it while Omni is away.
//
// Our own writes are put into it at once, so that a decision never rests on a
// record older than our last act.
type Knowledge struct {
	provider string
	log      *slog.Logger

	// onChange is called, without locks held, with the id of a machine that changed.
	onChange func(id string)

	mu       sync.RWMutex
	machines map[string]*Machine
	ids      []string // of machines, sorted; nil: to be made anew
	single   map[resource.Type]resource.Resource
	written  map[string]bool // by us since these watches began, by type and id
	complete bool            // every kind was listed once
	watching bool            // the watches of this connection all stand
	freshAt  time.Time
	since    time.Time
	lastErr  error
	retryAt  time.Time // when the watches are started anew
}

// NewKnowledge returns empty knowledge of the provider.
func NewKnowledge(provider string, log *slog.Logger, onChange func(id string)) *Knowledge {
	return &Knowledge{
		provider: provider,
		log:      log,
		onChange: onChange,
		machines: map[string]*Machine{},
		single:   map[resource.Type]resource.Resource{},
		written:  map[string]bool{},
		since:    time.Now(),
	}
}

// kinds are what is watched: first what is kept per machine, then what exists
// once for the provider.
func (k *Knowledge) kinds() (perMachine, single []resource.Resource) {
	return []resource.Resource{
			infra.NewMachine(""), infra.NewBMCConfig(""), infra.NewMachineStatus(""),
			resources.NewBMCConfiguration(k.provider, ""), resources.NewMachineStatus(k.provider, ""),
			resources.NewWipeStatus(k.provider, ""), resources.NewRebootStatus(k.provider, ""),
			resources.NewPowerOperation(k.provider, ""),
		}, []resource.Resource{
			infra.NewProviderHealthStatus(""), siderolink.NewProviderJoinConfig(""), siderolink.NewConnectionParams(""),
		}
}

// Run watches until ctx ends. A watch that fails, for whatever reason, is taken
// as a lost connection: all are started anew after a back-off with jitter.
func (k *Knowledge) Run(ctx context.Context, st state.CoreState) {
	const longest = 30 * time.Second

	delay := time.Second / 4

	for ctx.Err() == nil {
		started := time.Now()
		err := k.watchAll(ctx, st)

		if ctx.Err() != nil {
			return
		}

		if time.Since(started) > longest {
			delay = time.Second / 4
		}

		pause := delay/2 + rand.N(delay/2)
		k.disconnected(err, time.Now().Add(pause))

		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}

		delay = min(2*delay, longest)
	}
}

// watchAll runs one set of watches and returns why it ended.
func (k *Knowledge) watchAll(ctx context.Context, st state.CoreState) error {
	ctx, cancel := context.WithCancel(ctx)
	perMachine, single := k.kinds()
	kinds := slices.Concat(perMachine, single)
	listed := make(chan struct{}, len(kinds))
	failed := make(chan error, len(kinds))

	k.mu.Lock()
	clear(k.written)
	k.mu.Unlock()

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	for i, kind := range kinds {
		store := func(r resource.Resource, present, _ bool) { k.storeOne(r, present) }
		if i < len(perMachine) {
			store = k.storeMachine
		}

		wg.Go(func() {
			failed <- k.watchKind(ctx, st, kind, store, func() { listed <- struct{}{} })
		})
	}

	for missing := len(kinds); ; {
		select {
		case err := <-failed:
			return err
		case <-listed:
			if missing--; missing == 0 {
				k.connected()
			}
		}
	}
}

// watchKind follows one kind. Its first complete list is the truth: what is in it
// holds also where we knew a later version, as of an Omni that was restored from a
// backup, and what we knew of that kind and is not in it is forgotten.
func (k *Knowledge) watchKind(
	ctx context.Context, st state.CoreState, kind resource.Resource, store func(r resource.Resource, present, listed bool), listed func(),
) error {
	events := make(chan []state.Event)

	err := st.WatchKindAggregated(ctx, kind.Metadata(), events, state.WithBootstrapContents(true))
	if err != nil && unknownKind(kind, err) {
		k.forgetMissing(kind, nil)
		listed()
		<-ctx.Done()

		return ctx.Err()
	}

	if err != nil {
		return fmt.Errorf("watch %s: %w", kind.Metadata().Type(), err)
	}

	current := map[resource.ID]bool{}

	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case batch := <-events:
			for _, event := range batch {
				switch event.Type {
				case state.Created, state.Updated:
					if current != nil {
						current[event.Resource.Metadata().ID()] = true
					}

					store(event.Resource, true, current != nil)
				case state.Destroyed:
					store(event.Resource, false, false)
				case state.Bootstrapped:
					k.forgetMissing(kind, current)
					current = nil
					listed()
				case state.Errored:
					return fmt.Errorf("watch %s: %w", kind.Metadata().Type(), event.Error)
				case state.Noop:
				}
			}

			k.Touch()
		}
	}
}

// unknownKind tells whether Omni is of an age that does not know the kind, of
// those that came or went with a release: how machines join.
func unknownKind(kind resource.Resource, err error) bool {
	switch kind.Metadata().Type() {
	case siderolink.ProviderJoinConfigType, siderolink.ConnectionParamsType:
	default:
		return false
	}

	switch status.Code(err) {
	case codes.PermissionDenied, codes.InvalidArgument, codes.Unimplemented, codes.NotFound:
		return !NotRegistered(err)
	default:
		return state.IsNotFoundError(err)
	}
}

// storeMachine records a resource, or its end, under the machine's id. One that is
// older than what we know is dropped, unless it is listed and what we know is not
// our own write of since then.
func (k *Knowledge) storeMachine(r resource.Resource, present, listed bool) {
	id := r.Metadata().ID()

	k.mu.Lock()

	next := Machine{ID: id}
	if known := k.machines[id]; known != nil {
		if newer(known.same(r), r) && (!listed || k.written[key(r)]) {
			k.mu.Unlock()

			return
		}

		next = *known
	}

	next.set(r, present)

	if next.empty() != (k.machines[id] == nil) {
		k.ids = nil
	}

	if next.empty() {
		delete(k.machines, id)
	} else {
		k.machines[id] = &next
	}

	k.mu.Unlock()
	k.onChange(id)
}

// newer tells whether known is a later version than r, or its successor: the
// watch lags behind our own writes.
func newer(known, r resource.Resource) bool {
	if known == nil {
		return false
	}

	was, is := known.Metadata(), r.Metadata()

	return was.Created().After(is.Created()) ||
		(was.Created().Equal(is.Created()) && was.Version().Value() > is.Version().Value())
}

// same returns the machine's resource of r's type, or nil.
func (m *Machine) same(r resource.Resource) resource.Resource {
	switch r.(type) {
	case *infra.Machine:
		return orNil(m.Infra)
	case *infra.BMCConfig:
		return orNil(m.BMCConfig)
	case *infra.MachineStatus:
		return orNil(m.Reported)
	case *resources.BMCConfiguration:
		return orNil(m.BMC)
	case *resources.MachineStatus:
		return orNil(m.Seen)
	case *resources.WipeStatus:
		return orNil(m.Wipe)
	case *resources.RebootStatus:
		return orNil(m.Reboot)
	case *resources.PowerOperation:
		return orNil(m.Power)
	default:
		return nil
	}
}

func orNil[T any, R interface {
	*T
	resource.Resource
}](r R) resource.Resource {
	if r == nil {
		return nil
	}

	return r
}

// storeOne records a resource that exists once. Of those with ids, only the
// provider's own is meant.
func (k *Knowledge) storeOne(r resource.Resource, present bool) {
	if id := r.Metadata().ID(); id != k.provider && id != siderolink.ConfigID {
		return
	}

	k.mu.Lock()
	defer k.mu.Unlock()

	if present {
		k.single[r.Metadata().Type()] = r
	} else {
		delete(k.single, r.Metadata().Type())
	}
}

func (k *Knowledge) forgetMissing(kind resource.Resource, current map[resource.ID]bool) {
	var gone []resource.Resource

	k.mu.RLock()

	for id, m := range k.machines {
		if r := m.same(kind); r != nil && !current[id] {
			gone = append(gone, r)
		}
	}

	if r := k.single[kind.Metadata().Type()]; r != nil && !current[r.Metadata().ID()] {
		gone = append(gone, r)
	}

	k.mu.RUnlock()

	for _, r := range gone {
		k.put(r, false)
	}
}

// Put records our own write, or removal, of a resource.
func (k *Knowledge) Put(r resource.Resource, present bool) {
	k.mu.Lock()
	if present {
		k.written[key(r)] = true
	} else {
		delete(k.written, key(r))
	}
	k.mu.Unlock()

	k.put(r, present)
}

func (k *Knowledge) put(r resource.Resource, present bool) {
	if (&Machine{}).holds(r) {
		k.storeMachine(r, present, false)
	} else {
		k.storeOne(r, present)
	}
}

// key tells resources apart within the kinds that are watched.
func key(r resource.Resource) string { return r.Metadata().Type() + "/" + r.Metadata().ID() }

// holds tells whether r is kept per machine.
func (*Machine) holds(r resource.Resource) bool {
	var probe Machine

	probe.set(r, true)

	return !probe.empty()
}

func (k *Knowledge) connected() {
	k.mu.Lock()
	first := !k.complete
	k.complete, k.watching, k.lastErr = true, true, nil
	k.freshAt, k.since, k.retryAt = time.Now(), time.Now(), time.Time{}
	n := len(k.machines)
	k.mu.Unlock()

	k.log.Info("connected to Omni", "machines", n)

	if first {
		for _, id := range k.IDs() {
			k.onChange(id)
		}
	}
}

func (k *Knowledge) disconnected(err error, retryAt time.Time) {
	k.mu.Lock()
	first := k.watching || k.lastErr == nil
	k.watching, k.lastErr, k.retryAt = false, err, retryAt

	if first {
		k.since = time.Now()
	}
	k.mu.Unlock()

	if first && !errors.Is(err, context.Canceled) {
		k.log.Warn("Omni does not answer; asking again", "error", err)
	}
}

// Touch notes that Omni answered just now. It counts only while every watch
// stands: an answer elsewhere does not make the copy fresh.
func (k *Knowledge) Touch() {
	k.mu.Lock()
	defer k.mu.Unlock()

	if k.watching {
		k.freshAt = time.Now()
	}
}

// Complete tells whether every kind was listed at least once since start.
func (k *Knowledge) Complete() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()

	return k.complete
}

// Age is how long ago Omni last confirmed what we know.
func (k *Knowledge) Age() time.Duration {
	k.mu.RLock()
	defer k.mu.RUnlock()

	return time.Since(k.freshAt)
}

// Connection tells whether the watches stand, since when that is so, and why not.
func (k *Knowledge) Connection() (connected bool, since time.Time, err error) {
	k.mu.RLock()
	defer k.mu.RUnlock()

	return k.watching, k.since, k.lastErr
}

// RetryAt is when Omni is asked again, or was last; zero while the watches stand.
func (k *Knowledge) RetryAt() time.Time {
	k.mu.RLock()
	defer k.mu.RUnlock()

	return k.retryAt
}

// Machine returns what is known of a machine; the zero Machine with its id when
// nothing is.
func (k *Knowledge) Machine(id string) Machine {
	k.mu.RLock()
	defer k.mu.RUnlock()

	if m := k.machines[id]; m != nil {
		return *m
	}

	return Machine{ID: id}
}

// IDs returns the ids of all known machines, sorted. They are shared: they must
// not be changed.
func (k *Knowledge) IDs() []string {
	k.mu.RLock()
	ids := k.ids
	k.mu.RUnlock()

	if ids != nil {
		return ids
	}

	k.mu.Lock()
	defer k.mu.Unlock()

	k.ids = slices.Sorted(maps.Keys(k.machines))

	return k.ids
}

// JoinConfig returns the machine config documents that make a booted Talos join
// this Omni as this provider's machine, or "" while they are not known. An Omni
// that does not make them itself tells what they are made of.
func (k *Knowledge) JoinConfig() (string, error) {
	if r, ok := k.one(siderolink.ProviderJoinConfigType).(*siderolink.ProviderJoinConfig); ok {
		return r.TypedSpec().Value.GetConfig().GetConfig(), nil
	}

	r, ok := k.one(siderolink.ConnectionParamsType).(*siderolink.ConnectionParams)
	if !ok || !k.Complete() {
		return "", nil
	}

	params := r.TypedSpec().Value

	options, err := join.NewJoinOptions(
		join.WithMachineAPIURL(params.ApiEndpoint), join.WithJoinToken(params.JoinToken), join.WithGRPCTunnel(params.UseGrpcTunnel),
		join.WithEventSinkPort(int(params.EventsPort)), join.WithLogServerPort(int(params.LogsPort)),
		join.WithProvider(infra.NewProvider(k.provider)),
	)
	if err != nil {
		return "", fmt.Errorf("make the join config from Omni's connection parameters: %w", err)
	}

	document, err := options.RenderJoinConfig()
	if err != nil {
		return "", fmt.Errorf("make the join config from Omni's connection parameters: %w", err)
	}

	return string(document), nil
}

func (k *Knowledge) health() *infra.ProviderHealthStatus {
	r, _ := k.one(infra.InfraProviderHealthStatusType).(*infra.ProviderHealthStatus)

	return r
}

func (k *Knowledge) one(t resource.Type) resource.Resource {
	k.mu.RLock()
	defer k.mu.RUnlock()

	return k.single[t]
}
