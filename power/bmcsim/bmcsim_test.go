package bmcsim_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	user     = "admin"
	password = "Secret-12345678"
	uuidText = "4c4c4544-0042-4a10-8053-b9c04f4a3232"
)

// machine notes what the chassis tells it.
type machine struct {
	calls chan string
}

func (m *machine) PowerOn(boot power.Boot) { m.calls <- "on " + boot.Device.String() }
func (m *machine) PowerOff()               { m.calls <- "off" }

func (m *machine) expect(t *testing.T, want ...string) {
	t.Helper()

	for _, w := range want {
		select {
		case got := <-m.calls:
			if got != w {
				t.Fatalf("the machine was told %q, want %q", got, w)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("the machine was not told %q in 5s", w)
		}
	}
}

func start(t *testing.T, cfg bmcsim.Config) (*bmcsim.BMC, *machine) {
	t.Helper()

	m := &machine{calls: make(chan string, 64)}
	cfg.UUID, cfg.Machine = uuidText, m
	cfg.Users = map[string]string{user: password}

	b, err := bmcsim.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})

	return b, m
}

// tool runs an independent client. Where it is missing the test is skipped,
// but not in CI.
func tool(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()

	path, err := exec.LookPath(name)
	if err != nil {
		message := name + " is missing: apt-get install ipmitool freeipmi-tools"
		if os.Getenv("CI") == "true" {
			t.Fatal(message)
		}

		t.Skip(message)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()

	return strings.TrimSpace(string(out)), err
}

func ipmitool(t *testing.T, b *bmcsim.BMC, args ...string) (string, error) {
	t.Helper()

	return tool(t, []string{"IPMI_PASSWORD=" + password}, "ipmitool", append([]string{
		"-I", "lanplus", "-H", b.Addr().String(), "-p", strconv.Itoa(b.IPMIPort()),
		"-U", user, "-E", "-C", "17", "-L", "OPERATOR", "-N", "1", "-R", "2",
	}, args...)...)
}

func kinds(b *bmcsim.BMC) []bmcsim.ActKind {
	var got []bmcsim.ActKind
	for _, act := range b.Acts() {
		got = append(got, act.Kind)
	}

	return got
}

func TestIpmitoolReadsAndSwitches(t *testing.T) {
	t.Parallel()

	b, m := start(t, bmcsim.Config{RedfishPort: bmcsim.PortOff, Vendor: "Contoso", Model: "X1"})

	for _, step := range []struct{ args, want string }{
		{"chassis power status", "Chassis Power is off"},
		{"chassis bootdev pxe options=efiboot", "Set Boot Device to pxe"},
		{"chassis bootparam get 5", "Force PXE"},
		{"chassis power on", "Chassis Power Control: Up/On"},
		{"chassis power status", "Chassis Power is on"},
		{"chassis power cycle", "Chassis Power Control: Cycle"},
		{"chassis power reset", "Chassis Power Control: Reset"},
		{"chassis power diag", "Chassis Power Control: Diag"},
		{"chassis power soft", "Chassis Power Control: Soft"},
		{"chassis power status", "Chassis Power is off"},
		{"mc guid ipmi", uuidText},
		{"fru print 0", "Contoso"},
	} {
		got, err := ipmitool(t, b, strings.Fields(step.args)...)
		if err != nil || !strings.Contains(got, step.want) {
			t.Errorf("ipmitool %s: %v, said %q, want %q", step.args, err, got, step.want)
		}
	}

	m.expect(t, "on pxe", "off", "on none", "off", "on none", "off")

	want := []bmcsim.ActKind{
		bmcsim.ActBootSet, bmcsim.ActOn, bmcsim.ActCycle, bmcsim.ActReset, bmcsim.ActNMI, bmcsim.ActSoft,
	}
	if got := kinds(b); !slices.Equal(got, want) {
		t.Errorf("acts %v, want %v", got, want)
	}

	if got := b.Acts()[0].Boot; got != (power.Boot{Device: power.DevicePXE, Mode: power.ModeUEFI}) {
		t.Errorf("ipmitool's boot override arrived as %+v", got)
	}
}

func TestIpmitoolIsRefused(t *testing.T) {
	t.Parallel()

	b, _ := start(t, bmcsim.Config{RedfishPort: bmcsim.PortOff})

	if got, err := ipmitool(t, b, "chassis", "power", "cycle"); err == nil {
		t.Errorf("cycle of a machine that is off was accepted: %q", got)
	}

	if err := b.SetFault(bmcsim.FaultBadLogin, true); err != nil {
		t.Fatal(err)
	}

	if got, err := ipmitool(t, b, "chassis", "power", "status"); err == nil {
		t.Errorf("a wrong password was accepted: %q", got)
	}

	if err := b.SetFault(bmcsim.FaultBadLogin, false); err != nil {
		t.Fatal(err)
	}

	if got, err := ipmitool(t, b, "chassis", "power", "status"); err != nil {
		t.Errorf("the right password was refused: %v %q", err, got)
	}
}

func TestIpmipowerReadsAndSwitches(t *testing.T) {
	t.Parallel()

	b, m := start(t, bmcsim.Config{RedfishPort: bmcsim.PortOff})

	config := t.TempDir() + "/freeipmi.conf"
	if err := os.WriteFile(config, []byte("username "+user+"\npassword "+password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	run := func(action string) string {
		got, err := tool(t, nil, "ipmipower", "--config-file="+config, "-D", "LAN_2_0", "-I", "17",
			"-l", "OPERATOR", "-h", b.Addr().String()+":"+strconv.Itoa(b.IPMIPort()), action, "--session-timeout=8000")
		if err != nil {
			t.Errorf("ipmipower %s: %v", action, err)
		}

		return got
	}

	for _, step := range []struct{ action, want string }{
		{"--stat", "off"}, {"--on", "ok"}, {"--stat", "on"}, {"--off", "ok"}, {"--stat", "off"},
	} {
		if got := run(step.action); !strings.HasSuffix(got, ": "+step.want) {
			t.Errorf("ipmipower %s said %q, want %q", step.action, got, step.want)
		}
	}

	m.expect(t, "on none", "off")
}

// client speaks plain HTTP to the Redfish face.
type client struct {
	t    *testing.T
	base string
	http *http.Client
}

func newClient(t *testing.T, b *bmcsim.BMC) *client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)

	return &client{
		t:    t,
		base: "https://" + netip.AddrPortFrom(b.Addr(), uint16(b.RedfishPort())).String(),
		http: &http.Client{Transport: transport, Timeout: 5 * time.Second},
	}
}

func (c *client) do(method, path, body string, headers ...string) (*http.Response, map[string]any) {
	c.t.Helper()

	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}

	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}

	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()

	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}

	var decoded map[string]any
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &decoded); err != nil {
			c.t.Fatalf("%s %s answered no JSON: %v", method, path, err)
		}
	}

	return resp, decoded
}

