package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/bmctl/bmctl/serve/localapi"
)

// served is a bmctl serve on a segment. It has no Omni, so that machines are told
// to wait, which is an answer as good as any.
type served struct {
	*segment
	client *localapi.Client
	log    *log
}

// serve runs bmctl serve at proxyAddr, on the real ports.
func (s *segment) serve(args ...string) *served {
	s.t.Helper()

	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}

	dir, err := os.MkdirTemp("", "serve") // a socket's path is short
	if err != nil {
		s.t.Fatal(err)
	}

	socket := filepath.Join(dir, "serve.sock")
	args = append([]string{
		"netns", "exec", s.host(proxyAddr), self, "serve", "--api-advertise-address=" + proxyAddr, "--metrics-address=",
		"--state-dir=" + filepath.Join(dir, "state"), "--socket=" + socket,
	}, args...)
	cmd := exec.Command("ip", args...) //nolint:noctx // the test ends it
	cmd.Env = append(os.Environ(), asBmctl+"=1", "HOME="+dir, "OMNI_ENDPOINT=http://127.0.0.1:1", "OMNI_SERVICE_ACCOUNT_KEY="+newWorld(s.t).omni.ProviderKey())

	stderr, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}

	r := &served{s, localapi.Dial(socket), newLog(stderr)}

	s.t.Cleanup(func() {
		r.client.Close()

		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-r.log.done

		if err := cmd.Wait(); err != nil {
			s.t.Errorf("serve: %v", err)
		}

		if s.t.Failed() {
			s.t.Logf("serve:\n%s", r.log.text.String())
		}

		if err := os.RemoveAll(dir); err != nil {
			s.t.Error(err)
		}
	})
	awaitHealth(s.t, socket)

	return r
}

// event waits for an event of the type with the words in its reason.
func (s *served) event(kind, words string) localapi.Event {
	s.t.Helper()

	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()

	var others []string

	for e, err := range s.client.Events(ctx, 0) {
		if err != nil {
			break
		}

		if e.Type == kind && strings.Contains(e.Reason, words) {
			return e
		}

		others = append(others, fmt.Sprintf("%+v", e))
	}

	s.t.Fatalf("no event %s with %q; there were\n%s", kind, words, strings.Join(others, "\n"))

	return localapi.Event{}
}

// The site's DHCP server sends option 60 itself, which serve finds out by asking,
// before any machine does, and says what pxe test then shows.
func TestServeSeesOption60OfTheSite(t *testing.T) {
	t.Parallel()

	s := newSegment(t)
	s.site(siteAddr, "--dhcp-option-force=60,PXEClient")
	serve := s.serve()

	e := serve.event("rival", "sends option 60 (PXEClient) itself")
	if e.Address != siteAddr || e.Interface != "net0" || e.MAC != "" || !strings.Contains(e.Reason, "UEFI ends with PXE-E16") {
		t.Errorf("event %+v", e)
	}

	tests, exit := s.pxeTest("--interface", "net0", "--firmware", "uefi")
	if exit != 8 || len(tests) != 1 || tests[0].Code != "PXE-E16" {
		t.Fatalf("exit %d", exit)
	}
}

// Another proxy is heard when it answers a machine, and told of once.
func TestServeHearsAnotherProxy(t *testing.T) {
	t.Parallel()

	s := newSegment(t)
	s.site(siteAddr)
	s.peer("10.77.0.6", func(d *dhcpv4.DHCPv4) { d.BootFileName = "other.efi" })
	serve := s.serve()

	e := serve.event("rival", "10.77.0.6 offers a network boot too")
	if e.Address != "10.77.0.6" || e.Interface != "net0" || e.File != "ipxe.efi" {
		t.Errorf("event %+v", e)
	}

	if _, exit := s.pxeTest("--interface", "net0", "--firmware", "uefi"); exit != 0 {
		t.Logf("exit %d: the test may have followed the other one", exit)
	}

	serve.event("discover", "two phases")

	events, err := serve.client.History(t.Context(), localapi.HistoryQuery{})
	if err != nil {
		t.Fatal(err)
	}

	count := 0

	for _, e := range events {
		if e.Type == "rival" {
			count++
		}
	}

	if count != 1 {
		t.Errorf("%d events of rivals, want that of the one proxy, once; serve is none to itself", count)
	}
}

// With the proxy off the site's DHCP server names the loader, also to the loader
// itself. That for UEFI knows the script; to that for BIOS dnsmasq names it, set up
// as serve's warning says.
func TestServeWithTheProxyOff(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		firmware, loader string
		asSaid           bool
		fails            string
	}{
		"UEFI":                   {firmware: "uefi", loader: "ipxe.efi"},
		"BIOS":                   {firmware: "bios", loader: "undionly.kpxe", fails: "iPXE would load itself for ever"},
		"BIOS as serve wants it": {firmware: "bios", loader: "undionly.kpxe", asSaid: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			s := newSegment(t)
			serve := s.serve("--disable-dhcp-proxy")
			dnsmasq := []string{"--dhcp-boot=" + c.loader + ",," + proxyAddr}

			if c.asSaid {
				dnsmasq = nil

				for line := range strings.Lines(serve.snippet()) {
					dnsmasq = append(dnsmasq, "--"+strings.TrimSpace(line))
				}
			}

			s.site(siteAddr, dnsmasq...)

			tests, exit := s.pxeTest("--interface", "net0", "--firmware", c.firmware)
			if len(tests) != 1 || tests[0].Works != (c.fails == "") || (exit == 0) != tests[0].Works || !strings.Contains(tests[0].Error, c.fails) {
				t.Fatalf("exit %d, %+v", exit, tests)
			}

			if c.fails != "" && !strings.Contains(tests[0].Hint, "Tinkerbell") {
				t.Errorf("hint %q", tests[0].Hint)
			}
		})
	}
}

// snippet is what serve's warning says to write into dnsmasq's configuration.
func (s *served) snippet() string {
	s.t.Helper()

	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()

	var warning struct{ Level, Dnsmasq, Dhcpd, Kea string }
	if err := json.Unmarshal([]byte(s.log.line(ctx, "user class Tinkerbell")), &warning); err != nil || warning.Level != "warn" || warning.Dnsmasq == "" {
		s.t.Fatalf("no warning with a snippet: %v, %+v", err, warning)
	}

	for _, text := range []string{warning.Dhcpd, warning.Kea} {
		if !strings.Contains(text, "http://"+proxyAddr+":50042/ipxe/init.ipxe") || !strings.Contains(text, "Tinkerbell") {
			s.t.Errorf("snippet %s", text)
		}
	}

	return warning.Dnsmasq
}

// U-Boot and a Raspberry Pi by serve itself, beside a DHCP server that knows nothing.
func TestServeBootsBoards(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	for name, content := range map[string]string{"start4.elf": "\x7fELF", "config.txt": "kernel=u-boot.bin\n", "u-boot.bin": "U-Boot"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	s := newSegment(t)
	s.site(siteAddr)
	s.serve("--ipxe-dir=" + dir)

	tests, exit := s.pxeTest("--interface", "net0", "--firmware", "uboot,rpi,uefi", "--arch", "arm64")
	if exit != 0 || len(tests) != 3 {
		t.Fatalf("exit %d, %d tests", exit, len(tests))
	}

	for _, test := range tests {
		if !test.Works || test.Outcome != "wait" {
			t.Errorf("%s: %s, %s", test.Firmware, test.Outcome, test.Error)
		}
	}
}
