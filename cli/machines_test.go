package cli_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/bmctl/bmctl/power/bmcsim"
)

// bmcPassword is what no output may ever show.
const bmcPassword = "marked-secret-42"

// TestMachineScripts are the acts on machines in Omni, and serve's trials. Each
// script has an Omni with three pending machines, the BMCs of two of them, and
// something that answers as the Image Factory's health check does.
func TestMachineScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/machines",
		Setup: func(env *testscript.Env) error {
			w, err := startWorld(env.WorkDir, machineA, machineB, machineC)
			if err != nil {
				return err
			}

			env.Defer(func() { report(t, w.stop()) })

			factory := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			env.Defer(factory.Close)

			busy, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}

			env.Defer(func() { report(t, busy.Close()) })

			busyUDP, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				return err
			}

			env.Defer(func() { report(t, busyUDP.Close()) })

			if err := frontTLS(env, w); err != nil {
				return err
			}

			if err := startBMCs(t, env); err != nil {
				return err
			}

			env.Values[worldKey{}] = w
			env.Vars = append(env.Vars, w.environment()...)
			env.Vars = append(env.Vars, asBmctl+"=1", "HOME="+env.WorkDir, "OMNI="+w.omni.Endpoint(), "A="+machineA, "B="+machineB, "C="+machineC, "FACTORY="+factory.URL,
				fmt.Sprintf("BUSY=%d", busy.Addr().(*net.TCPAddr).Port),            //nolint:forcetypeassert // a TCP listener
				fmt.Sprintf("BUSYUDP=%d", busyUDP.LocalAddr().(*net.UDPAddr).Port)) //nolint:forcetypeassert // a UDP socket

			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "jq": jsonHas, "omni": omniCommand},
	})
}

func report(t *testing.T, err error) {
	t.Helper()

	if err != nil {
		t.Error(err)
	}
}

// frontTLS puts TLS before the world's Omni, as OMNI_TLS, with a certificate that
// only $CA_FILE trusts.
func frontTLS(env *testscript.Env, w *world) error {
	certified := httptest.NewTLSServer(nil) // for its certificate of loopback, which is its own authority
	certified.Close()

	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		return err
	}

	var tasks sync.WaitGroup

	tasks.Go(func() {
		for {
			outer, err := listener.Accept()
			if err != nil {
				return
			}

			tasks.Go(func() { forward(outer, strings.TrimPrefix(w.omni.Endpoint(), "http://")) })
		}
	})
	env.Defer(func() { _ = listener.Close(); tasks.Wait() })

	file := filepath.Join(env.WorkDir, "ca.pem")
	env.Vars = append(env.Vars, "OMNI_TLS=https://"+listener.Addr().String(), "CA_FILE="+file)

	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certified.Certificate().Raw}), 0o600)
}

// forward carries bytes both ways until either end closes.
func forward(outer net.Conn, to string) {
	defer outer.Close() //nolint:errcheck // bmctl may be gone already

	inner, err := net.DialTimeout("tcp", to, 10*time.Second)
	if err != nil {
		return // bmctl sees its connection close
	}

	var back sync.WaitGroup

	back.Go(func() { _, _ = io.Copy(outer, inner); _ = outer.Close() })

	_, _ = io.Copy(inner, outer)
	_ = inner.Close()

	back.Wait()
}

// startBMCs starts the controllers of the machines A (IPMI) and B (Redfish).
func startBMCs(t *testing.T, env *testscript.Env) error {
	for name, cfg := range map[string]bmcsim.Config{
		"BMC_A": {UUID: machineA, RedfishPort: bmcsim.PortOff, On: true},
		"BMC_B": {UUID: machineB, IPMIPort: bmcsim.PortOff},
	} {
		cfg.Users = map[string]string{"admin": bmcPassword}
		cfg.Vendor, cfg.Model = "Lab", "Box"

		bmc, err := bmcsim.Start(cfg)
		if err != nil {
			return err
		}

		env.Defer(func() {
			if acts := bmc.Acts(); len(acts) > 0 {
				t.Errorf("%s saw acts: %v", name, acts)
			}

			report(t, bmc.Close())
		})
		env.Vars = append(env.Vars, fmt.Sprintf("%s=%d", name, max(bmc.IPMIPort(), bmc.RedfishPort())))
	}

	return nil
}

// worldKey finds the script's world.
type worldKey struct{}

// omniCommand is Omni's other side: omni accept|hold|free ID, omni allocate ID
// CLUSTER, omni unregister PROVIDER, and omni show ID, which prints what the user
// has said of a machine.
func omniCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: omni accept|allocate|hold|free|show|unregister ID [CLUSTER]")
	}

	w, ok := ts.Value(worldKey{}).(*world)
	if !ok {
		ts.Fatalf("there is no world")
	}

	const finalizer = "the test"

	id, machine := args[1], infra.NewMachine(args[1]).Metadata()

	switch args[0] {
	case "accept":
		ts.Check(w.omni.Accept(id))
	case "allocate":
		ts.Check(w.omni.Allocate(id, args[2], "1.13.5", nil))
	case "hold":
		ts.Check(w.omni.State().AddFinalizer(context.Background(), machine, finalizer))
	case "unregister":
		ts.Check(w.omni.Unregister())
	case "free":
		ts.Check(w.omni.State().RemoveFinalizer(context.Background(), machine, finalizer))
	case "show":
		text, err := userSaid(w, id)
		ts.Check(err)
		fmt.Fprint(ts.Stdout(), text) //nolint:errcheck // a buffer
	default:
		ts.Fatalf("omni %s?", args[0])
	}
}

func userSaid(w *world, id string) (string, error) {
	ctx, st := context.Background(), w.omni.State()

	text := ""

	config, err := safe.StateGetByID[*omni.InfraMachineConfig](ctx, st, id)
	if err == nil {
		s := config.TypedSpec().Value
		text += fmt.Sprintf("acceptance %d\npreferred %d\ncordoned %t\nkernel-args %q\nreboot %t\npower-off %t\n",
			s.AcceptanceStatus, s.PowerState, s.Cordoned, s.ExtraKernelArgs, s.RequestedRebootId != "", s.PowerOffRequestId != "")
	} else if !state.IsNotFoundError(err) {
		return "", err
	}

	labels, err := safe.StateGetByID[*omni.MachineLabels](ctx, st, id)
	if err == nil {
		for _, key := range labels.Metadata().Labels().Keys() {
			value, _ := labels.Metadata().Labels().Get(key)
			text += fmt.Sprintf("label %s=%s\n", key, value)
		}
	} else if !state.IsNotFoundError(err) {
		return "", err
	}

	bmc, err := safe.StateGetByID[*omni.InfraMachineBMCConfig](ctx, st, id)
	if err == nil {
		login := bmc.TypedSpec().Value.GetIpmi()
		text += fmt.Sprintf("bmc %s:%d %s %t\n", login.GetAddress(), login.GetPort(), login.GetUsername(), login.GetPassword() == bmcPassword)
	} else if !state.IsNotFoundError(err) {
		return "", err
	}

	return text, nil
}
