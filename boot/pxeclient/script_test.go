package pxeclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// runScript runs a script whose neighbours, by path, are files.
func runScript(ctx context.Context, t testing.TB, script string, files map[string]string) (Result, []string, error) {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, found := files[r.URL.Path]
		if !found {
			http.NotFound(w, r)
			return
		}
		if to, redirect := strings.CutPrefix(body, "->"); redirect {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		fmt.Fprint(w, strings.ReplaceAll(body, "QUERY", r.URL.RawQuery))
	}))
	defer web.Close()
	c := &Client{DHCP: mustAddrPort("127.0.0.1:1"), Local: mustAddrPort("127.0.0.1:1").Addr(), MAC: "02:00:00:00:00:02", Firmware: IPXE,
		UUID: "4c4c4544-0042-3610-8054-b4c04f564433", Serial: "A 1", Hostname: "r1n01", SleepScale: 0.0001}
	b, err := c.start()
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	base, err := url.Parse(web.URL + "/dir/start.ipxe")
	if err != nil {
		t.Fatal(err)
	}
	i := &interpreter{boot: b, builtins: builtins(), settings: b.settings(Offer{File: "start.ipxe"}), at: base}
	err = i.run(ctx, script, base)
	var e ended
	if errors.As(err, &e) {
		b.result.Outcome, err = e.outcome, nil
	}
	var console []string
	for _, s := range b.result.Steps {
		if s.Name == "console" {
			console = append(console, strings.ReplaceAll(s.Detail, web.URL, "WEB"))
		}
	}
	b.result.Kernel = strings.ReplaceAll(b.result.Kernel, web.URL, "WEB")
	b.result.Initrd = strings.ReplaceAll(b.result.Initrd, web.URL, "WEB")
	return b.result, console, err
}

func TestScripts(t *testing.T) {
	for _, c := range []struct {
		name    string
		script  string
		files   map[string]string
		outcome Outcome
		console string // lines joined by /
		err     string
	}{
		{name: "falls off the end", script: "#!ipxe\necho a  b\n", console: "a b"},
		{name: "settings", script: "echo ${uuid} ${mac} ${net0/mac:hexhyp} ${netX/mac:hexraw} ${serial:uristring} ${hostname} ${buildarch} ${platform} ${user-class} ${net0/ip}",
			console: "4c4c4544-0042-3610-8054-b4c04f564433 02:00:00:00:00:02 02-00-00-00-00-02 020000000002 A%201 r1n01 x86_64 efi iPXE 127.0.0.1"},
		{name: "nested settings", script: "set n:int32 0\necho ${net${n}/mac} ${net1/mac}.", console: "02:00:00:00:00:02 ."},
		{name: "a value is one word", script: "set y b c\nisset ${y} && echo ${y} .", console: "b c ."},
		{name: "a value cannot end a command", script: "set bar ||\nset x ${serial} reboot\nset two ${serial}\nisset ${two} && echo ${two} ||", console: "A 1"},
		{name: "unset", script: "isset ${nothing} || echo unset\nset a 1\nclear a\nisset ${a} || echo cleared", console: "unset/cleared"},
		{name: "and, or", script: "iseq a a && echo 1 || echo 2\niseq a b && echo 3 || echo 4\niseq a b || echo 5 && echo 6\niseq a b ||\necho 7 ; echo 8", console: "1/4/5/6/7/8"},
		{name: "a loop", script: ":again\ninc n\necho ${n}\niseq ${n} 3 || goto again\nset m:int32 0x10\ninc m 2\necho ${m}", console: "1/2/3/18"},
		{name: "goto skips the rest of its line", script: "goto end && echo no\necho no\n:end\necho yes", console: "yes"},
		{name: "comments and continuation", script: "# echo no\necho a # b\necho c\\\nd", console: "a/cd"},
		{name: "a failure ends the script", script: "iseq a b\necho no", err: `"iseq a b": iseq: not equal`},
		{name: "an unknown command", script: "frobnicate", err: "frobnicate: command not found"},
		{name: "no such label", script: "goto nowhere", err: `no label "nowhere"`},
		{name: "exit", script: "exit\necho no", err: "exit 0"},
		{name: "exit 1", script: "exit 1", err: "exit 1"},
		{name: "reboot", script: "reboot", outcome: OutcomeReboot},
		{name: "poweroff", script: "poweroff", outcome: OutcomeOff},
		{name: "shell", script: "prompt --key 0x02 --timeout 2000 Press && shell ||\nshell", outcome: OutcomeStuck},
		{name: "sanboot", script: "sanboot --no-describe --drive 0x80", outcome: OutcomeDisk},
		{name: "sleep", script: "sleep 15\necho done", console: "done"},
		{name: "sleep what", script: "sleep -1", err: "are no seconds"},
		{name: "no kernel", script: "boot || echo no kernel", console: "no kernel"},
		{name: "a missing kernel", script: "kernel /k || echo missing", console: "missing"},
		{name: "another NIC", script: "ifopen net1 || echo none\niflinkwait --timeout 5000 net0\nifclose net0\nisset ${net0/ip} || echo closed", console: "none/closed"},
		{name: "chain returns", script: "chain next.ipxe && echo back", files: map[string]string{"/dir/next.ipxe": "#!ipxe\necho next\nexit\n"}, console: "next/back"},
		{name: "chain fails with its script", script: "chain next.ipxe || echo failed", files: map[string]string{"/dir/next.ipxe": "#!ipxe\nexit 1\n"}, console: "failed"},
		{name: "chain --replace does not return", script: "chain --replace --autofree sub/next.ipxe?a=${mac:hexhyp} && echo no", console: "a=02-00-00-00-00-02/there",
			files: map[string]string{"/dir/sub/next.ipxe": "#!ipxe\necho QUERY\nchain there.ipxe", "/dir/sub/there.ipxe": "#!ipxe\necho there"}},
		{name: "chain follows redirects", script: "chain /a", files: map[string]string{"/a": "->/b/c", "/b/c": "#!ipxe\nchain d", "/b/d": "#!ipxe\necho d"}, console: "d"},
		{name: "chain of nothing", script: "chain nothing || echo 404", console: "404"},
		{name: "chains within each other", script: "chain me", files: map[string]string{"/dir/me": "#!ipxe\nchain me"}, err: "16 scripts within each other"},
		{name: "in circles", script: ":a\ngoto a", err: "the script runs in circles"},
		{name: "a setting of itself", script: "set x ${x}${x}${x}\necho [${x}]", console: "[]"},
		{name: "a file", script: "chain file:///etc/passwd", err: `scheme "file" is not supported`},
	} {
		t.Run(c.name, func(t *testing.T) {
			result, console, err := runScript(t.Context(), t, c.script, c.files)
			if result.Outcome != c.outcome || strings.Join(console, "/") != c.console {
				t.Errorf("outcome %q, console %q", result.Outcome, console)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, not %q", err, c.err)
			}
		})
	}
}

