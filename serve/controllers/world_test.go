package controllers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/controllers"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/resources"
)

const provider = "bare-metal"

// world is Omni, some boards and one serve, in virtual time. Every act that
// reaches a board is judged at once against what Omni says then.
type world struct {
	t      *testing.T
	omni   state.State // the truth
	link   *link       // the provider's way to it
	dir    string
	boards map[string]*board
	ids    []string

	mu       sync.Mutex
	ctrl     *controllers.Controller
	stop     context.CancelFunc
	stopped  chan struct{}
	edited   map[string]time.Time // of a machine, in Omni
	over     bool
	broken   []string
	wipeSeq  int
	acts     int
	begun    time.Time
	loglevel slog.Level

	disruptions int // the limit in ten minutes
	polls       int // at once
	events      []localapi.Event
	powerRead   func(time.Duration, error)
}

func newWorld(t *testing.T, machines int) *world {
	t.Helper()

	w := &world{
		t: t, dir: t.TempDir(), boards: map[string]*board{}, edited: map[string]time.Time{}, begun: time.Now(),
		omni: state.WrapCore(namespaced.NewState(inmem.Build)), loglevel: slog.LevelError, disruptions: 100, polls: 8,
	}
	w.link = newLink(judged{w.omni, w})

	for i := range machines {
		id := fmt.Sprintf("7f000000-0000-4000-8000-%012x", i)
		w.ids = append(w.ids, id)
		w.boards[id] = &board{id: id, world: w, users: map[string]string{}}
	}

	return w
}

func (w *world) start() {
	ctx, cancel := context.WithCancel(context.Background())

	ctrl, err := controllers.New(controllers.Config{
		ProviderID: provider, State: state.WrapCore(w.link), Power: w, Agents: w, Assets: w,
		Log:               slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: w.loglevel})),
		MinRebootInterval: 15 * time.Minute, MaxDisruptions: w.disruptions, MaxStaleness: 10 * time.Minute,
		PollInterval: 30 * time.Second, PollConcurrency: w.polls, PollTimeout: 5 * time.Second, PowerRead: w.powerRead,
		PXEMode: power.ModeUEFI, DiskMethod: func(boot.Machine) boot.DiskMethod { return boot.DiskExit },
		StateDir: w.dir, Observe: w.observe,
	})
	if err != nil {
		w.t.Fatal(err)
	}

	stopped := make(chan struct{})

	w.mu.Lock()
	w.ctrl, w.stop, w.stopped = ctrl, cancel, stopped
	w.mu.Unlock()

	go func() {
		defer close(stopped)
		ctrl.Run(ctx)
	}()
}

func (w *world) observe(e localapi.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.events = append(w.events, e)
}

// crash ends serve in the middle of whatever it does: nothing can be written any
// more from that moment on.
func (w *world) crash() {
	w.mu.Lock()
	stop, stopped := w.stop, w.stopped
	w.ctrl = nil
	w.mu.Unlock()

	stop()
	<-stopped
}

func (w *world) end() {
	w.crash()

	w.mu.Lock()
	w.over = true
	w.mu.Unlock()

	// Virtual time stops with the test's own goroutine: what sleeps must wake before.
	time.Sleep(10 * time.Minute)
}

func (w *world) decide(id string) (boot.Decision, error) {
	w.mu.Lock()
	ctrl, over := w.ctrl, w.over
	w.mu.Unlock()

	switch {
	case over:
		return boot.Decision{Kind: boot.Disk}, nil // lets the firmware's loop end
	case ctrl == nil:
		return boot.Decision{}, errors.New("no serve")
	}

	d, err := ctrl.Decide(context.Background(), boot.Machine{UUID: id, Serial: "S" + id, Manufacturer: "Acme", Product: "Box " + id[:4], Arch: "amd64"})
	if err == nil && d.Kind == boot.Talos {
		go w.installs(id)
	}

	return d, err
}

func (w *world) enqueue(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if w.ctrl != nil {
		w.ctrl.Enqueue(id)
	}
}

