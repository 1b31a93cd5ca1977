package bmcsim_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
)

// missing skips the test where a tool is not there; in CI it fails it.
func missing(t *testing.T, what, pkg string) {
	t.Helper()

	message := what + " is missing: apt-get install " + pkg
	if os.Getenv("CI") == "true" {
		t.Fatal(message)
	}

	t.Skip(message)
}

// sushyScript is OpenStack's Redfish client, as Ironic uses it.
const sushyScript = `
import json, os, sys, warnings
warnings.filterwarnings("ignore")
import sushy
root = sushy.Sushy(os.environ["URL"], username=os.environ["BMC_USER"], password=os.environ["BMC_PASSWORD"], verify=False)
system = root.get_system_collection().get_members()[0]
told = {"uuid": system.uuid, "vendor": system.manufacturer, "before": system.power_state.value}
system.set_system_boot_options(sushy.BOOT_SOURCE_TARGET_PXE, sushy.BOOT_SOURCE_ENABLED_ONCE, sushy.BOOT_SOURCE_MODE_UEFI)
system.refresh(force=True)
told["boot"] = [system.boot.target.value, system.boot.enabled.value, system.boot.mode.value]
for action in (sushy.RESET_ON, sushy.RESET_FORCE_RESTART, sushy.RESET_NMI, sushy.RESET_GRACEFUL_SHUTDOWN):
    system.reset_system(action)
system.refresh(force=True)
told["after"] = system.power_state.value
manager = root.get_manager_collection().get_members()[0]
told["firmware"] = manager.firmware_version
chassis = root.get_chassis_collection().get_members()[0]
told["fans"] = [f.identity for f in chassis.thermal.fans]
told["macs"] = sorted(system.ethernet_interfaces.summary)
print(json.dumps(told))
`

func TestSushyReadsAndSwitches(t *testing.T) {
	t.Parallel()

	const python = "/usr/bin/python3" // the distribution's, which has its packages
	if exec.Command(python, "-c", "import sushy").Run() != nil {
		missing(t, "the Python module sushy", "python3-sushy")
	}

	b, m := start(t, bmcsim.Config{IPMIPort: bmcsim.PortOff, Vendor: "Contoso"})

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	cmd := exec.CommandContext(ctx, python, "-c", sushyScript)
	// A bundle of authorities in the environment would outrank verify=False.
	cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE=", "CURL_CA_BUNDLE=",
		"URL=https://"+redfishAddress(b), "BMC_USER="+user, "BMC_PASSWORD="+password)
	cmd.Stderr = t.Output()

	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sushy: %v", err)
	}

	var told struct {
		UUID, Vendor, Before, After, Firmware string
		Boot, Fans, MACs                      []string
	}
	if err := json.Unmarshal(out, &told); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	if told.UUID != uuidText || told.Vendor != "Contoso" || told.Before != "Off" || told.After != "Off" || told.Firmware != "1.10" {
		t.Errorf("sushy read %+v", told)
	}

	if !slices.Equal(told.Boot, []string{"Pxe", "Once", "UEFI"}) || len(told.Fans) != 2 || len(told.MACs) != 2 {
		t.Errorf("sushy read %+v", told)
	}

	m.expect(t, "on pxe", "off", "on none", "off")

	want := []bmcsim.ActKind{bmcsim.ActBootSet, bmcsim.ActOn, bmcsim.ActReset, bmcsim.ActNMI, bmcsim.ActSoft}
	if got := kinds(b); !slices.Equal(got, want) {
		t.Errorf("acts %v, want %v", got, want)
	}
}

func redfishAddress(b *bmcsim.BMC) string {
	return net.JoinHostPort(b.Addr().String(), strconv.Itoa(b.RedfishPort()))
}

