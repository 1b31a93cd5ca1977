//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"

	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/omnisim"
	"github.com/bmctl/bmctl/serve/resources"
	ownspecs "github.com/bmctl/bmctl/serve/resources/specs"
)

const providerID = "bare-metal"

// TestFromNetworkBootToReady is the whole story of a machine that is new: told
// by its BMC to boot from the network, pending in Omni and left alone, accepted,
// set up, wiped, ready and off. After that serve knows its BMC, switches it on
// and off as Omni wishes, and lets go of it.
func TestFromNetworkBootToReady(t *testing.T) {
	if apart(t) {
		return
	}

	s := newSite(t)
	m := s.newMachine(t, 1, uefi)
	omni := s.startOmni(t)
	serve := s.startServe(t, omni)

	m.boot(t)
	m.reachesAgent(t, serve)
	checkSteps(t, serve, "discover", "request", "loader", "script", "kernel", "initrd")
	m.checkUntouched(t)

	m.accept(t, omni)
	m.becomesReady(t, omni)
	m.checkReady(t, omni)

	m.powerByPreference(t, omni)
	m.remove(t, omni)
}

func (m *machine) reachesAgent(t *testing.T, serve *localapi.Client) {
	t.Helper()
	eventually(t, "the machine's agent is connected", 240*time.Second, func(ctx context.Context) error {
		return m.agentConnected(ctx, serve)
	})
}

// accept accepts a machine that is pending.
func (m *machine) accept(t *testing.T, omni *omnisim.Server) {
	t.Helper()
	eventually(t, "the machine is pending in Omni", 30*time.Second, func(context.Context) error {
		return m.acceptanceIs(omni, specs.InfraMachineConfigSpec_PENDING)
	})

	if err := omni.Accept(m.id); err != nil {
		t.Fatal(err)
	}
}

// becomesReady waits until serve has done what follows from accepting a machine.
func (m *machine) becomesReady(t *testing.T, omni *omnisim.Server) {
	t.Helper()
	eventually(t, "the machine is accepted, ready to use and reported off", 120*time.Second, func(context.Context) error {
		return errors.Join(m.acceptanceIs(omni, specs.InfraMachineConfigSpec_ACCEPTED), m.readyAndOff(omni))
	})
}

// powerByPreference has serve switch the machine on, to boot agent mode as it is
// in no cluster, and off again.
func (m *machine) powerByPreference(t *testing.T, omni *omnisim.Server) {
	t.Helper()

	acts := []string{"start override=pxe", "stop", "start override=pxe", "stop"}

	for i, want := range []specs.InfraMachineConfigSpec_MachinePowerState{
		specs.InfraMachineConfigSpec_POWER_STATE_ON, specs.InfraMachineConfigSpec_POWER_STATE_OFF,
	} {
		if err := omni.Configure(m.id, func(config *specs.InfraMachineConfigSpec) { config.PowerState = want }); err != nil {
			t.Fatal(err)
		}

		eventually(t, fmt.Sprintf("the machine is switched to %s", want), 30*time.Second, func(context.Context) error {
			return m.actsAre(acts[:3+i]...)
		})
	}
}

// remove takes the machine out of Omni: it stays off, and serve keeps nothing
// of it.
func (m *machine) remove(t *testing.T, omni *omnisim.Server) {
	t.Helper()

	before, err := os.ReadFile(m.path("acts"))
	if err != nil {
		t.Fatal(err)
	}

	if err := omni.Remove(m.id); err != nil {
		t.Fatal(err)
	}

	eventually(t, "the machine is released", 30*time.Second, func(ctx context.Context) error {
		if _, err := omni.Machine(m.id); !state.IsNotFoundError(err) {
			return fmt.Errorf("Omni still has the machine (%v)", err)
		}

		_, err := omni.State().Get(ctx, resources.NewBMCConfiguration(providerID, m.id).Metadata())
		if !state.IsNotFoundError(err) {
			return fmt.Errorf("serve still keeps its BMC's login (%v)", err)
		}

		return nil
	})

	if after, err := os.ReadFile(m.path("acts")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the removal of a machine that is off came with power acts: %s (%v)", after, err)
	}
}

// startOmni starts the stand-in for Omni in this process.
func (s *site) startOmni(t *testing.T) *omnisim.Server {
	t.Helper()

	log, err := os.Create(s.path("omnisim.log"))
	if err != nil {
		t.Fatal(err)
	}

	omni, err := omnisim.Start(omnisim.Config{
		Dir: s.path("omni"), Listen: providerAddr + ":0", ProviderID: providerID, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := errors.Join(omni.Close(), log.Close()); err != nil {
			t.Error(err)
		}
	})

	return omni
}

