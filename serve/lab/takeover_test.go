package lab_test

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/omni/client/api/omni/specs"
	omniinfra "github.com/siderolabs/omni/client/pkg/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/lab"
	"github.com/bmctl/bmctl/serve/localapi"
)

const provider = "bare-metal"

// release is the file that this version's resources are written to: each release
// adds one of its own, and what any of them wrote must be taken over by all later.
var release = flag.String("release", "", "write the resources of TestTakeover to testdata/releases/NAME.json")

// The ids that production has given; wipe ids, reboots and power-offs are Omni's.
const (
	pastReboot  = "00000000-0000-4000-8000-00000000beef"
	offRequest  = "00000000-0000-4000-8000-0000000000ff"
	secondWipe  = "00000000-0000-4000-8000-000000000002"
	bmcPassword = "Talos-agent-pw-1" //nolint:gosec // a BMC that is not there
)

// site is five machines in production's shapes.
type site struct {
	*lab.Lab

	used, cordoned, off, leaving, idle *lab.Machine
}

// production brings machines where production has them, and then stops serve.
func production(t *testing.T, subnet int) site {
	t.Helper()

	l := start(t, lab.Config{Machines: 5, Seed: 7, Speed: 4, MinRebootInterval: time.Second, Subnet: subnet})
	m := l.Machines()
	s := site{l, m[0], m[1], m[2], m[3], m[4]}

	acceptAll(t, l)

	for _, m := range l.Machines() {
		settled(t, l, m)
	}

	for _, m := range []*lab.Machine{s.used, s.cordoned, s.off} {
		must(t, l.Omni().Allocate(m.UUID, "prod", "1.13.5", nil))
	}

	for _, m := range []*lab.Machine{s.used, s.cordoned, s.off} {
		eventually(t, l, m.Name+" runs", func() bool { return view(t, l, m).Status == localapi.StatusRunning && m.Installed() })
	}

	l.KillServe()

	cordon(t, l, s.cordoned, true)
	must(t, l.Omni().Configure(s.used.UUID, func(c *specs.InfraMachineConfigSpec) { c.RequestedRebootId = pastReboot }))
	must(t, l.Omni().Configure(s.off.UUID, func(c *specs.InfraMachineConfigSpec) { c.PowerOffRequestId = offRequest }))
	s.off.BMC.Shutdown()
	must(t, l.Omni().Remove(s.leaving.UUID))

	_, err := l.Omni().State().UpdateWithConflicts(t.Context(), infra.NewMachine(s.idle.UUID).Metadata(), func(r resource.Resource) error {
		r.(*infra.Machine).TypedSpec().Value.WipeId = secondWipe //nolint:forcetypeassert // a test

		return nil
	}, state.WithUpdateOwner("InfraMachineController"))
	must(t, err)

	return s
}

func must(t *testing.T, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}

// existing is what the existing provider has written about them.
func (s site) existing() []stored {
	at := encode(field{1, int(time.Now().Add(-30 * 24 * time.Hour).Unix())}, field{2, 5})
	row := func(name string, m *lab.Machine, finalizers []string, fields ...field) stored {
		return stored{name, m.UUID, provider + "." + name + "Controller", finalizers, encode(fields...)}
	}
	reboots := []string{provider + ".RebootStatusController"}

	var all []stored

	for _, m := range s.Machines() {
		wiped, events, rebooted, requested, on := "", 0, "", "", 1

		switch m {
		case s.used:
			rebooted, on = pastReboot, 2
		case s.cordoned:
			on = 2
		case s.off:
			requested = offRequest
		case s.idle:
			wiped = secondWipe
		}

		access := encode(field{1, m.BMC.Addr().String()}, field{2, max(0, m.BMC.IPMIPort())}, field{3, "talos-agent"}, field{4, bmcPassword})

		all = append(all,
			row("BMCConfiguration", m, reboots, field{1, access}),
			row("MachineStatus", m, reboots, field{2, on}, field{4, 1}),
			row("WipeStatus", m, nil, field{1, wiped}, field{2, events}, field{3, 1}, field{4, `{"token":"of the wiped"}`}))

		if m == s.leaving { // removed half-way: these are gone already
			continue
		}

		all = append(all,
			row("RebootStatus", m, nil, field{1, rebooted}, field{2, at}),
			row("PowerOperation", m, nil, field{1, on}, field{2, at}, field{3, requested}))
	}

	return all
}

