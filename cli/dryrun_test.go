package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/google/go-cmp/cmp"

	"github.com/bmctl/bmctl/serve/lab"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/resources"
)

// labSubnets keeps the addresses of labs apart that run at once, from the last
// one down: other tests begin at the first.
var labSubnets atomic.Int32

// startLab runs two machines that are accepted at once, and lets other tests run
// meanwhile.
func startLab(t *testing.T) *lab.Lab {
	t.Helper()
	t.Parallel()

	// So that this process, which is Omni, knows the provider's own types.
	report(t, resources.Register(provider))

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}

	dir, err := os.MkdirTemp("", "lab") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}

	l, err := lab.Start(t.Context(), lab.Config{
		Machines: 2, Subnet: 64 - int(labSubnets.Add(1)), Seed: 7, Speed: 8, AutoAccept: true, Dir: dir, Exe: exe,
		MinRebootInterval: time.Second, Rejoin: time.Hour, Environ: append(os.Environ(), asBmctl+"=1", "HOME="+dir),
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if log, err := os.ReadFile(filepath.Join(dir, "serve.log")); err == nil && t.Failed() {
			t.Logf("serve.log:\n%s", log)
		}

		report(t, l.Close())
		report(t, os.RemoveAll(dir))
	})

	return l
}

// TestDryRun takes a fleet over in which one machine runs in a cluster: the dry
// run of the next serve says what it would do, and neither Omni nor a BMC nor
// the state of the last run is any different afterwards.
func TestDryRun(t *testing.T) {
	l := startLab(t)
	used, free := l.Machines()[0], l.Machines()[1]

	await(t, "both ready and off", func() bool { return offAndReady(t, l, used) && offAndReady(t, l, free) })
	report(t, l.Omni().Allocate(used.UUID, "prod", "1.13.5", nil))
	await(t, "installed", func() bool {
		status, err := l.Status(used)

		return err == nil && status.TypedSpec().Value.Installed
	})

	if err := l.StopServe(); err != nil {
		t.Fatal(err)
	}

	before := everything(t, l)

	plans, code := dryRun(t, l)
	if code != 0 || len(plans) != 2 || plans[used.UUID].Act != "" || plans[free.UUID].Act != "" {
		t.Errorf("after a serve that has done its work: exit code %d, %+v", code, plans)
	}

	if p := plans[used.UUID]; p.Power != "on" || p.Boot != "disk" || p.Cluster != "prod" || p.Reason != "on, as it should be" {
		t.Errorf("the plan of the used machine is %+v", p)
	}

	if diff := cmp.Diff(before, everything(t, l)); diff != "" {
		t.Errorf("the dry run changed something (-before +after):\n%s", diff)
	}

	// Now something is due.
	report(t, l.Omni().RequestReboot(used.UUID))
	before = everything(t, l)

	plans, code = dryRun(t, l)
	if p := plans[used.UUID]; code != 8 || p.Act != "requested reboot" || !p.Disrupts || p.Reason != "reboot requested" {
		t.Errorf("a reboot is due: exit code %d, %+v", code, p)
	}

	if p := plans[free.UUID]; p.Disrupts || p.Power != "off" || p.Boot != "agent" {
		t.Errorf("the other machine: %+v", p)
	}

	if diff := cmp.Diff(before, everything(t, l)); diff != "" {
		t.Errorf("the dry run changed something (-before +after):\n%s", diff)
	}

	besideServe(t, l, used)
}

// besideServe has the next serve do what is due, and runs dry beside it.
func besideServe(t *testing.T, l *lab.Lab, used *lab.Machine) {
	t.Helper()

	if err := l.StartServe(t.Context()); err != nil {
		t.Fatal(err)
	}

	await(t, "the reboot is done", func() bool {
		status, err := l.Status(used)
		machine, err2 := l.Omni().Machine(used.UUID)

		return err == nil && err2 == nil && status.TypedSpec().Value.LastRebootId == machine.TypedSpec().Value.RequestedRebootId
	})

	if plans, code := dryRun(t, l); code != 0 || plans[used.UUID].Act != "" {
		t.Errorf("beside a serve that has done its work: exit code %d, %+v", code, plans)
	}

	if health := health(t, l); !health.Acting {
		t.Errorf("the running serve was disturbed: %+v", health)
	}
}

