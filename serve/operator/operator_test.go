package operator_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/go-api-signature/pkg/pgp"
	pgpclient "github.com/siderolabs/go-api-signature/pkg/pgp/client"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	omniconfig "github.com/siderolabs/omni/client/pkg/omnictl/config"
	pb "github.com/siderolabs/siderolink/api/siderolink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/omnisim"
	"github.com/bmctl/bmctl/serve/operator"
)

const (
	provider = "bare-metal"
	machineA = "4c4c4544-0046-3310-8051-b4c04f4d3632"
	machineB = "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1"
	unknown  = "00000000-0000-4000-8000-000000000001"
)

func limited(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)

	return ctx
}

// site is an Omni with a static provider whose machines have joined.
func site(t *testing.T, cfg omnisim.Config, machines ...string) *omnisim.Server {
	t.Helper()

	cfg.Dir = t.TempDir()

	sim, err := omnisim.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})

	status := infra.NewProviderStatus(provider)
	status.Metadata().Labels().Set(omni.LabelIsStaticInfraProvider, "")

	if err := sim.State().Create(limited(t), status); err != nil {
		t.Fatal(err)
	}

	for _, id := range machines {
		join(t, sim, id)
	}

	return sim
}

func join(t *testing.T, sim *omnisim.Server, id string) {
	t.Helper()

	config, err := safe.StateGetByID[*siderolink.ProviderJoinConfig](limited(t), sim.State(), provider)
	if err != nil {
		t.Fatal(err)
	}

	arg := config.TypedSpec().Value.Config.KernelArgs[0]
	_, token, _ := strings.Cut(arg, "jointoken=")
	token = strings.NewReplacer("%3A", ":", "%3D", "=", "%2B", "+", "%2F", "/").Replace(token)

	conn, err := grpc.NewClient(host(sim), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}

	defer conn.Close() //nolint:errcheck // a test's connection

	if _, err := pb.NewProvisionServiceClient(conn).Provision(limited(t), &pb.ProvisionRequest{NodeUuid: id, JoinToken: &token}); err != nil {
		t.Fatalf("machine %s does not join: %v", id, err)
	}
}

func host(sim *omnisim.Server) string { return strings.TrimPrefix(sim.Endpoint(), "http://") }

func connect(t *testing.T, sim *omnisim.Server, key string) *operator.Client {
	t.Helper()

	return connectAs(t, operator.Config{Endpoint: sim.Endpoint(), ServiceAccountKey: power.NewSecret(key)})
}

func connectAs(t *testing.T, cfg operator.Config) *operator.Client {
	t.Helper()

	c, err := operator.Connect(limited(t), cfg)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}

	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})

	return c
}

func wantKind(t *testing.T, what string, err, kind error) *operator.Error {
	t.Helper()

	var failure *operator.Error
	if !errors.As(err, &failure) || !errors.Is(err, kind) || failure.Kind != kind {
		t.Errorf("%s: %v, want kind %v", what, err, kind)

		return &operator.Error{}
	}

	return failure
}

