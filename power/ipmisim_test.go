package power_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

	program := openIPMI(t)

	bmctest.Conformance(t, func(t *testing.T) bmctest.Peer {
		target := startOpenIPMI(t, program)

		return bmctest.Peer{Opener: power.NewDialer(power.Options{}), Target: target}
	})
}

// openIPMI is the path of OpenIPMI's simulator.
func openIPMI(t *testing.T) string {
	t.Helper()

	program, err := exec.LookPath("ipmi_sim")
	if err != nil {
		const message = "ipmi_sim is missing: apt-get install openipmi"
		if os.Getenv("CI") == "true" {
			t.Fatal(message)
		}

		t.Skip(message)
	}

	return program
}

// Two entries of the event log, and a temperature sensor with its record (IPMI
// 2.0, tables 32-1 and 43-1), in the simulator's own words.
var hardwareCommands = []string{
	"sel_add 0x20 0x02 0x00 0x00 0x00 0x00 0x20 0x00 0x04 0x10 0x01 0x6f 0x02 0xff 0xff",
	"sel_add 0x20 0x02 0x80 0x51 0x01 0x69 0x20 0x00 0x04 0x01 0x30 0x01 0x59 0x62 0x5f",
	"sensor_add 0x20 0 0x30 0x01 0x01",
	"sensor_set_event_support 0x20 0 0x30 disable scanning per-state 000000000000000 000000000000000 000000000000000 000000000000000",
	"sensor_set_value 0x20 0 0x30 45 0",
	"main_sdr_add 0x20 0x00 0x00 0x51 0x01 0x33 0x20 0x00 0x30 0x03 0x01 0x67 0x68 0x01 0x01 0x00 0x00 0x00 0x00 0x3f 0x3f" +
		" 0x00 0x01 0x00 0x00 0x01 0x00 0x00 0x00 0x00 0x00 0x00 0x00 0x00 0x00 0xff 0x00 0x00 0x00 0x00 0x00 0x00 0x00" +
		" 0x00 0x00 0x00 0x00 0x00 0xc8 0x43 0x50 0x55 0x20 0x54 0x65 0x6d 0x70",
}

// OpenIPMI's simulator judges how sensors and the event log are read, too.
func TestHardwareOfOpenIPMI(t *testing.T) {
	t.Parallel()

	target := startOpenIPMI(t, openIPMI(t), hardwareCommands...)
	bmc := open(t, target)

	sensors, err := bmc.(power.Sensors).Sensors(bmctest.Context(t))
	want := power.Sensor{Name: "CPU Temp", Kind: power.SensorTemperature, Value: 45, Unit: "C", Health: power.HealthOK}

	if err != nil || len(sensors) != 1 || sensors[0] != want {
		t.Errorf("%v: got %+v, want %+v", err, sensors, want)
	}

	entries, err := bmc.(power.EventLog).EventLog(bmctest.Context(t), 0)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v: got %+v", err, entries)
	}

	if !strings.Contains(entries[0].Text, "cleared") {
		t.Errorf("the first entry is %+v", entries[0])
	}

	if e := entries[1]; e.Severity != power.HealthCritical || e.Text != "upper critical - going high" || e.Source != "Temperature #30" {
		t.Errorf("the last entry is %+v", e)
	}

	// And a probe tells what it is.
	result, err := power.NewDialer(power.Options{}).Probe(bmctest.Context(t), target, false)
	if err != nil || result.Version != "2.0" || !result.LoggedIn || result.Boot != power.SupportYes {
		t.Errorf("%v: %+v", err, result)
	}
}

var starts atomic.Int32

// startOpenIPMI starts the simulator; more is added to its emulation commands.
func startOpenIPMI(t *testing.T, program string, more ...string) power.Target {
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
	commands := strings.Replace(emulation, "mc_enable", strings.Join(append(more, "mc_enable"), "\n"), 1)
	write(t, filepath.Join(dir, "sim.emu"), commands, 0o600)

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
