package power_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmctest"
)

// chassisProgram is the machine of OpenIPMI's simulator: a file that is there
// while the power is on.
const chassisProgram = `#!/bin/sh
power=$1/power boot=$1/boot; shift
verb=$1; shift
case $verb in
get) for p in "$@"; do case $p in
	power) [ -e "$power" ] && echo power:1 || echo power:0;;
	boot) echo "boot:$(cat "$boot" 2>/dev/null || echo default)";; esac; done;;
set) while [ $# -gt 1 ]; do case $1 in
	power) if [ "$2" = 1 ]; then : >"$power"; else rm -f "$power"; fi;;
	boot) echo "$2" >"$boot";;
	shutdown) rm -f "$power";; esac; shift 2; done;;
esac
exit 0
`

const lanConfig = `name "bmc"
set_working_mc 0x20
startlan 1
  addr %s %d
  priv_limit admin
  allowed_auths_callback none md2 md5 straight
  allowed_auths_user none md2 md5 straight
  allowed_auths_operator none md2 md5 straight
  allowed_auths_admin none md2 md5 straight
  guid a123456789abcdefa123456789abcdef
endlan
chassis_control "%s %s"
startnow false
user 1 false "" "" user 10 none md2 md5 straight
user 2 true "admin" "%s" admin 10 none md2 md5 straight
`

const emulation = `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
`

// The driver and bmcsim share a library, and with it maybe a mistake: OpenIPMI's
// simulator judges the driver by itself.
func TestConformanceOpenIPMI(t *testing.T) {
	t.Parallel()

	program, err := exec.LookPath("ipmi_sim")
	if err != nil {
		const message = "ipmi_sim is missing: apt-get install openipmi"
		if os.Getenv("CI") == "true" {
			t.Fatal(message)
		}

		t.Skip(message)
	}

	bmctest.Conformance(t, func(t *testing.T) bmctest.Peer {
		target := startOpenIPMI(t, program)

		return bmctest.Peer{Opener: power.NewDialer(power.Options{}), Target: target}
	})
}

var starts atomic.Int32

func startOpenIPMI(t *testing.T, program string) power.Target {
	t.Helper()

	// The simulator's password field has 16 bytes.
	const password = "Secret-12345678"

	// The simulator binds the port that it is told. An address of its own on
	// loopback, by process and start, keeps it out of everybody's way.
	const port = 6623

	address := netip.AddrFrom4([4]byte{127, 78, byte(os.Getpid()), byte(starts.Add(1))}).String()
	dir := t.TempDir()
	chassis := filepath.Join(dir, "chassis.sh")
	write(t, chassis, chassisProgram, 0o700)
	write(t, filepath.Join(dir, "lan.conf"), fmt.Sprintf(lanConfig, address, port, chassis, dir, password), 0o600)
	write(t, filepath.Join(dir, "sim.emu"), emulation, 0o600)

	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-c", "lan.conf", "-f", "sim.emu", "-s", dir, "-n")
	cmd.Dir = dir

	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}

	t.Cleanup(func() {
		cancel()

		_ = cmd.Wait() // it was killed
	})

	target := power.Target{
		Name: "sim", Address: address, Port: port, Protocol: power.ProtocolIPMI,
		Username: "admin", Password: power.NewSecret(password),
	}
	awaitAnswer(t, target)

	return target
}

// awaitAnswer returns when the controller answers at all.
func awaitAnswer(t *testing.T, target power.Target) {
	t.Helper()

	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		bmc, err := power.NewDialer(power.Options{}).Open(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}

		_, err = bmc.State(within(t, time.Second))
		bmc.Close()

		if err == nil {
			return
		}
	}

	t.Fatalf("nothing answers at %s", target.Address)
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()

	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