// replace puts the given resources in the place of ours, and takes everything else
// that a serve of ours has left: its lease, its state directory.
func (s site) replace(t *testing.T, with []stored) {
	t.Helper()

	for _, r := range s.own(t) {
		must(t, s.Omni().State().Destroy(t.Context(), r.Metadata(), state.WithDestroyOwner(r.Metadata().Owner()), withoutFinalizers(t, s, r)))
	}

	must(t, os.RemoveAll(filepath.Join(filepath.Dir(s.SocketPath()), "state")))

	for _, r := range with {
		must(t, s.Omni().State().Create(t.Context(), r.resource(t), state.WithCreateOwner(r.Owner)))
	}

	for _, m := range s.Machines() {
		must(t, m.BMC.SetUser("talos-agent", bmcPassword))
	}

	// Removed half-way: some finalizers are gone.
	must(t, s.Omni().State().RemoveFinalizer(t.Context(), infra.NewMachine(s.leaving.UUID).Metadata(),
		provider+".PowerOperationController", provider+".RebootStatusController", provider+".InfraMachineStatusController"))
}

// withoutFinalizers drops a resource's finalizers, so that it can go.
func withoutFinalizers(t *testing.T, s site, r resource.Resource) state.DestroyOption {
	t.Helper()

	if finalizers := *r.Metadata().Finalizers(); len(finalizers) > 0 {
		must(t, s.Omni().State().RemoveFinalizer(t.Context(), r.Metadata(), slices.Clone(finalizers)...))
	}

	return func(*state.DestroyOptions) {}
}

// own lists the provider's own resources, sorted by type and id.
func (s site) own(t *testing.T) []resource.Resource {
	t.Helper()

	var all []resource.Resource

	for _, name := range []string{"BMCConfiguration", "Lease", "MachineStatus", "PowerOperation", "RebootStatus", "TLSConfig", "WipeStatus"} {
		list, err := s.Omni().State().List(t.Context(), resource.NewMetadata(omniinfra.ResourceNamespace(provider),
			omniinfra.ResourceType(name, provider), "", resource.VersionUndefined))
		must(t, err)

		all = append(all, list.Items...)
	}

	return all
}

// dump is the provider's own resources as bytes, but for the lease, which the
// existing provider does not know.
func (s site) dump(t *testing.T) []stored {
	t.Helper()

	var all []stored

	for _, r := range s.own(t) {
		raw, err := protobuf.FromResource(r)
		must(t, err)

		bytes, err := raw.Marshal()
		must(t, err)

		name, _, _ := strings.Cut(r.Metadata().Type(), ".")
		if name == "Lease" {
			continue
		}

		all = append(all, stored{name, r.Metadata().ID(), r.Metadata().Owner(), *r.Metadata().Finalizers(), bytes.GetSpec().GetProtoSpec()})
	}

	return all
}

// fields is what a resource says, by the table.
func (s stored) fields(t *testing.T) map[string]any {
	t.Helper()

	all := map[string]any{}
	decode(t, s.Type+" of "+s.ID, s.Spec, shapes()[s.Type], "", all)

	return all
}

// TestTakeover: what the existing provider has written is taken over as it is, with
// no wipe, no power act and no reset, and what we write after that is what it can
// read.
func TestTakeover(t *testing.T) {
	s := production(t, 62)
	given := s.existing()

	s.takeOver(t, given)

	written := s.dump(t)
	s.compareWith(t, given, written)

	if *release != "" {
		data, err := json.MarshalIndent(written, "", "  ")
		must(t, err)
		must(t, os.WriteFile(filepath.Join("testdata", "releases", *release+".json"), append(data, '\n'), 0o600))
	}
}

