package cli_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	pb "github.com/siderolabs/siderolink/api/siderolink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/bmctl/bmctl/cli"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/omnisim"
)

// asBmctl makes the test binary behave as bmctl: the lab runs its own
// executable as serve.
const asBmctl = "BMCTL_TEST_AS_BMCTL"

func TestMain(m *testing.M) {
	if os.Getenv(asBmctl) != "" {
		os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
	}

	testscript.Main(m, map[string]func(){
		"bmctl": func() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ())) },
	})
}

const (
	provider = "bare-metal"
	machineA = "4c4c4544-0046-3310-8051-b4c04f4d3632"
	machineB = "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1"
	machineC = "9c41ffff-7a1e-4b02-9f3c-1b5d3c9be6f2"
)

// world is an Omni with pending machines, and a serve as far as its socket.
type world struct {
	omni   *omnisim.Server
	socket string
	close  func() error // of the socket alone
	stop   func() error // of everything
}

// startWorld joins the machines to an Omni in dir and serves the socket there.
func startWorld(dir string, machines ...string) (*world, error) {
	sim, err := omnisim.Start(omnisim.Config{Dir: filepath.Join(dir, "omni")})
	if err != nil {
		return nil, err
	}

	w := &world{omni: sim, socket: filepath.Join(dir, "sock")}

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()

	if err := errors.Join(w.register(ctx), w.join(ctx, machines)); err != nil {
		return nil, errors.Join(err, sim.Close())
	}

	if err := w.listen(); err != nil {
		return nil, errors.Join(err, sim.Close())
	}

	w.stop = sync.OnceValue(func() error { return errors.Join(w.close(), sim.Close()) })

	return w, nil
}

// listen opens the socket, as serve does when it starts.
func (w *world) listen() (err error) {
	w.close, err = serveSocket(w.socket, &fleet{sim: w.omni, asked: map[string]int{}})

	return err
}

// serveSocket serves the local API of a backend until it is closed.
func serveSocket(path string, backend localapi.Backend) (closeIt func() error, err error) {
	server := localapi.NewServer(backend, slog.New(slog.DiscardHandler))
	if err := server.Listen(path, ""); err != nil {
		return nil, err
	}

	serving, end := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- server.Serve(serving) }()

	return sync.OnceValue(func() error {
		end()

		return <-done
	}), nil
}

// register makes the provider known to Omni.
func (w *world) register(ctx context.Context) error {
	status := infra.NewProviderStatus(provider)
	status.Metadata().Labels().Set(omni.LabelIsStaticInfraProvider, "")

	return w.omni.State().Create(ctx, status)
}