// startServe starts the real thing, and returns when it knows Omni's machines
// and may act.
func (s *site) startServe(t *testing.T, omni *omnisim.Server) *localapi.Client {
	t.Helper()

	serve := exec.Command(prepared(t, "bin/bmctl"), "serve",
		"--id="+providerID, "--api-advertise-address="+providerAddr,
		"--use-local-boot-assets", "--boot-assets-path="+s.bootAssets(t),
		"--ipmi-pxe-boot-mode=uefi", "--redfish-use-when-available=false",
		"--min-reboot-interval=5s", "--poll-interval=2s",
		"--state-dir="+s.path("state-dir"), "--socket="+s.path("bmctl.sock"))
	serve.Env = append(os.Environ(), "OMNI_ENDPOINT="+omni.Endpoint(), "OMNI_SERVICE_ACCOUNT_KEY="+omni.ProviderKey())
	start(t, s.dir, "serve", serve)

	client := localapi.Dial(s.path("bmctl.sock"))
	t.Cleanup(client.Close)

	eventually(t, "serve knows Omni and may act", 30*time.Second, func(ctx context.Context) error {
		health, err := client.Health(ctx)
		if err != nil {
			return err
		}

		if !health.OmniConnected || !health.Acting {
			return fmt.Errorf("connected to Omni: %t %s; acting: %t %s", health.OmniConnected, health.OmniError, health.Acting, health.ActingReason)
		}

		return nil
	})

	return client
}

func (m *machine) agentConnected(ctx context.Context, serve *localapi.Client) error {
	seen, err := serve.Machine(ctx, m.id)
	if err != nil {
		return err
	}

	if seen.AgentSince.IsZero() {
		return fmt.Errorf("no agent of %s: stage %q, status %q, %s", m.id, seen.Stage, seen.Status, seen.Reason)
	}

	return nil
}

func (m *machine) acceptanceIs(omni *omnisim.Server, want specs.InfraMachineConfigSpec_AcceptanceStatus) error {
	known, err := omni.Machine(m.id)
	if err != nil {
		return err
	}

	if got := known.TypedSpec().Value.AcceptanceStatus; got != want {
		return fmt.Errorf("in Omni the machine is %s", got)
	}

	return nil
}

func (m *machine) readyAndOff(omni *omnisim.Server) error {
	status, err := omni.Status(m.id)
	if err != nil {
		return err
	}

	if got := status.TypedSpec().Value; !got.ReadyToUse || got.PowerState != specs.InfraMachineStatusSpec_POWER_STATE_OFF {
		return fmt.Errorf("in Omni the machine is ready: %t, %s", got.ReadyToUse, got.PowerState)
	}

	return nil
}

// checkSteps reads in serve's own events how the machine booted, up to its
// initramfs.
func checkSteps(t *testing.T, serve *localapi.Client, want ...string) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	all := []string{"discover", "request", "loader", "script", "kernel", "initrd"}

	var steps []string

	for event, err := range serve.Events(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}

		if slices.Contains(all, event.Type) && !slices.Contains(steps, event.Type) {
			steps = append(steps, event.Type)
		}

		if event.Type == "initrd" {
			break
		}
	}

	if !slices.Equal(steps, want) {
		t.Errorf("the steps of the boot are %v, not %v", steps, want)
	}
}

// checkUntouched holds of a machine that nobody accepted: its disk is as it was,
// its BMC has no user of ours, and its power was switched by the test alone.
func (m *machine) checkUntouched(t *testing.T) {
	t.Helper()

	if !bytes.HasPrefix(m.firstMegabyte(t), []byte("not wiped yet")) {
		t.Error("the disk of a pending machine was written to")
	}

	if err := m.actsAre("start override=pxe"); err != nil {
		t.Errorf("a pending machine: %v", err)
	}

	users, err := m.ipmitool(t.Context(), factoryUser, factoryPassword, "user", "list", "1")
	if err != nil {
		t.Fatal(err)
	}

	if !strings.Contains(users, factoryUser) || strings.Contains(users, "talos-agent") {
		t.Errorf("the users of a pending machine's BMC are:\n%s", users)
	}
}

// checkReady asks the disk, and the BMC with the login that the agent made
// there, whether what Omni was told is true.
func (m *machine) checkReady(t *testing.T, omni *omnisim.Server) {
	t.Helper()

	if disk := m.firstMegabyte(t); !bytes.Equal(disk, make([]byte, len(disk))) {
		t.Errorf("the first megabyte of the disk is not zero; it begins with %q", disk[:32])
	}

	login := m.bmcAccess(t, omni)
	if login.GetAddress() != m.bmc || login.GetPort() != 623 || login.GetUsername() != "talos-agent" {
		t.Errorf("the BMC in our state is %s:%d, user %s", login.GetAddress(), login.GetPort(), login.GetUsername())
	}

	if err := m.powerIs(t.Context(), "off", login.GetUsername(), login.GetPassword()); err != nil {
		t.Errorf("as the agent's user: %v", err)
	}

	if err := m.powerIs(t.Context(), "off", login.GetUsername(), "another password"); err == nil {
		t.Error("the BMC takes any password")
	}

	if err := m.actsAre("start override=pxe", "stop"); err != nil {
		t.Error(err)
	}
}

// bmcAccess is what serve keeps in Omni of the machine's BMC.
func (m *machine) bmcAccess(t *testing.T, omni *omnisim.Server) *ownspecs.BMCConfigurationSpec_IPMI {
	t.Helper()

	if err := resources.Register(providerID); err != nil {
		t.Fatal(err)
	}

	stored, err := omni.State().Get(t.Context(), resources.NewBMCConfiguration(providerID, m.id).Metadata())
	if err != nil {
		t.Fatal(err)
	}

	// To Omni the types of its providers are bytes.
	unpacked, err := protobuf.UnmarshalResource(stored.(*protobuf.Resource))
	if err != nil {
		t.Fatal(err)
	}

	return unpacked.(*resources.BMCConfiguration).TypedSpec().Value.GetIpmi()
}
