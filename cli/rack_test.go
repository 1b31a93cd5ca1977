package cli_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/localapi"
)

// rack is twelve machines' BMCs on loopback addresses of their own, an inventory
// that holds all but the last, and a serve as far as its socket. The first BMC
// speaks Redfish, the others IPMI; r1n05 is off.
type rack struct {
	dir      string
	sims     map[string]*bmcsim.BMC
	names    []string
	ipmiPort int

	mu      sync.Mutex
	seen    map[string]int // acts of each that a script has looked at
	ordered []string       // what serve was asked to do

	stop func() error
}

const (
	rackUser     = "admin"
	rackPassword = "Secret-12345678"
	rackSize     = 12
	stranger     = "r1n12" // serve alone knows it
)

func machineUUID(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", 0x10000000+i, i) }

func startRack(dir string) (*rack, error) {
	r := &rack{dir: dir, sims: map[string]*bmcsim.BMC{}, seen: map[string]int{}}
	r.stop = r.close

	for i := 1; i <= rackSize; i++ {
		if err := r.addMachine(i); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}

	if err := r.writeInventory(); err != nil {
		return nil, errors.Join(err, r.close())
	}

	closeSocket, err := serveSocket(filepath.Join(dir, "sock"), r)
	if err != nil {
		return nil, errors.Join(err, r.close())
	}

	r.stop = sync.OnceValue(func() error { return errors.Join(closeSocket(), r.close()) })

	return r, nil
}

func (r *rack) addMachine(i int) error {
	name := fmt.Sprintf("r1n%02d", i)
	cfg := bmcsim.Config{
		UUID: machineUUID(i), Vendor: "Lab", Model: "Pizza Box", Users: map[string]string{rackUser: rackPassword}, On: i != 5,
		ListenIP: netip.AddrFrom4([4]byte{127, 80, byte(os.Getpid()), byte(i)}), IPMIPort: r.ipmiPort, RedfishPort: bmcsim.PortOff,
	}

	if i == 1 {
		cfg.IPMIPort, cfg.RedfishPort = bmcsim.PortOff, 0
	}

	sim, err := bmcsim.Start(cfg)
	if err != nil {
		return err
	}

	r.sims[name], r.names = sim, append(r.names, name)

	if sim.IPMIPort() > 0 {
		r.ipmiPort = sim.IPMIPort()
	}

	return nil
}

func (r *rack) close() error {
	var errs []error
	for _, sim := range r.sims {
		errs = append(errs, sim.Close())
	}

	return errors.Join(errs...)
}

func (r *rack) writeInventory() error {
	if err := os.WriteFile(filepath.Join(r.dir, "password"), []byte(rackPassword+"\n"), 0o600); err != nil {
		return err
	}

	var b strings.Builder

	b.WriteString("# the rack\nhosts:\n")

	for i, name := range r.names {
		protocol, port := "ipmi", r.ipmiPort
		if i == 0 {
			protocol, port = "redfish", r.sims[name].RedfishPort()
		}

		if name != stranger {
			fmt.Fprintf(&b, "  %s: {address: %s, protocol: %s, port: %d, id: %s, labels: {rack: r1, odd: %q}}\n",
				name, r.sims[name].Addr(), protocol, port, machineUUID(i+1), fmt.Sprint(i%2 == 0))
		}
	}

	fmt.Fprintf(&b, "groups: {rack1: \"r1n[01-11]\", pair: \"r1n[02-03]\"}\ncredentials:\n  default: {username: %s, password-file: %q}\n",
		rackUser, filepath.Join(r.dir, "password"))

	return os.WriteFile(filepath.Join(r.dir, "config.yaml"), []byte(b.String()), 0o600)
}

func (r *rack) environment() []string {
	return []string{
		"BMCTL_CONFIG=" + filepath.Join(r.dir, "config.yaml"), "BMCTL_SOCKET=" + filepath.Join(r.dir, "sock"), asBmctl + "=1", "HOME=" + r.dir,
		"REDFISH=" + fmt.Sprintf("%s:%d", r.sims["r1n01"].Addr(), r.sims["r1n01"].RedfishPort()),
		"ADDRESS=" + r.sims[stranger].Addr().String(), "PORT=" + fmt.Sprint(r.ipmiPort), "NET=" + strings.TrimSuffix(r.sims["r1n01"].Addr().String(), ".1"),
	}
}

// Machines implements localapi.Backend: r1n02 and r1n04 are in use.
func (r *rack) Machines() (localapi.MachineList, error) {
	list := localapi.MachineList{APIVersion: localapi.APIVersion, Kind: "MachineList"}

	for i, name := range r.names {
		m := localapi.Machine{
			ID: machineUUID(i + 1), Name: name, Power: r.sims[name].State().String(), Status: localapi.StatusReady, Labels: map[string]string{},
			BMC: localapi.BMC{Address: r.sims[name].Addr().String()},
		}

		if name == "r1n02" || name == "r1n04" {
			m.Cluster, m.TalosVersion = "prod", "v1.13.7"
			m.Role = map[string]string{"r1n02": localapi.RoleWorker, "r1n04": localapi.RoleControlPlane}[name]
		}

		list.Items = append(list.Items, m)
	}

	return list, nil
}

func (r *rack) Machine(id string) (localapi.Machine, error) {
	list, err := r.Machines()
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

func (r *rack) Health() localapi.Health { return localapi.Health{APIVersion: localapi.APIVersion} }

func (r *rack) Events(ctx context.Context, _ uint64) iter.Seq[localapi.Event] {
	return func(func(localapi.Event) bool) { <-ctx.Done() }
}

func (r *rack) Release(context.Context, string, string, localapi.Peer) error {
	return localapi.ErrRefused
}

// Power implements localapi.Backend with the login that serve has.
func (r *rack) Power(ctx context.Context, id string, act localapi.PowerRequest, _ localapi.Peer) error {
	m, err := r.Machine(id)

	switch {
	case err != nil:
		return err
	case m.Cluster != "" && !act.InCluster:
		return fmt.Errorf("%w: %s", localapi.ErrInCluster, m.Name)
	}

	r.mu.Lock()
	r.ordered = append(r.ordered, m.Name)
	r.mu.Unlock()

	bmc, err := power.NewDialer(power.Options{}).Open(ctx, r.target(m.Name))
	if err != nil {
		return err
	}
	defer bmc.Close() //nolint:errcheck // a test's session

	if act.Boot != "" {
		return bmc.SetBoot(ctx, power.Boot{Device: power.DevicePXE, Mode: power.ModeUEFI})
	}

	return bmc.Do(ctx, map[string]power.Action{"on": power.On, "off": power.Off, "cycle": power.Cycle}[act.Action])
}

func (r *rack) target(name string) power.Target {
	sim := r.sims[name]

	return power.Target{
		Name: name, Address: sim.Addr().String(), Port: sim.IPMIPort(), Protocol: power.ProtocolIPMI, Username: rackUser, Password: power.NewSecret(rackPassword),
	}
}

func TestPowerScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/power",
		Setup: func(env *testscript.Env) error {
			r, err := startRack(env.WorkDir)
			if err != nil {
				return err
			}

			env.Defer(func() {
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})

			env.Vars = append(env.Vars, r.environment()...)
			env.Values["rack"] = r

			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "jq": jsonHas, "fault": setFault, "chassis": chassisIs, "acts": actsAre, "sessions": sessionsAre,
		},
	})
}