// redfishtool is the DMTF's client.
func TestRedfishtoolReadsAndSwitches(t *testing.T) {
	t.Parallel()

	path, err := exec.LookPath("redfishtool")
	if err != nil {
		missing(t, "redfishtool", "redfishtool")
	}

	b, m := start(t, bmcsim.Config{IPMIPort: bmcsim.PortOff, Vendor: "Contoso"})
	config := filepath.Join(t.TempDir(), "redfishtool.json")
	login := `{"user": "` + user + `", "password": "` + password + `"}`

	if err := os.WriteFile(config, []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}

	for _, step := range []struct{ args, want string }{
		{"root", `"Vendor": "Contoso"`},
		{"Systems -1", `"PowerState": "Off"`},
		{"Systems -1 setBootOverride Once Pxe", ""},
		{"Systems -1 reset On", ""},
		{"Systems -1", `"PowerState": "On"`},
		{"Systems -1 reset ForceOff", ""},
		{"Chassis -1 Thermal", `"FAN1"`},
		{"Chassis -1 Power", `"PSU1 Power"`},
		{"Managers -1", `"FirmwareVersion": "1.10"`},
		{"Managers -1 Logs -i SEL -E", `The power is off`},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		args := append([]string{"-r", redfishAddress(b), "-c", config, "-S", "Always", "-A", "Session", "-n"}, strings.Fields(step.args)...)
		out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()

		cancel()

		if err != nil || !strings.Contains(string(out), step.want) {
			t.Errorf("redfishtool %s: %v, said\n%s", step.args, err, out)
		}
	}

	m.expect(t, "on pxe", "off")

	if got := b.Acts()[0].Boot; got.Device != power.DevicePXE {
		t.Errorf("the boot override arrived as %+v", got)
	}
}

// ipmitool reads what the IPMI face has beside the power.
func TestIpmitoolReadsTheHardware(t *testing.T) {
	t.Parallel()

	b, _ := start(t, bmcsim.Config{RedfishPort: bmcsim.PortOff, On: true})

	for _, step := range []struct{ args, want string }{
		{"sdr elist full", "5400 RPM"},
		{"sdr elist full", "12.10 Volts"},
		{"sdr elist compact", "Presence detected"},
		{"sel list", "Log area reset/cleared"},
		{"fru print 1", "PS-800"},
		{"lan print 1", "IP Address              : 127.0.0.1"},
		{"sol info 1", "Enabled                         : true"},
		{"chassis identify 10", "Chassis identify interval: 10 seconds"},
	} {
		got, err := ipmitool(t, b, strings.Fields(step.args)...)
		if err != nil && !strings.HasPrefix(step.args, "lan") || !strings.Contains(got, step.want) {
			t.Errorf("ipmitool %s: %v, said\n%s\nwant %q", step.args, err, got, step.want)
		}
	}

	if !b.Lit() {
		t.Error("the lamp is not lit")
	}
}

// And it talks to the console.
func TestIpmitoolConsole(t *testing.T) {
	t.Parallel()

	path, err := exec.LookPath("ipmitool")
	if err != nil {
		missing(t, "ipmitool", "ipmitool")
	}

	script, err := exec.LookPath("script")
	if err != nil {
		missing(t, "script", "bsdutils")
	}

	b, _ := start(t, bmcsim.Config{RedfishPort: bmcsim.PortOff})
	b.Print([]byte("machine says hello\r\n"))

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	line := strings.Join([]string{
		path, "-I", "lanplus", "-H", b.Addr().String(), "-p", strconv.Itoa(b.IPMIPort()), "-U", user, "-E", "-C", "17", "sol", "activate",
	}, " ")
	cmd := exec.CommandContext(ctx, script, "-qec", line, "/dev/null")
	cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+password)

	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	wait(t, &out, "machine says hello")
	in.Write([]byte("echo of this\r"))
	wait(t, &out, "echo of this")
	in.Write([]byte("~."))

	if err := cmd.Wait(); err != nil {
		t.Logf("ipmitool ended with %v", err) // it does not agree with itself on a code
	}

	if n := b.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// wait returns once the output holds the text.
func wait(t *testing.T, out *lockedBuffer, text string) {
	t.Helper()

	deadline := time.Now().Add(15 * time.Second)
	for !strings.Contains(out.String(), text) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in %q", text, out.String())
		}

		time.Sleep(20 * time.Millisecond)
	}
}