func must(t *testing.T, what string, err error) {
	t.Helper()

	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// spec is the user's word about the machine.
func spec(t *testing.T, sim *omnisim.Server) *specs.InfraMachineConfigSpec {
	t.Helper()

	config, err := safe.StateGetByID[*omni.InfraMachineConfig](limited(t), sim.State(), machineA)
	if err != nil {
		t.Fatal(err)
	}

	return config.TypedSpec().Value
}

// becomes waits until Omni has followed what the user said.
func becomes(t *testing.T, sim *omnisim.Server, so func(*infra.Machine) bool) {
	t.Helper()

	_, err := safe.StateWatchFor[*infra.Machine](limited(t), sim.State(), infra.NewMachine(machineA).Metadata(),
		state.WithEventTypes(state.Created, state.Updated),
		state.WithCondition(func(r resource.Resource) (bool, error) {
			m, ok := r.(*infra.Machine)

			return ok && so(m), nil
		}))
	if err != nil {
		t.Fatalf("Omni does not follow: %v", err)
	}
}

func accepted(m *infra.Machine) bool {
	return m.TypedSpec().Value.AcceptanceStatus == specs.InfraMachineConfigSpec_ACCEPTED
}

func TestMachines(t *testing.T) {
	sim := site(t, omnisim.Config{}, machineB, machineA)
	c := connect(t, sim, sim.OperatorKey())
	ctx := limited(t)

	if c.Version() != omnisim.Version {
		t.Errorf("Omni's version is %q", c.Version())
	}

	must(t, "accept", sim.Accept(machineA))
	must(t, "allocate", sim.Allocate(machineA, "prod", "1.13.5", nil))
	must(t, "label", c.Label(ctx, machineA, map[string]string{"rack": "r1"}))

	reported := infra.NewMachineStatus(machineA)
	reported.Metadata().Labels().Set(omni.LabelInfraProviderID, provider)
	reported.TypedSpec().Value.PowerState = specs.InfraMachineStatusSpec_POWER_STATE_ON
	reported.TypedSpec().Value.ReadyToUse = true
	must(t, "report", sim.State().Create(ctx, reported))

	machines, err := c.Machines(ctx)
	if err != nil {
		t.Fatal(err)
	}

	if len(machines) != 2 || machines[0].ID != machineA || machines[1].ID != machineB {
		t.Fatalf("the machines are %v", machines)
	}

	a, b := machines[0], machines[1]
	if a.Acceptance != operator.Accepted || a.Cluster != "prod" || a.TalosVersion != "1.13.5" || a.Power != "on" || !a.ReadyToUse ||
		a.ProviderID != provider || !maps.Equal(a.Labels, map[string]string{"rack": "r1"}) {
		t.Errorf("the allocated machine is %+v", a)
	}

	if b.Acceptance != operator.Pending || b.Cluster != "" || b.Power != "unknown" || !b.PreferredOn || b.Labels == nil {
		t.Errorf("the pending machine is %+v", b)
	}

	elsewhere := connectAs(t, operator.Config{Endpoint: sim.Endpoint(), ServiceAccountKey: power.NewSecret(sim.OperatorKey()), ProviderID: "other"})
	if machines, err := elsewhere.Machines(ctx); err != nil || len(machines) != 0 {
		t.Errorf("another provider has %v, %v", machines, err)
	}
}

func TestAcceptReject(t *testing.T) {
	sim := site(t, omnisim.Config{}, machineA)
	c := connect(t, sim, sim.OperatorKey())
	ctx := limited(t)

	wantKind(t, "accept an unknown machine", c.Accept(ctx, unknown), operator.ErrNotFound)

	must(t, "reject", c.Reject(ctx, machineA))
	becomes(t, sim, func(m *infra.Machine) bool {
		return m.TypedSpec().Value.AcceptanceStatus == specs.InfraMachineConfigSpec_REJECTED
	})
	wantKind(t, "reject again", c.Reject(ctx, machineA), operator.ErrRefused)

	must(t, "accept a rejected machine", c.Accept(ctx, machineA))
	becomes(t, sim, accepted)

	wantKind(t, "accept again", c.Accept(ctx, machineA), operator.ErrRefused)

	failure := wantKind(t, "reject an accepted machine", c.Reject(ctx, machineA), operator.ErrRefused)
	if !strings.Contains(failure.Error(), machineA) || !strings.Contains(failure.Error(), "cannot be taken back") {
		t.Errorf("it says %v", failure)
	}
}

func TestConfigActs(t *testing.T) {
	sim := site(t, omnisim.Config{}, machineA)
	c := connect(t, sim, sim.OperatorKey())
	ctx := limited(t)

	wantKind(t, "reboot a pending machine", c.Reboot(ctx, machineA), operator.ErrRefused)
	must(t, "accept", c.Accept(ctx, machineA))
	becomes(t, sim, accepted)

	must(t, "cordon", c.Cordon(ctx, machineA))
	must(t, "prefer on", c.PreferPower(ctx, machineA, true))
	must(t, "kernel args", c.KernelArgs(ctx, machineA, "  a=1   b "))
	must(t, "reboot", c.Reboot(ctx, machineA))

	got := spec(t, sim)
	if !got.Cordoned || got.PowerState != specs.InfraMachineConfigSpec_POWER_STATE_ON || got.ExtraKernelArgs != "a=1 b" || got.RequestedRebootId == "" {
		t.Errorf("the user's word is %v", got)
	}

	first := got.RequestedRebootId

	must(t, "uncordon", c.Uncordon(ctx, machineA))
	must(t, "prefer off", c.PreferPower(ctx, machineA, false))
	must(t, "no kernel args", c.KernelArgs(ctx, machineA, ""))
	must(t, "reboot again", c.Reboot(ctx, machineA))

	got = spec(t, sim)
	if got.Cordoned || got.PowerState != specs.InfraMachineConfigSpec_POWER_STATE_OFF || got.ExtraKernelArgs != "" || got.RequestedRebootId == first {
		t.Errorf("the user's word is then %v", got)
	}

	if got.AcceptanceStatus != specs.InfraMachineConfigSpec_ACCEPTED {
		t.Error("one act undid another")
	}
}

func TestPowerRequests(t *testing.T) {
	shutdowns := make(chan string, 1)
	sim := site(t, omnisim.Config{Shutdown: func(id string) { shutdowns <- id }}, machineA)
	c := connect(t, sim, sim.OperatorKey())
	ctx := limited(t)

	must(t, "accept", sim.Accept(machineA))
	wantKind(t, "power off outside a cluster", c.PowerOff(ctx, machineA), operator.ErrRefused)
	must(t, "allocate", sim.Allocate(machineA, "prod", "1.13.5", nil))
	must(t, "power off", c.PowerOff(ctx, machineA))

	if id := <-shutdowns; id != machineA {
		t.Errorf("%s was asked to shut down", id)
	}

	if m, err := c.Machine(ctx, machineA); err != nil || m.PowerOffRequestID == "" {
		t.Errorf("after power off: %+v, %v", m, err)
	}

	must(t, "power on", c.PowerOn(ctx, machineA))

	if m, err := c.Machine(ctx, machineA); err != nil || m.PowerOffRequestID != "" {
		t.Errorf("after power on: %+v, %v", m, err)
	}
}

func TestLabels(t *testing.T) {
	sim := site(t, omnisim.Config{}, machineA)
	c := connect(t, sim, sim.OperatorKey())
	ctx := limited(t)

	must(t, "label", c.Label(ctx, machineA, map[string]string{"rack": "r1", "row": "7"}))
	must(t, "relabel", c.Label(ctx, machineA, map[string]string{"rack": "r2"}, "row", "absent"))

	if m, err := c.Machine(ctx, machineA); err != nil || !maps.Equal(m.Labels, map[string]string{"rack": "r2"}) {
		t.Errorf("the labels are %v, %v", m.Labels, err)
	}

	wantKind(t, "a label of Omni's", c.Label(ctx, machineA, map[string]string{omni.LabelCluster: "x"}), operator.ErrRefused)
	wantKind(t, "a label without key", c.Label(ctx, machineA, map[string]string{"": "x"}), operator.ErrRefused)
	wantKind(t, "an unknown machine", c.Label(ctx, unknown, map[string]string{"rack": "r1"}), operator.ErrNotFound)
}

func TestBMC(t *testing.T) {
	sim := site(t, omnisim.Config{}, machineA)
	c := connect(t, sim, sim.OperatorKey())
	ctx := limited(t)
	login := operator.BMC{Address: "10.0.3.9", Username: "admin", Password: power.NewSecret("s3cret")}

	must(t, "set", c.SetBMC(ctx, machineA, login))

	stored, err := safe.StateGetByID[*omni.InfraMachineBMCConfig](ctx, sim.State(), machineA)
	if err != nil {
		t.Fatal(err)
	}

	if got := stored.TypedSpec().Value.Ipmi; got.Address != "10.0.3.9" || got.Port != 0 || got.Username != "admin" || got.Password != "s3cret" {
		t.Errorf("stored: %v", got)
	}

	must(t, "set the other kind", c.SetBMC(ctx, machineA, operator.BMC{API: "127.0.0.1:5000"}))

	stored, err = safe.StateGetByID[*omni.InfraMachineBMCConfig](ctx, sim.State(), machineA)
	if err != nil || stored.TypedSpec().Value.Ipmi != nil || stored.TypedSpec().Value.Api.GetAddress() != "127.0.0.1:5000" {
		t.Errorf("stored: %v, %v", stored.TypedSpec().Value, err)
	}

	must(t, "clear", c.ClearBMC(ctx, machineA))
	wantKind(t, "clear again", c.ClearBMC(ctx, machineA), operator.ErrNotFound)

	for name, spoil := range map[string]func(*operator.BMC){
		"no address":      func(b *operator.BMC) { b.Address = "" },
		"any address":     func(b *operator.BMC) { b.Address = "0.0.0.0" },
		"no user":         func(b *operator.BMC) { b.Username = "" },
		"no password":     func(b *operator.BMC) { b.Password = power.Secret{} },
		"a long user":     func(b *operator.BMC) { b.Username = strings.Repeat("u", 17) },
		"a long password": func(b *operator.BMC) { b.Password = power.NewSecret(strings.Repeat("p", 21)) },
		"both kinds":      func(b *operator.BMC) { b.API = "127.0.0.1:5000" },
	} {
		bad := login
		spoil(&bad)

		failure := wantKind(t, name, c.SetBMC(ctx, machineA, bad), operator.ErrRefused)
		if strings.Contains(failure.Error(), "s3cret") {
			t.Errorf("%s: the error shows the password", name)
		}
	}
}

func TestRemove(t *testing.T) {
	sim := site(t, omnisim.Config{}, machineA)
	c := connect(t, sim, sim.OperatorKey())
	ptr := infra.NewMachine(machineA).Metadata()

	wantKind(t, "remove an unknown machine", c.Remove(limited(t), unknown), operator.ErrNotFound)
	must(t, "hold", sim.State().AddFinalizer(limited(t), ptr, "bare-metal.WipeStatusController"))

	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()

	wantKind(t, "remove a held machine", c.Remove(short, machineA), operator.ErrPending)

	if m, err := c.Machine(limited(t), machineA); err != nil || !m.Removing {
		t.Errorf("meanwhile: %+v, %v", m, err)
	}

	wantKind(t, "accept while it is removed", c.Accept(limited(t), machineA), operator.ErrRefused)
	must(t, "release", sim.State().RemoveFinalizer(limited(t), ptr, "bare-metal.WipeStatusController"))
	must(t, "remove again", c.Remove(limited(t), machineA))

	_, err := c.Machine(limited(t), machineA)
	wantKind(t, "look it up", err, operator.ErrNotFound)

	join(t, sim, machineA)

	if m, err := c.Machine(limited(t), machineA); err != nil || m.Acceptance != operator.Pending {
		t.Errorf("when it joins again: %+v, %v", m, err)
	}
}

// TestProvidersKey: the key that serve has may do nothing of this, and is told why.
func TestProvidersKey(t *testing.T) {
	sim := site(t, omnisim.Config{}, machineA)
	c := connect(t, sim, sim.ProviderKey())
	ctx := limited(t)

	for name, act := range map[string]func() error{
		"accept": func() error { return c.Accept(ctx, machineA) },
		"label":  func() error { return c.Label(ctx, machineA, map[string]string{"a": "b"}) },
		"remove": func() error { return c.Remove(ctx, machineA) },
		"power":  func() error { return c.PowerOn(ctx, machineA) },
	} {
		failure := wantKind(t, name, act(), operator.ErrPermission)
		if failure.Hint != "needs the role Operator or higher: the provider's own key may not" {
			t.Errorf("%s: the hint is %q", name, failure.Hint)
		}
	}

	if m, err := sim.Machine(machineA); err != nil || accepted(m) || m.Metadata().Phase() != resource.PhaseRunning {
		t.Errorf("the machine is %v, %v", m, err)
	}
}

// TestOmniconfig: a person by an omniconfig context, one with the role and one without.
func TestOmniconfig(t *testing.T) {
	sim := site(t, omnisim.Config{}, machineA)
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	file := filepath.Join(dir, "omniconfig")

	t.Setenv("HOME", dir)
	t.Setenv("XDG_DATA_HOME", dir)
	t.Setenv("OMNI_SERVICE_ACCOUNT_KEY", "")
	must(t, "unset", os.Unsetenv("OMNI_SERVICE_ACCOUNT_KEY"))

	conf := &omniconfig.Config{Context: "admin", Path: file, Contexts: map[string]*omniconfig.Context{
		"admin":  {URL: sim.Endpoint(), Auth: omniconfig.Auth{SideroV1: omniconfig.SideroV1{Identity: "admin@example.com"}}},
		"reader": {URL: sim.Endpoint(), Auth: omniconfig.Auth{SideroV1: omniconfig.SideroV1{Identity: "reader@example.com"}}},
		"nobody": {URL: sim.Endpoint()},
	}}
	must(t, "save", conf.Save())

	for name, role := range map[string]omnisim.Role{"admin": omnisim.RoleOperator, "reader": omnisim.RoleReader} {
		login(t, sim, keys, name, name+"@example.com", role)
	}

	reader := connectAs(t, operator.Config{File: file, Context: "reader", KeysDir: keys})
	if machines, err := reader.Machines(limited(t)); err != nil || len(machines) != 1 {
		t.Errorf("a reader reads %v, %v", machines, err)
	}

	failure := wantKind(t, "a reader accepts", reader.Accept(limited(t), machineA), operator.ErrPermission)
	if failure.Hint != "needs the role Operator or higher" {
		t.Errorf("the hint is %q", failure.Hint)
	}

	admin := connectAs(t, operator.Config{File: file, KeysDir: keys}) // the current context
	must(t, "an admin accepts", admin.Accept(limited(t), machineA))
	becomes(t, sim, accepted)

	for name, cfg := range map[string]operator.Config{
		"no such context": {File: file, Context: "other"},
		"no identity":     {File: file, Context: "nobody"},
		"no such file":    {File: filepath.Join(dir, "absent")},
	} {
		_, err := operator.Connect(limited(t), cfg)
		wantKind(t, name, err, operator.ErrConfig)
	}
}

// login makes a person's key where Omni's client looks for it.
func login(t *testing.T, sim *omnisim.Server, keysDir, context, identity string, role omnisim.Role) {
	t.Helper()

	keys := pgpclient.NewKeyProviderWithFallback("omni/keys", keysDir, "", true)

	key, err := keys.GenerateKey(context, identity, "test")
	if err != nil {
		t.Fatal(err)
	}

	if _, err := keys.WriteKey(key); err != nil {
		t.Fatal(err)
	}

	public, err := key.ArmorPublic()
	if err != nil {
		t.Fatal(err)
	}

	must(t, "add user", sim.AddUser(identity, public, role))
}

func TestConnectFailures(t *testing.T) {
	sim := site(t, omnisim.Config{})

	stranger, err := pgp.GenerateKey("stranger", "", "stranger@example.com", time.Hour)
	if err != nil {
		t.Fatal(err)
	}

	forged, err := serviceaccount.Encode("operator", stranger)
	if err != nil {
		t.Fatal(err)
	}

	good, malformed := power.NewSecret(sim.OperatorKey()), power.NewSecret("bm90LWEta2V5")

	for name, row := range map[string]struct {
		cfg  operator.Config
		kind error
	}{
		"a forged key":        {operator.Config{Endpoint: sim.Endpoint(), ServiceAccountKey: power.NewSecret(forged)}, operator.ErrAuth},
		"a malformed key":     {operator.Config{Endpoint: sim.Endpoint(), ServiceAccountKey: malformed}, operator.ErrConfig},
		"no endpoint":         {operator.Config{ServiceAccountKey: good}, operator.ErrConfig},
		"an endpoint of FTP":  {operator.Config{Endpoint: "ftp://omni", ServiceAccountKey: good}, operator.ErrConfig},
		"an endpoint nowhere": {operator.Config{Endpoint: "https://", ServiceAccountKey: good}, operator.ErrConfig},
		"nobody there":        {operator.Config{Endpoint: "http://" + closedPort(t), ServiceAccountKey: good}, operator.ErrUnreachable},
	} {
		_, err := operator.Connect(limited(t), row.cfg)
		failure := wantKind(t, name, err, row.kind)

		if strings.Contains(failure.Error(), row.cfg.ServiceAccountKey.Reveal()) && !row.cfg.ServiceAccountKey.IsZero() {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

// TestSilentOmni: a call has a deadline even if the caller set none.
func TestSilentOmni(t *testing.T) {
	sim := site(t, omnisim.Config{}, machineA)
	c := connectAs(t, operator.Config{Endpoint: sim.Endpoint(), ServiceAccountKey: power.NewSecret(sim.OperatorKey()), Timeout: 200 * time.Millisecond})

	sim.SetSilent(true)

	wantKind(t, "accept", c.Accept(context.Background(), machineA), operator.ErrUnreachable)

	_, err := c.Machines(context.Background())
	wantKind(t, "machines", err, operator.ErrUnreachable)

	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	wantKind(t, "a canceled call", c.Cordon(canceled, machineA), operator.ErrCanceled)
}

func closedPort(t *testing.T) string {
	t.Helper()

	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	defer listener.Close() //nolint:errcheck // closing it is the point

	return listener.Addr().String()
}

// TestConcurrentActs: acts on one machine at the same time all take effect.
func TestConcurrentActs(t *testing.T) {
	sim := site(t, omnisim.Config{}, machineA)
	c := connect(t, sim, sim.OperatorKey())
	ctx := limited(t)

	acts := []func() error{
		func() error { return c.Accept(ctx, machineA) },
		func() error { return c.Cordon(ctx, machineA) },
		func() error { return c.PreferPower(ctx, machineA, true) },
		func() error { return c.KernelArgs(ctx, machineA, "x") },
	}
	results := make(chan error, len(acts))

	for _, act := range acts {
		go func() { results <- act() }()
	}

	var failures []error
	for range acts {
		failures = append(failures, <-results)
	}

	if slices.ContainsFunc(failures, func(err error) bool { return err != nil }) {
		t.Fatalf("acts failed: %v", failures)
	}

	if got := spec(t, sim); !got.Cordoned || got.ExtraKernelArgs != "x" || got.PowerState != specs.InfraMachineConfigSpec_POWER_STATE_ON ||
		got.AcceptanceStatus != specs.InfraMachineConfigSpec_ACCEPTED {
		t.Errorf("together they left %v", got)
	}
}