func (w *world) join(ctx context.Context, machines []string) error {
	config, err := safe.StateGetByID[*siderolink.ProviderJoinConfig](ctx, w.omni.State(), provider)
	if err != nil {
		return err
	}

	_, token, _ := strings.Cut(config.TypedSpec().Value.Config.KernelArgs[0], "jointoken=")
	token = strings.NewReplacer("%3A", ":", "%3D", "=", "%2B", "+", "%2F", "/").Replace(token)

	conn, err := grpc.NewClient(strings.TrimPrefix(w.omni.Endpoint(), "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}

	defer conn.Close() //nolint:errcheck // a test's connection

	for _, id := range machines {
		if _, err := pb.NewProvisionServiceClient(conn).Provision(ctx, &pb.ProvisionRequest{NodeUuid: id, JoinToken: &token}); err != nil {
			return fmt.Errorf("%s joins: %w", id, err)
		}
	}

	return nil
}

func (w *world) environment() []string {
	return []string{
		"BMCTL_SOCKET=" + w.socket, "OMNI_ENDPOINT=" + w.omni.Endpoint(), "OMNI_SERVICE_ACCOUNT_KEY=" + w.omni.OperatorKey(),
		"PROVIDER_KEY=" + w.omni.ProviderKey(),
	}
}

// fleet is what serve's socket shows: three machines that Omni has nothing to do
// with, and Omni's own. An accepted one is wiping when it is first looked at,
// then ready.
type fleet struct {
	sim *omnisim.Server

	mu       sync.Mutex
	asked    map[string]int // looks at each accepted machine
	released []string
}

func staticMachines() []localapi.Machine {
	at := time.Now().Add(-2 * time.Hour)

	return []localapi.Machine{
		{
			ID: "11111111-0000-4000-8000-000000000001", Name: "r1n01", Power: "on", Status: localapi.StatusRunning, Cluster: "prod", TalosVersion: "v1.13.7",
			Reason: "installed", LastEvent: localapi.LastEvent{At: at.Add(-10 * 24 * time.Hour), Text: "booted from disk"}, Labels: map[string]string{"rack": "r1"},
			ReadyToUse: true, Installed: true, Accepted: true, BMC: localapi.BMC{Protocol: "redfish", Address: "10.0.3.1", LatencySeconds: 0.0312},
		},
		{
			ID: "22222222-0000-4000-8000-000000000002", Name: "r1n02", Power: "on", Stage: "agent", Status: localapi.StatusReady, Reason: "wiped", Accepted: true,
			LastEvent: localapi.LastEvent{At: at, Text: "agent connected"}, Labels: map[string]string{"rack": "r2"}, ReadyToUse: true,
		},
		{
			ID: "33333333-0000-4000-8000-000000000003", Name: "r1n07", Power: "unknown", Status: localapi.StatusError, Held: "two tunnels", Accepted: true,
			Reason:    "bmc: no answer for 6m\x1b[2J\x1b]0;owned\a",
			LastEvent: localapi.LastEvent{At: at, Text: "bmc: no\nanswer"}, Labels: map[string]string{},
		},
	}
}

func (f *fleet) Machines() (localapi.MachineList, error) {
	list := localapi.MachineList{APIVersion: localapi.APIVersion, Kind: "MachineList", Items: staticMachines()}

	joined, err := f.sim.Machines()
	if err != nil {
		return list, err
	}

	for _, m := range joined {
		list.Items = append(list.Items, f.show(m))
	}

	slices.SortFunc(list.Items, func(a, b localapi.Machine) int { return strings.Compare(a.ID, b.ID) })

	return list, nil
}

func (f *fleet) show(m *infra.Machine) localapi.Machine {
	id := m.Metadata().ID()
	name, _, _ := strings.Cut(id, "-")
	shown := localapi.Machine{
		ID: id, Name: name, Power: "on", Stage: "agent", Status: localapi.StatusPending, Reason: "waits to be accepted", Labels: map[string]string{},
		Serial: "A1234567", Vendor: "Supermicro", Model: "X11DPi", MAC: "3c:ec:ef:12:34:56", Address: "10.0.2.141", FirstSeen: time.Now().Add(-31 * time.Second),
		LastEvent: localapi.LastEvent{At: time.Now().Add(-31 * time.Second), Text: "first seen, waits for accept"},
	}

	switch m.TypedSpec().Value.AcceptanceStatus {
	case specs.InfraMachineConfigSpec_ACCEPTED:
		shown.Accepted, shown.Status, shown.Reason = true, localapi.StatusWiping, "first wipe"

		f.mu.Lock()
		f.asked[id]++
		shown.ReadyToUse = f.asked[id] > 1
		f.mu.Unlock()

		if shown.ReadyToUse {
			shown.Status, shown.Reason = localapi.StatusReady, "wiped"
		}
	case specs.InfraMachineConfigSpec_REJECTED:
		shown.Status = localapi.StatusRejected
	case specs.InfraMachineConfigSpec_PENDING:
	}

	return shown
}

func (f *fleet) Machine(id string) (localapi.Machine, error) {
	list, err := f.Machines()
	if err != nil {
		return localapi.Machine{}, err
	}

	for _, m := range list.Items {
		if m.ID == id {
			return m, nil
		}
	}

	return localapi.Machine{}, fmt.Errorf("%w: %s", localapi.ErrNotFound, id)
}

func (f *fleet) Health() localapi.Health {
	return localapi.Health{APIVersion: localapi.APIVersion, Kind: "Health", ProviderID: provider, Acting: true}
}

func (f *fleet) Events(ctx context.Context, _ uint64) iter.Seq[localapi.Event] {
	return func(func(localapi.Event) bool) { <-ctx.Done() }
}

// Power implements localapi.Backend: none of these machines may be touched.
func (f *fleet) Power(_ context.Context, id string, _ localapi.PowerRequest, _ localapi.Peer) error {
	m, err := f.Machine(id)
	if err != nil {
		return err
	}

	return fmt.Errorf("%w: %s", localapi.ErrRefused, m.Name)
}

func (f *fleet) Release(_ context.Context, id, reason string, _ localapi.Peer) error {
	m, err := f.Machine(id)
	if err != nil {
		return err
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	if m.Held == "" || slices.Contains(f.released, id) {
		return fmt.Errorf("%w: %s is not held", localapi.ErrRefused, m.Name)
	}

	f.released = append(f.released, id)

	return nil
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			w, err := startWorld(env.WorkDir, machineA, machineB, machineC)
			if err != nil {
				return err
			}

			env.Defer(func() {
				if err := w.stop(); err != nil {
					t.Error(err)
				}
			})

			env.Vars = append(env.Vars, w.environment()...)
			env.Vars = append(env.Vars, asBmctl+"=1", "HOME="+env.WorkDir)

			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "jq": jsonHas},
	})
}

// exits runs a command and demands its exit code: exits 7 bmctl accept ...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}

	got := 0

	err := ts.Exec(args[1], args[2:]...)

	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}

	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}