func rackOf(ts *testscript.TestScript, name string) (*rack, *bmcsim.BMC) {
	r, ok := ts.Value("rack").(*rack)
	if !ok {
		ts.Fatalf("there is no rack")
	}

	if name != "" && r.sims[name] == nil {
		ts.Fatalf("there is no machine %s", name)
	}

	return r, r.sims[name]
}

// setFault switches a fault on, or with ! off: fault r1n07 silent
func setFault(ts *testscript.TestScript, neg bool, args []string) {
	_, sim := rackOf(ts, args[0])
	ts.Check(sim.SetFault(args[1], !neg))
}

// chassisIs demands a power state: chassis r1n02 on
func chassisIs(ts *testscript.TestScript, neg bool, args []string) {
	_, sim := rackOf(ts, args[0])
	if got := sim.State().String(); (got == args[1]) == neg {
		ts.Fatalf("%s is %s", args[0], got)
	}
}

// actsAre demands what has reached a BMC since the last time: acts r1n02 boot-set:pxe cycle
func actsAre(ts *testscript.TestScript, _ bool, args []string) {
	r, sim := rackOf(ts, args[0])

	var got []string

	for _, act := range sim.Acts()[r.seen[args[0]]:] {
		text := string(act.Kind)
		if act.Kind == bmcsim.ActBootSet {
			text += ":" + act.Boot.Device.String() + "," + act.Boot.Mode.String()
			if act.Boot.Persistent {
				text += ",persistent"
			}
		}

		got = append(got, text)
	}

	r.seen[args[0]] = len(sim.Acts())

	if !slices.Equal(got, args[1:]) {
		ts.Fatalf("%s got %v", args[0], got)
	}
}

// sessionsAre demands the number of sessions that are open on all BMCs.
func sessionsAre(ts *testscript.TestScript, _ bool, args []string) {
	r, _ := rackOf(ts, "")
	if got := fmt.Sprint(r.sessions()); got != args[0] {
		ts.Fatalf("%s sessions are open", got)
	}
}

func (r *rack) sessions() int {
	open := 0
	for _, sim := range r.sims {
		open += sim.Sessions()
	}

	return open
}

func newRack(t *testing.T) *rack {
	t.Helper()

	r, err := startRack(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})

	return r
}

const rackPatience = 30 * time.Second