// installs is a Talos that was booted for a cluster: Omni has it installed, if
// the machine still is in the cluster and said to be ready.
func (w *world) installs(id string) {
	b := w.boards[id]

	b.mu.Lock()
	n := b.bootedAt
	b.mu.Unlock()

	time.Sleep(90 * time.Second)

	status, err := safe.StateGet[*infra.MachineStatus](context.Background(), w.omni, infra.NewMachineStatus(id).Metadata())
	if err != nil || !status.TypedSpec().Value.ReadyToUse {
		return
	}

	m := w.machine(id)

	b.mu.Lock()
	installs := m != nil && m.TypedSpec().Value.ClusterTalosVersion != "" && b.bootedAt == n && b.on
	b.installed = b.installed || installs
	b.mu.Unlock()

	if installs {
		w.edit(id, func(s *specs.InfraMachineSpec) { s.InstallEventId++ })
	}
}

// machine is the truth about a machine, or nil.
func (w *world) machine(id string) *infra.Machine {
	m, err := safe.StateGet[*infra.Machine](context.Background(), w.omni, infra.NewMachine(id).Metadata())
	if err != nil {
		return nil
	}

	return m
}

// edit changes an infra.Machine that lives, as Omni does.
func (w *world) edit(id string, change func(*specs.InfraMachineSpec)) bool {
	m := w.machine(id)
	if m == nil || m.Metadata().Phase() != resource.PhaseRunning {
		return false
	}

	w.mu.Lock()
	w.edited[id] = time.Now()
	w.mu.Unlock()

	_, err := w.omni.UpdateWithConflicts(context.Background(), m.Metadata(), func(r resource.Resource) error {
		change(r.(*infra.Machine).TypedSpec().Value) //nolint:forcetypeassert // a test

		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}

	return true
}

func (w *world) join(id string) {
	m := infra.NewMachine(id)
	m.TypedSpec().Value.PreferredPowerState = specs.InfraMachineSpec_POWER_STATE_ON

	w.mu.Lock()
	w.edited[id] = time.Now()
	w.mu.Unlock()

	if err := w.omni.Create(context.Background(), m); err != nil && !state.IsConflictError(err) {
		w.t.Fatal(err)
	}
}

func (w *world) remove(id string) {
	if w.machine(id) == nil {
		return
	}

	w.mu.Lock()
	w.edited[id] = time.Now()
	w.mu.Unlock()

	if _, err := w.omni.Teardown(context.Background(), infra.NewMachine(id).Metadata()); err != nil {
		w.t.Fatal(err)
	}
}

// bury destroys machines that everybody has released, as Omni does.
func (w *world) bury() {
	for _, id := range w.ids {
		m := w.machine(id)
		if m == nil || m.Metadata().Phase() == resource.PhaseRunning || !m.Metadata().Finalizers().Empty() {
			continue
		}

		if err := w.omni.Destroy(context.Background(), m.Metadata()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// wait lets time pass, and Omni bury its dead in between.
func (w *world) wait(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(2*time.Second, time.Until(end)))
		synctest.Wait()
		w.bury()
	}
}

func (w *world) violated(id, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.broken = append(w.broken, fmt.Sprintf("%s %s: %s", time.Since(w.begun), id[len(id)-2:], fmt.Sprintf(format, args...)))
}

// justEdited tells whether Omni changed the machine a moment ago: an act that
// was under way then could not know.
func (w *world) justEdited(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()

	return time.Since(w.edited[id]) < time.Second
}

// judgeMachine is what every act needs: an accepted machine, not cordoned.
func (w *world) judgeMachine(id, act string) *infra.Machine {
	w.mu.Lock()
	w.acts++
	w.mu.Unlock()

	m := w.machine(id)
	if w.justEdited(id) {
		return nil
	}

	switch {
	case m == nil:
		w.violated(id, "%s on an unknown machine", act)
	case m.TypedSpec().Value.AcceptanceStatus != specs.InfraMachineConfigSpec_ACCEPTED:
		w.violated(id, "%s on a machine that is not accepted", act)
	case m.TypedSpec().Value.Cordoned:
		w.violated(id, "%s on a cordoned machine", act)
	default:
		return m
	}

	return nil
}

func (w *world) judgeAccess(id string) {
	if m := w.judgeMachine(id, "BMC set-up"); m != nil && m.Metadata().Phase() != resource.PhaseRunning {
		w.violated(id, "BMC set-up on a machine that is removed")
	}
}

func (w *world) wipeStatus(id string) *resources.WipeStatus {
	s, err := safe.StateGet[*resources.WipeStatus](context.Background(), w.omni, resources.NewWipeStatus(provider, id).Metadata())
	if err != nil {
		return nil
	}

	return s
}

func (w *world) judgeWipe(id string) string {
	m := w.judgeMachine(id, "wipe")
	if m == nil {
		if m = w.machine(id); m == nil {
			return ""
		}

		return m.TypedSpec().Value.WipeId
	}

	spec := m.TypedSpec().Value
	done := w.wipeStatus(id)

	if m.Metadata().Phase() != resource.PhaseRunning {
		w.violated(id, "wipe of a machine that is removed")
	}

	if done != nil && done.TypedSpec().Value.InitialWipeDone && done.TypedSpec().Value.LastWipeId == spec.WipeId {
		w.violated(id, "wipe %q was recorded already", spec.WipeId)
	}

	if done == nil && spec.ClusterTalosVersion != "" && spec.InstallEventId > 0 {
		w.violated(id, "wipe of a cluster machine whose record is gone")
	}

	if _, err := w.omni.Get(context.Background(), resources.NewBMCConfiguration(provider, id).Metadata()); err != nil {
		w.violated(id, "wipe without BMC access: %v", err)
	}

	return spec.WipeId
}

// judgePower judges a power act, or a boot override (0).
func (w *world) judgePower(id string, action power.Action) {
	m := w.judgeMachine(id, "power "+action.String())
	if m == nil {
		return
	}

	spec := m.TypedSpec().Value

	if m.Metadata().Phase() != resource.PhaseRunning {
		if action != 0 && action != power.Cycle {
			w.violated(id, "power %s at its removal", action)
		}

		return
	}

	var wipedEvent uint64

	wiped := w.wipeStatus(id)
	if wiped != nil {
		wipedEvent = wiped.TypedSpec().Value.LastWipeInstallEventId
	}

	pending := wiped == nil || !wiped.TypedSpec().Value.InitialWipeDone || wiped.TypedSpec().Value.LastWipeId != spec.WipeId
	inUse := spec.ClusterTalosVersion != "" && spec.InstallEventId > wipedEvent && !pending

	if inUse && action == power.Off {
		w.violated(id, "power off of a cluster machine")
	}

	if inUse && action == power.Cycle && spec.RequestedRebootId == w.lastReboot(id) {
		w.violated(id, "reboot of a cluster machine that nobody asked for")
	}
}

func (w *world) lastReboot(id string) string {
	s, err := safe.StateGet[*resources.RebootStatus](context.Background(), w.omni, resources.NewRebootStatus(provider, id).Metadata())
	if err != nil {
		return ""
	}

	return s.TypedSpec().Value.LastRebootId
}

// judgeStatus judges what the provider reports.
func (w *world) judgeStatus(r *infra.MachineStatus) {
	id := r.Metadata().ID()
	m := w.machine(id)

	if !r.TypedSpec().Value.ReadyToUse || m == nil || w.justEdited(id) {
		return
	}

	b := w.boards[id]

	b.mu.Lock()
	wiped := slices.Contains(b.wipes, m.TypedSpec().Value.WipeId)
	b.mu.Unlock()

	if !wiped {
		w.violated(id, "ready to use, but wipe %q never happened", m.TypedSpec().Value.WipeId)
	}

	if _, err := w.omni.Get(context.Background(), resources.NewBMCConfiguration(provider, id).Metadata()); err != nil {
		w.violated(id, "ready to use without BMC access")
	}
}

// judged lets the world see what the provider writes.
type judged struct {
	state.CoreState

	w *world
}

func (j judged) Create(ctx context.Context, r resource.Resource, o ...state.CreateOption) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}

	if s, ok := r.(*infra.MachineStatus); ok {
		j.w.judgeStatus(s)
	}

	return j.CoreState.Create(ctx, r, o...)
}

func (j judged) Update(ctx context.Context, r resource.Resource, o ...state.UpdateOption) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}

	if s, ok := r.(*infra.MachineStatus); ok {
		j.w.judgeStatus(s)
	}

	return j.CoreState.Update(ctx, r, o...)
}

func (j judged) Destroy(ctx context.Context, p resource.Pointer, o ...state.DestroyOption) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}

	return j.CoreState.Destroy(ctx, p, o...)
}
