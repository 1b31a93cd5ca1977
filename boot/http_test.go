package boot_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/boot"
)

const uuid = "4c4c4544-0042-3610-8054-b4c04f564433"

// get asks for a path and returns status and body.
func (f *fixture) get(t *testing.T, path string) (int, string) {
	t.Helper()
	response, err := http.Get(f.http + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestBootScriptOfEachDecision(t *testing.T) {
	again := "sleep 15\nchain --replace --autofree %BASE%/ipxe/boot.ipxe?uuid=${uuid}&mac=${netX/mac:hexhyp}&serial=${serial:uristring}&manufacturer=${manufacturer:uristring}&product=${product:uristring}&hostname=${hostname:uristring}&arch=${buildarch} ||\n"
	for _, c := range []struct {
		decision boot.Decision
		method   boot.DiskMethod
		status   int
		lines    string // must follow upon each other
		log      string
	}{
		{
			decision: boot.Decision{Kind: boot.Agent, Reason: "unknown machine", Kernel: "http://f/k", Initrd: "http://f/i", Args: []string{"a=${uuid}", "console=ttyS0"}},
			lines:    "#!ipxe\necho bmctl: unknown machine\nimgfree\nkernel http://f/k initrd=initrd a=${uuid} console=ttyS0 || goto failed\ninitrd --name initrd http://f/i || goto failed\nboot || goto failed\n",
			log:      "boot machine: Talos agent mode",
		},
		{
			decision: boot.Decision{Kind: boot.Talos, Reason: "allocated", Chain: "https://f/pxe/x"},
			lines:    "#!ipxe\necho bmctl: allocated\nimgfree\nchain --replace --autofree https://f/pxe/x ||\n",
			log:      "boot machine: Talos over iPXE",
		},
		{
			decision: boot.Decision{Kind: boot.Talos, Reason: "r", Kernel: "http://f/metal-amd64-secureboot-uki.efi?uuid=${uuid}", Args: []string{"a"}},
			lines:    "imgfree\nkernel http://f/metal-amd64-secureboot-uki.efi?uuid=${uuid} a || goto failed\nboot || goto failed\n",
		},
		{decision: boot.Decision{Kind: boot.Wait, Reason: "held"}, lines: again, log: "boot machine: wait"},
		{decision: boot.Decision{Kind: boot.Wait, Reason: "held", RetryAfter: 90 * time.Second}, lines: "sleep 90\n"},
		{decision: boot.Decision{Kind: boot.Wait, Reason: "held", RetryAfter: time.Millisecond}, lines: "sleep 1\n"},
		{decision: boot.Decision{Kind: boot.Disk, Reason: "installed"}, lines: "#!ipxe\necho bmctl: installed\n", log: "boot machine: from the disk"},
		{decision: boot.Decision{Kind: boot.Disk, Reason: "installed"}, lines: "exit 1 ||\nexit\n"},
		{decision: boot.Decision{Kind: boot.Disk, Reason: "installed", Method: boot.DiskSanboot}, lines: "sanboot --no-describe --drive 0x80 ||\n"},
		{decision: boot.Decision{Kind: boot.Disk, Reason: "installed"}, method: boot.DiskSanboot, lines: "sanboot --no-describe --drive 0x80 ||\n"},
		{decision: boot.Decision{Kind: boot.Disk, Reason: "installed", Method: boot.DiskHTTP404}, status: 404},
		{decision: boot.Decision{Kind: boot.Disk, Reason: "installed", Method: boot.DiskExit}, method: boot.DiskHTTP404, lines: "exit\n"},
		// What cannot be carried out is a wait that says why.
		{decision: boot.Decision{Kind: boot.Agent}, lines: "echo bmctl: no decision yet: the decision has no reason\n", log: "boot machine: wait"},
		{decision: boot.Decision{Kind: boot.Agent, Reason: "r", Kernel: "http://f/k"}, lines: `bmctl: no decision yet: initramfs "" is not an http or https URL` + "\n"},
		{decision: boot.Decision{Kind: boot.Talos, Reason: "r", Chain: "file:///etc/passwd"}, lines: "is not an http or https URL\n"},
		{decision: boot.Decision{Kind: boot.Talos, Reason: "r", Chain: "http://f/x y"}, lines: "iPXE cannot take the character"},
		{decision: boot.Decision{Kind: boot.Agent, Reason: "r", Kernel: "http://f/k", Initrd: "http://f/i", Args: []string{"token=se\ncret"}}, lines: `kernel argument "token" cannot be said in a script` + "\n"},
		{decision: boot.Decision{Kind: boot.Agent, Reason: "r", Kernel: "http://f/k", Initrd: "http://f/i", Args: []string{"||"}}, lines: "cannot be said in a script\n"},
		{decision: boot.Decision{Kind: boot.Disk, Reason: "r", Method: "floppy"}, lines: `unknown method "floppy"`},
	} {
		f := start(t, boot.Config{Decider: &decider{decision: c.decision}, DiskMethod: c.method})
		status, script := f.get(t, "/ipxe/boot.ipxe?uuid="+uuid+"&mac=02-00-00-00-00-01&arch=x86_64")
		if c.status == 0 {
			c.status = http.StatusOK
		}
		if want := strings.ReplaceAll(c.lines, "%BASE%", f.http); status != c.status || !strings.Contains(script, want) {
			t.Errorf("%+v: %d\n%s\ndoes not hold\n%s", c.decision, status, script, want)
		}
		if strings.Contains(script, "cret") {
			t.Errorf("a secret is in the script:\n%s", script)
		}
		e := f.event(t, boot.EventScript)
		if e.UUID != uuid || e.MAC != "02:00:00:00:00:01" || e.Arch != "amd64" || e.Reason == "" || e.Addr != loopback {
			t.Errorf("event %+v", e)
		}
		log := f.log.text()
		if !strings.Contains(log, c.log) || !strings.Contains(log, `msg="handle iPXE boot request" uuid=`+uuid+" mac=02:00:00:00:00:01 arch=amd64") {
			t.Errorf("log without %q:\n%s", c.log, log)
		}
	}
}

func TestBootScriptOfADeciderThatFails(t *testing.T) {
	f := start(t, boot.Config{Decider: &decider{err: errors.New("the list has not arrived")}})
	status, script := f.get(t, "/ipxe/boot.ipxe?uuid="+uuid)
	if status != http.StatusOK || !strings.Contains(script, "echo bmctl: no decision yet: the list has not arrived\n") || !strings.Contains(script, "sleep 15\n") {
		t.Errorf("%d\n%s", status, script)
	}
	if e := f.event(t, boot.EventScript); e.Decision != boot.Wait {
		t.Errorf("event %+v", e)
	}
}

func TestBootScriptNeedsAUUID(t *testing.T) {
	d := &decider{decision: boot.Decision{Kind: boot.Disk, Reason: "installed"}}
	f := start(t, boot.Config{Decider: d})
	for query, reason := range map[string]string{
		"":                                   "no uuid",
		"uuid=":                              "no uuid",
		"uuid=1":                             `uuid "1" is malformed`,
		"uuid=" + uuid + "0":                 "is malformed",
		"uuid=" + uuid + "%0aexit":           "is malformed",
		"uuid=..%2f..%2fetc%2fpasswd&mac=x":  "is malformed",
		"uuid=" + uuid + "&arch=riscv64":     `architecture "riscv64" is not supported`,
		"uuid=" + strings.Repeat("f", 10000): "is malformed",
		"uuid=zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz&serial=": "is malformed",
	} {
		status, body := f.get(t, "/ipxe/boot.ipxe?"+query)
		if status != http.StatusBadRequest || !strings.Contains(body, reason) || len(body) > 1000 {
			t.Errorf("%q: %d %q", query, status, body)
		}
		if e := f.event(t, boot.EventIgnored); !strings.Contains(e.Reason, reason) || e.UUID != "" {
			t.Errorf("%q: event %+v", query, e)
		}
		if status, body = f.get(t, "/ipxe/refused.ipxe?"+query); status != http.StatusOK || !strings.HasSuffix(body, "sleep 30\nreboot\n") {
			t.Errorf("%q: the machine is then told %d\n%s", query, status, body)
		}
	}
	if asked := d.machines(); len(asked) != 0 {
		t.Errorf("the decider was asked about %+v", asked)
	}
}

func TestPlaceholdersWait(t *testing.T) {
	d := &decider{decision: boot.Decision{Kind: boot.Agent, Reason: "unknown machine", Chain: "http://f/x"}}
	f := start(t, boot.Config{Decider: d})
	for _, id := range []string{
		"00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "03000200-0400-0500-0006-000700080009",
	} {
		_, script := f.get(t, "/ipxe/boot.ipxe?uuid="+id)
		if !strings.Contains(script, strings.ToLower(id)+" is a placeholder") || !strings.Contains(script, "sleep 15\n") {
			t.Errorf("%s: %s", id, script)
		}
		if e := f.event(t, boot.EventScript); e.Decision != boot.Wait || !strings.Contains(e.Reason, "placeholder") {
			t.Errorf("event %+v", e)
		}
	}
	if asked := d.machines(); len(asked) != 0 {
		t.Errorf("the decider was asked about %+v", asked)
	}
}

func TestWhatAMachineSaysOfItself(t *testing.T) {
	d := &decider{decision: boot.Decision{Kind: boot.Disk, Reason: "installed"}}
	f := start(t, boot.Config{Decider: d})
	query := url.Values{"uuid": {strings.ToUpper(uuid)}, "mac": {"AA-BB-CC-DD-EE-FF"}, "serial": {" A1\n${x}\x00 "}, "manufacturer": {"Super\nmicro"}, "product": {"X11DPi"}, "hostname": {strings.Repeat("ü", 100)}, "arch": {"i386"}}
	f.get(t, "/ipxe/boot.ipxe?"+query.Encode())
	f.get(t, "/ipxe/boot.ipxe?uuid="+uuid+"&mac=junk&arch=arm64")
	want := []boot.Machine{
		{UUID: uuid, MAC: "aa:bb:cc:dd:ee:ff", Serial: "A1${x}", Manufacturer: "Supermicro", Product: "X11DPi", Hostname: strings.Repeat("ü", 64), Arch: "amd64", Addr: loopback},
		{UUID: uuid, Arch: "arm64", Addr: loopback},
	}
	got := d.machines()
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v\nnot %+v", got, want)
	}
}

// A reason may quote what a machine said. It must stay one echoed line.
func TestReasonsCannotInject(t *testing.T) {
	hostile := "host \"x\nreboot\r\nexit || sanboot && reboot ; exit ${uuid} #comment -n \x00é ##"
	f := start(t, boot.Config{Decider: &decider{decision: boot.Decision{Kind: boot.Disk, Reason: hostile}}})
	_, script := f.get(t, "/ipxe/boot.ipxe?uuid="+uuid)
	want := `echo bmctl: host "x reboot exit sanboot reboot exit (uuid} comment n ??`
	if line := strings.Split(script, "\n")[1]; line != want {
		t.Errorf("%q\nnot %q", line, want)
	}
	if e := f.event(t, boot.EventScript); e.Reason != hostile {
		t.Errorf("the event's reason is changed: %q", e.Reason)
	}
}

func TestInitScriptNamesTheAddressItWasAskedAt(t *testing.T) {
	f := start(t, boot.Config{})
	for host, base := range map[string]string{
		strings.TrimPrefix(f.http, "http://"): f.http,
		"10.1.2.3:80":                         "http://10.1.2.3:80",
		"10.1.2.3":                            "http://10.1.2.3",
		"evil\" || reboot":                    f.http,
		"name.example:50042":                  f.http,
		"[fe80::1%${uuid}]:80":                f.http,
	} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ipxe/init.ipxe", nil)
		request.Host = host
		response := httptest.NewRecorder()
		f.Handler().ServeHTTP(response, request)
		if !strings.Contains(response.Body.String(), "chain --replace --autofree "+base+"/ipxe/boot.ipxe?uuid=${uuid}&mac=${net${nic}/mac:hexhyp}&") {
			t.Errorf("Host %q:\n%s", host, response.Body)
		}
	}
}