func offAndReady(t *testing.T, l *lab.Lab, m *lab.Machine) bool {
	t.Helper()

	status, err := l.Status(m)

	return err == nil && status.TypedSpec().Value.ReadyToUse && m.BMC.State().String() == "off"
}

// await polls until ok; the deadline is for a host with much else to do.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func health(t *testing.T, l *lab.Lab) localapi.Health {
	t.Helper()

	client := localapi.Dial(l.SocketPath())
	defer client.Close()

	h, err := client.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	return h
}

type plan struct {
	ID, Power, Cluster, Act, Reason, Boot string
	Disrupts                              bool
}

// dryRun runs bmctl serve --dry-run with the lab's state directory and returns
// the plans by machine id.
func dryRun(t *testing.T, l *lab.Lab) (map[string]plan, int) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	cmd := exec.CommandContext(ctx, "bmctl", "serve", "--dry-run", "-o", "json",
		"--api-advertise-address=127.0.0.1", fmt.Sprintf("--redfish-port=%d", l.Machines()[0].BMC.RedfishPort()),
		"--state-dir="+stateDir(l))
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "OMNI_ENDPOINT="+l.Endpoint(), "OMNI_SERVICE_ACCOUNT_KEY="+l.Omni().ProviderKey())

	var stdout, stderr bytes.Buffer

	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	code := exitCode(t, cmd.Run())

	var document struct{ Items []plan }
	if err := json.Unmarshal(stdout.Bytes(), &document); err != nil {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, stdout.String(), stderr.String())
	}

	plans := map[string]plan{}
	for _, p := range document.Items {
		plans[p.ID] = p
	}

	return plans, code
}

func stateDir(l *lab.Lab) string { return filepath.Join(filepath.Dir(l.SocketPath()), "state") }

// everything is the version of every resource in Omni, what each BMC has seen,
// and what serve keeps on disk.
func everything(t *testing.T, l *lab.Lab) map[string]string {
	t.Helper()

	st, found := l.Omni().State(), map[string]string{}

	for _, kind := range kinds(t, st) {
		list, err := st.List(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}

		for _, r := range list.Items {
			md := r.Metadata()
			found[md.Namespace()+" "+md.Type()+" "+md.ID()] = fmt.Sprint(md.Version(), md.Phase(), md.Finalizers(), md.Owner(), md.Updated())
		}
	}

	for _, m := range l.Machines() {
		found["bmc "+m.Name] = fmt.Sprint(m.BMC.Acts(), m.BMC.State(), m.BMC.Boot(), len(m.Wipes()))
	}

	files, err := os.ReadDir(stateDir(l))
	if err != nil {
		t.Fatal(err)
	}

	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(stateDir(l), file.Name()))
		if err != nil {
			t.Fatal(err)
		}

		found["file "+file.Name()] = string(data)
	}

	return found
}

// kinds are all that Omni defines, and the provider's own.
func kinds(t *testing.T, st state.State) []resource.Metadata {
	t.Helper()

	definitions, err := safe.StateListAll[*meta.ResourceDefinition](t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}

	var all []resource.Metadata
	for d := range definitions.All() {
		all = append(all, resource.NewMetadata(d.TypedSpec().DefaultNamespace, d.TypedSpec().Type, "", resource.VersionUndefined))
	}

	if len(all) < 10 {
		t.Fatalf("only %d kinds", len(all))
	}

	for _, r := range []resource.Resource{
		resources.NewBMCConfiguration(provider, ""), resources.NewMachineStatus(provider, ""), resources.NewWipeStatus(provider, ""),
		resources.NewRebootStatus(provider, ""), resources.NewPowerOperation(provider, ""), resources.NewTLSConfig(provider), resources.NewLease(provider),
	} {
		all = append(all, resource.NewMetadata(r.Metadata().Namespace(), r.Metadata().Type(), "", resource.VersionUndefined))
	}

	return all
}