func (c *client) expect(status int, method, path, body string, headers ...string) map[string]any {
	c.t.Helper()

	resp, got := c.do(method, path, body, headers...)
	if resp.StatusCode != status {
		c.t.Fatalf("%s %s: %s, want %d (%v)", method, path, resp.Status, status, got)
	}

	return got
}

func TestRedfishReadsAndSwitches(t *testing.T) {
	t.Parallel()

	b, m := start(t, bmcsim.Config{IPMIPort: bmcsim.PortOff})
	c := newClient(t, b)

	c.expect(http.StatusOK, "GET", "/redfish/v1/", "")
	c.expect(http.StatusUnauthorized, "GET", "/redfish/v1/Systems", "")
	c.expect(http.StatusUnauthorized, "POST", "/redfish/v1/SessionService/Sessions", `{"UserName":"admin","Password":"no"}`)

	resp, _ := c.do("POST", "/redfish/v1/SessionService/Sessions", `{"UserName":"admin","Password":"`+password+`"}`)
	token, session := resp.Header.Get("X-Auth-Token"), resp.Header.Get("Location")
	auth := []string{"X-Auth-Token", token}

	const system = "/redfish/v1/Systems/1"
	if got := c.expect(http.StatusOK, "GET", system, "", auth...); got["UUID"] != uuidText || got["PowerState"] != "Off" {
		t.Errorf("the system reads %v", got)
	}

	c.expect(http.StatusNoContent, "PATCH", system,
		`{"Boot":{"BootSourceOverrideTarget":"Pxe","BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI"}}`, auth...)
	c.expect(http.StatusPreconditionFailed, "PATCH", system, `{"Boot":{}}`, append(auth, "If-Match", `"old"`)...)
	c.expect(http.StatusBadRequest, "PATCH", system, `{"Boot":{"BootSourceOverrideTarget":"Moon"}}`, auth...)

	reset := system + "/Actions/ComputerSystem.Reset"
	c.expect(http.StatusConflict, "POST", reset, `{"ResetType":"ForceRestart"}`, auth...)
	c.expect(http.StatusNoContent, "POST", reset, `{"ResetType":"On"}`, auth...)
	m.expect(t, "on pxe")

	if b.Boot() != (power.Boot{}) {
		t.Errorf("the one-shot override is still there after the power-on: %+v", b.Boot())
	}

	c.expect(http.StatusNoContent, "DELETE", session, "", auth...)
	c.expect(http.StatusUnauthorized, "GET", system, "", auth...)
}

