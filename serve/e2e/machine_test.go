//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
)

const (
	diskSize = 64 << 20
	diskEdge = 1 << 20 // the first megabyte, of which the test knows what is in it
)

// The login with which a machine's BMC comes, for the test's own acts.
const (
	factoryUser     = "ipmiusr"
	factoryPassword = "test"
)

// The kinds of machine, for qemu.sh. An empty ROM leaves out QEMU's own for the
// NIC, which is iPXE: the firmware's own PXE stack is what is to be tested then.
const (
	uefi     = "firmware=uefi rom=''"
	uefiHTTP = uefi + " options='-fw_cfg name=opt/org.tianocore/IPv4PXESupport,string=n -fw_cfg name=opt/org.tianocore/IPv6PXESupport,string=n'"
	uefiIPXE = "firmware=uefi"
	bios     = "firmware=bios"
	legacy   = "firmware=legacy rom=''"
	arm64    = "firmware=arm64 rom=''"
)

// machine is one of the site's.
type machine struct {
	dir string
	id  string // SMBIOS UUID
	mac string
	bmc string // its BMC's address
}

// newMachine builds a machine, off: a NIC in the machines' network, a disk with a
// marker, and ipmi_sim as its BMC, which starts and stops QEMU and is also
// /dev/ipmi0 inside of it.
func (s *site) newMachine(t *testing.T, number int, kind string) *machine {
	t.Helper()

	m := &machine{
		dir: s.path(fmt.Sprintf("machine%d", number)), id: fmt.Sprintf("7f000000-0000-4000-8000-%012x", number),
		mac: fmt.Sprintf("52:54:00:77:00:%02x", number), bmc: fmt.Sprintf("10.77.1.%d", number),
	}
	tap := fmt.Sprintf("tap%d", number)
	ip(t, here, `addr add `+m.bmc+`/32 dev lo`)
	ip(t, s.machinesAt, `tuntap add `+tap+` mode tap
		link set `+tap+` master br0 up`)

	scripts, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}

	disk := make([]byte, diskSize)
	copy(disk, bytes.Repeat([]byte("not wiped yet\n"), diskEdge/14+1)[:diskEdge])

	if err := os.MkdirAll(m.path("state"), 0o755); err != nil {
		t.Fatal(err)
	}

	for name, content := range map[string]string{
		"disk.img": string(disk),
		"machine":  fmt.Sprintf("uuid=%s mac=%s tap=%s bmc=%s host=%s %s\n", m.id, m.mac, tap, m.bmc, s.machinesAt, kind),
		"lan.conf": m.lanConf(scripts + "/bmc.sh"),
		"sim.emu":  simEmu,
	} {
		if err := os.WriteFile(m.path(name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	s.machines = append(s.machines, m)
	t.Cleanup(func() { run(t, scripts+"/bmc.sh", m.dir, "set", "power", "0") })
	start(t, m.dir, "ipmi_sim", exec.Command("ipmi_sim", "-c", "lan.conf", "-f", "sim.emu", "-s", "state", "-n"))
	eventually(t, "the BMC answers", 30*time.Second, func(ctx context.Context) error {
		return m.powerIs(ctx, "off", factoryUser, factoryPassword)
	})

	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// lanConf is ipmi_sim's configuration: one LAN channel with a login, free slots
// for more users, and a VM serial channel that QEMU connects to.
func (m *machine) lanConf(program string) string {
	guid, err := hex.DecodeString(strings.ReplaceAll(m.id, "-", ""))
	if err != nil {
		panic(err)
	}

	slices.Reverse(guid) // the last byte of the text comes first (IPMI 2.0, 20.8)

	return fmt.Sprintf(`name "e2e"
set_working_mc 0x20
startlan 1
  addr %[1]s 623
  priv_limit admin
  allowed_auths_callback none md2 md5 straight
  allowed_auths_user none md2 md5 straight
  allowed_auths_operator none md2 md5 straight
  allowed_auths_admin none md2 md5 straight
  guid %[2]x
  lan_config_program "%[3]s %[4]s"
endlan
chassis_control "%[3]s %[4]s"
serial 15 %[1]s 9002 codec VM
startnow false
user 1 false "" "" user 10 none md2 md5 straight
user 2 true "%[5]s" "%[6]s" admin 10 none md2 md5 straight
user 3 false "" "" admin 10 none md2 md5 straight
user 4 false "" "" admin 10 none md2 md5 straight
`, m.bmc, guid, program, m.dir, factoryUser, factoryPassword)
}

// simEmu is the least that ipmi_sim takes for a controller: it opens no socket
// when a line before mc_enable is wrong, and does not say so.
const simEmu = `mc_setbmc 0x20
mc_add 0x20 0 has-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
`

// ipmitool is the independent witness: it asks the BMC as anybody would.
func (m *machine) ipmitool(ctx context.Context, user, password string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	// Suite 3 is all that ipmi_sim knows. -E takes the password from the environment.
	login := []string{"-I", "lanplus", "-C", "3", "-N", "1", "-R", "2", "-H", m.bmc, "-U", user, "-E"}
	command := exec.CommandContext(ctx, "ipmitool", append(login, args...)...)
	command.Env = append(os.Environ(), "IPMI_PASSWORD="+password)

	return output(command)
}

// boot has the machine's BMC boot it from the network.
func (m *machine) boot(t *testing.T) {
	t.Helper()

	for _, order := range []string{"bootdev pxe options=efiboot", "power on"} {
		if _, err := m.ipmitool(t.Context(), factoryUser, factoryPassword, append([]string{"chassis"}, strings.Fields(order)...)...); err != nil {
			t.Fatal(err)
		}
	}
}

// off has the machine's BMC switch it off.
func (m *machine) off(t *testing.T) {
	t.Helper()

	if _, err := m.ipmitool(t.Context(), factoryUser, factoryPassword, "chassis", "power", "off"); err != nil {
		t.Fatal(err)
	}

	eventually(t, "the machine is off", 30*time.Second, func(ctx context.Context) error {
		return m.powerIs(ctx, "off", factoryUser, factoryPassword)
	})
}

// console is what the machine has written to its serial port, without the escape
// sequences that place it on a screen.
func (m *machine) console() string {
	text, err := os.ReadFile(m.path("serial.log"))
	if err != nil {
		return err.Error()
	}

	return ansi.Strip(string(text))
}

// powerIs asks the BMC, and is nil if the chassis power is the one wanted.
func (m *machine) powerIs(ctx context.Context, want, user, password string) error {
	got, err := m.ipmitool(ctx, user, password, "chassis", "power", "status")
	if err != nil {
		return err
	}

	if got != "Chassis Power is "+want {
		return fmt.Errorf("the BMC says %q", got)
	}

	return nil
}

// firstMegabyte reads the machine's disk.
func (m *machine) firstMegabyte(t *testing.T) []byte {
	t.Helper()

	disk, err := os.ReadFile(m.path("disk.img"))
	if err != nil {
		t.Fatal(err)
	}

	return disk[:diskEdge]
}

// actsAre is nil if this was done to the machine's power, and nothing else.
func (m *machine) actsAre(want ...string) error {
	text, err := os.ReadFile(m.path("acts"))
	if err != nil {
		return err
	}

	var acts []string

	for line := range strings.Lines(string(text)) {
		_, act, _ := strings.Cut(strings.TrimSpace(line), " ") // after the time
		acts = append(acts, act)
	}

	if !slices.Equal(acts, want) {
		return fmt.Errorf("the power acts are %q, not %q", acts, want)
	}

	return nil
}