func TestKernels(t *testing.T) {
	files := map[string]string{"/k": "kernel", "/i": "initrd", "/uki.efi": "MZ..."}
	for _, c := range []struct {
		name, script            string
		kernel, initrd, cmdline string
	}{
		{"the Image Factory's script", "#!ipxe\nimgfree\nkernel /k talos.platform=metal u=${uuid}\ninitrd /i\nboot", "WEB/k", "WEB/i", "talos.platform=metal u=4c4c4544-0042-3610-8054-b4c04f564433"},
		{"with options and imgargs", "kernel --name vmlinuz --timeout 1000 ../k a\nimgargs vmlinuz b c\nimgexec", "WEB/k", "", "b c"},
		{"freed", "kernel /k\ninitrd /i\nimgfree\nkernel /k x\nboot", "WEB/k", "", "x"},
		{"a unified kernel image", "chain /uki.efi quiet", "WEB/uki.efi", "", "quiet"},
	} {
		for _, fetch := range []bool{false, true} {
			result, _, err := runScript(t.Context(), t, c.script, files)
			if err != nil || result.Outcome != OutcomeKernel || result.Kernel != c.kernel || result.Initrd != c.initrd || result.Cmdline != c.cmdline {
				t.Errorf("%s (fetch %v): %+v, %v", c.name, fetch, result, err)
			}
		}
	}
}

func TestASleepEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := runScript(ctx, t, "sleep 100000000\n:a\necho a || goto a", nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended by %v", err)
	}
}

// FuzzScript: no script hangs the interpreter, which runs without a network here,
// or makes it panic.
func FuzzScript(f *testing.F) {
	for _, seed := range []string{
		"#!ipxe\n:a\ninc n\niseq ${n} 10 && goto b ||\nsleep 0\ngoto a\n:b\nreboot", "set x ${${x}}}}\necho ${x:hexhyp} ${:} ${/} ${net${n", "chain --replace",
		"kernel -- x\nboot", "imgargs\ninc\ninc x y\nset\nclear\niseq\nprompt", ":\ngoto\ngoto :", "a || b && c ; # d",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script string) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		c := &Client{DHCP: mustAddrPort("127.0.0.1:1"), Local: mustAddrPort("127.0.0.1:1").Addr(), Firmware: IPXE, SleepScale: 1e-9, Transport: offline{}}
		b, err := c.start()
		if err != nil {
			t.Fatal(err)
		}
		i := &interpreter{boot: b, builtins: builtins(), settings: b.settings(Offer{}), at: &url.URL{Scheme: "http", Host: "x"}}
		delete(i.builtins, "dhcp")
		delete(i.builtins, "ifconf")
		began := time.Now()
		_ = i.run(ctx, strings.ReplaceAll(script, "tftp:", ""), i.at)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

type offline struct{}

func (offline) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("offline") }