// TestTakeoverFromReleases: the same with what each release of ours has written.
func TestTakeoverFromReleases(t *testing.T) {
	files, err := filepath.Glob("testdata/releases/*.json")
	must(t, err)

	if len(files) == 0 {
		t.Fatal("no release has left its resources")
	}

	for i, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			var given []stored

			data, err := os.ReadFile(file)
			must(t, err)
			must(t, json.Unmarshal(data, &given))

			s := production(t, 61-i)
			given = s.atHome(t, given)
			s.takeOver(t, given)
			s.compareWith(t, given, s.dump(t))
		})
	}
}

// takeOver starts serve on the resources and counts what it does.
func (s site) takeOver(t *testing.T, given []stored) {
	t.Helper()
	s.replace(t, given)

	type done struct{ Acts, Wipes, SetUps int }

	count := func() map[string]done {
		all := map[string]done{}
		for _, m := range s.Machines() {
			all[m.Name] = done{len(m.BMC.Acts()), len(m.WipesAsked()), len(m.SetUps())}
		}

		return all
	}

	before := count()
	began := time.Now()

	must(t, s.StartServe(context.WithoutCancel(t.Context())))

	for m, status := range map[*lab.Machine]string{
		s.used: localapi.StatusRunning, s.cordoned: localapi.StatusCordoned, s.off: localapi.StatusOffRequested, s.idle: localapi.StatusReady,
	} {
		within(t, s.Lab, time.Minute, m.Name+" "+status+", its BMC asked twice", func() bool {
			v := view(t, s.Lab, m)

			return v.Status == status && v.PowerAt.After(began.Add(5*time.Second))
		})
	}

	within(t, s.Lab, time.Minute, "the machine that was being removed is gone", func() bool { return known(s.Lab, s.leaving) == nil })

	if diff := cmp.Diff(before, count()); diff != "" {
		t.Errorf("taking over touched machines (before, after):\n%s", diff)
	}

	for m, want := range map[*lab.Machine]power.State{s.used: power.StateOn, s.cordoned: power.StateOn, s.off: power.StateOff, s.idle: power.StateOff} {
		if got := m.BMC.State(); got != want {
			t.Errorf("%s is %s, want %s", m.Name, got, want)
		}
	}
}

// compareWith demands that what stands there now says, by the table, what was given:
// of every machine but the one that is gone.
func (s site) compareWith(t *testing.T, given, written []stored) {
	t.Helper()

	now := map[string]stored{}
	for _, r := range written {
		now[r.Type+r.ID] = r
	}

	for _, was := range given {
		is, there := now[was.Type+was.ID]
		delete(now, was.Type+was.ID)

		if was.ID == s.leaving.UUID {
			if there {
				t.Errorf("%s of the machine that was removed is still there", was.Type)
			}

			continue
		}

		if !there || is.Owner != was.Owner || !slices.Equal(is.Finalizers, was.Finalizers) {
			t.Errorf("%s of %s: owner %q, finalizers %v; want %q, %v", was.Type, was.ID, is.Owner, is.Finalizers, was.Owner, was.Finalizers)
		}

		if diff := cmp.Diff(was.fields(t), is.fields(t)); diff != "" {
			t.Errorf("%s of %s (given, now):\n%s", was.Type, was.ID, diff)
		}
	}

	for _, r := range now {
		t.Errorf("%s of %s is new", r.Type, r.ID)
	}
}

// atHome has the BMCs be where they are in this lab.
func (s site) atHome(t *testing.T, given []stored) []stored {
	t.Helper()

	byID := map[string]*lab.Machine{}
	for _, m := range s.Machines() {
		byID[m.UUID] = m
	}

	moved := slices.Clone(given)

	for i, r := range given {
		if r.Type != "BMCConfiguration" {
			continue
		}

		was, bmc := r.fields(t), byID[r.ID].BMC
		moved[i].Spec = encode(field{1, encode(field{1, bmc.Addr().String()}, field{2, max(0, bmc.IPMIPort())}, field{3, was["1.3"]}, field{4, was["1.4"]})})
	}

	return moved
}