func TestFilesOverHTTP(t *testing.T) {
	f := start(t, boot.Config{})
	whole := fetchHTTP(t, f.http+"/tftp/ipxe.efi")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.http+"/tftp/ipxe.efi", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Range", "bytes=2-5")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	part, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || response.StatusCode != http.StatusPartialContent || string(part) != string(whole[2:6]) {
		t.Errorf("range: %s, %d bytes, %v", response.Status, len(part), err)
	}
	head, err := http.Head(f.http + "/tftp/ipxe.efi")
	if err != nil {
		t.Fatal(err)
	}
	head.Body.Close()
	if head.ContentLength != int64(len(whole)) {
		t.Errorf("HEAD says %d bytes, not %d", head.ContentLength, len(whole))
	}
	for _, path := range []string{"/tftp/nothing", "/tftp/..%2f..%2fetc%2fpasswd", "/tftp/", "/ipxe/other.ipxe"} {
		if status, _ := f.get(t, path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	post, err := http.Post(f.http+"/tftp/ipxe.efi", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	post.Body.Close()
	if post.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", post.Status)
	}
}

func TestDecideIsBounded(t *testing.T) {
	slow := deciderFunc(func(ctx context.Context, _ boot.Machine) (boot.Decision, error) {
		deadline, ok := ctx.Deadline()
		if !ok || time.Until(deadline) > 5*time.Second {
			return boot.Decision{}, errors.New("no deadline of at most 5 s")
		}
		return boot.Decision{Kind: boot.Disk, Reason: "installed"}, nil
	})
	f := start(t, boot.Config{Decider: slow})
	if _, script := f.get(t, "/ipxe/boot.ipxe?uuid="+uuid); !strings.Contains(script, "installed") {
		t.Error(script)
	}
}

type deciderFunc func(context.Context, boot.Machine) (boot.Decision, error)

func (d deciderFunc) Decide(ctx context.Context, m boot.Machine) (boot.Decision, error) {
	return d(ctx, m)
}