func TestOneChassisTwoFaces(t *testing.T) {
	t.Parallel()

	b, m := start(t, bmcsim.Config{On: true})

	if got, err := ipmitool(t, b, "chassis", "power", "off"); err != nil {
		t.Fatalf("%v: %s", err, got)
	}

	m.expect(t, "off")

	got := newClient(t, b).expect(http.StatusOK, "GET", "/redfish/v1/Systems/1", "", "Authorization", basic())
	if got["PowerState"] != "Off" {
		t.Errorf("off over IPMI, but Redfish says %v", got["PowerState"])
	}
}

func basic() string {
	req := http.Request{Header: http.Header{}}
	req.SetBasicAuth(user, password)

	return req.Header.Get("Authorization")
}

func TestSetUserWorksOnBothFaces(t *testing.T) {
	t.Parallel()

	b, err := bmcsim.Start(bmcsim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()

	if got, err := ipmitool(t, b, "chassis", "power", "status"); err == nil {
		t.Errorf("a user that does not exist was let in: %s", got)
	}

	if err := b.SetUser(user, password); err != nil {
		t.Fatal(err)
	}

	if got, err := ipmitool(t, b, "chassis", "power", "status"); err != nil {
		t.Errorf("the new user was refused: %v: %s", err, got)
	}

	newClient(t, b).expect(http.StatusOK, "GET", "/redfish/v1/Systems", "", "Authorization", basic())

	if err := b.SetUser(strings.Repeat("x", 17), password); err == nil {
		t.Error("a user name of 17 bytes was accepted")
	}
}

func TestLogHoldsNoPassword(t *testing.T) {
	t.Parallel()

	var out lockedBuffer

	b, _ := start(t, bmcsim.Config{Log: debugLog(&out)})
	if got, err := ipmitool(t, b, "-L", "ADMINISTRATOR", "user", "set", "password", "2", "changed-Pw-1"); err != nil {
		t.Fatalf("%v: %s", err, got)
	}

	newClient(t, b).expect(http.StatusOK, "GET", "/redfish/v1/Systems", "", "Authorization", basic())

	if text := out.String(); text == "" || strings.Contains(text, "6368616e676564") || strings.Contains(text, password) {
		t.Errorf("the log is empty or holds a password:\n%s", text)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.b.String()
}

func debugLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
