package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/tinkerbell/ipxedust/binary"

	"github.com/bmctl/bmctl/boot"
)

// log reads what a program says.
type log struct {
	text  strings.Builder
	found chan string
	done  chan struct{}
}

func newLog(from io.Reader) *log {
	l := &log{found: make(chan string, 1000), done: make(chan struct{})}

	go func() {
		defer close(l.done)

		for lines := bufio.NewScanner(from); lines.Scan(); {
			l.text.WriteString(lines.Text() + "\n")

			select {
			case l.found <- lines.Text():
			default: // nobody waits for it any more
			}
		}
	}()

	return l
}

func (l *log) await(ctx context.Context, word string) bool { return l.line(ctx, word) != "" }

// line is the next one with the word, "" where there is none any more.
func (l *log) line(ctx context.Context, word string) string {
	for {
		select {
		case line := <-l.found:
			if strings.Contains(line, word) {
				return line
			}
		case <-l.done:
			return ""
		case <-ctx.Done():
			return ""
		}
	}
}

// verdict is what is read of the document of pxe test.
type verdict struct {
	Firmware, Outcome, Code, Error, Hint string
	Works, MadeUp                        bool
	Warnings                             int
	Steps                                []struct {
		Name, Verdict, Detail, Code string
		Warnings                    []string
		Offers                      []struct {
			From, Kind, Verdict string
			Won                 bool
		}
	}
}

func (v verdict) offers() (all []string) {
	for _, s := range v.Steps {
		for _, o := range s.Offers {
			won := ""
			if o.Won {
				won = " wins"
			}

			all = append(all, o.From+" "+o.Kind+won)
		}
	}

	slices.Sort(all)

	return slices.Compact(all)
}

func (v verdict) warnings() string {
	var all []string
	for _, s := range v.Steps {
		all = append(all, s.Warnings...)
	}

	return strings.Join(all, "\n")
}

// pxeTest runs the command in the client's namespace.
func (s *segment) pxeTest(args ...string) (tests []verdict, exit int) {
	s.t.Helper()

	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}

	args = append([]string{"netns", "exec", s.client, self, "pxe", "test", "-o", "json", "--timeout", "2s"}, args...)
	cmd := exec.CommandContext(s.t.Context(), "ip", args...)
	cmd.Env = append(os.Environ(), asBmctl+"=1", "HOME="+s.t.TempDir())

	var stdout, stderr strings.Builder

	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()

	var failed *exec.ExitError
	if errors.As(err, &failed) {
		exit = failed.ExitCode()
	} else if err != nil {
		s.t.Fatal(err)
	}

	var document struct{ Items []verdict }
	if err := json.Unmarshal([]byte(stdout.String()), &document); err != nil {
		s.t.Fatalf("%v in %q; stderr: %s", err, stdout.String(), stderr.String())
	}

	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("exit %d: %s%s", exit, stdout.String(), stderr.String())
		}
	})

	return document.Items, exit
}

// site is the segment's DHCP server, without a word on network booting unless the
// arguments have one.
func (s *segment) site(addr string, args ...string) {
	s.t.Helper()
	s.dnsmasq(s.host(addr), append([]string{"--dhcp-range=10.77.0.100,10.77.0.150,255.255.255.0,1h", "--no-ping"}, args...)...)
}

const proxyAddr = "10.77.0.5"

// proxy is dnsmasq in proxy mode, with what it gives out over TFTP and a web
// server for the rest.
func (s *segment) proxy(loaders map[string][]byte, args ...string) {
	s.t.Helper()

	dir := s.t.TempDir()
	for name, content := range loaders {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil { //nolint:gosec // dnsmasq reads it
			s.t.Fatal(err)
		}
	}

	s.proxyAt(s.host(proxyAddr), dir, args...)
}

// proxyAt serves the files of a folder in a namespace that has proxyAddr.
func (s *segment) proxyAt(host, dir string, args ...string) {
	s.t.Helper()

	s.web(host)
	s.dnsmasq(host, append([]string{
		"--dhcp-range=10.77.0.0,proxy", "--enable-tftp", "--tftp-root=" + dir,
		"--dhcp-match=set:ipxe,175", "--dhcp-userclass=set:ipxe,Tinkerbell", "--dhcp-userclass=set:ipxe,iPXE",
		"--dhcp-boot=tag:ipxe,http://" + proxyAddr + ":8080/boot.ipxe,," + proxyAddr,
		"--pxe-service=tag:!ipxe,x86PC,Network boot,undionly",
		"--pxe-service=tag:!ipxe,X86-64_EFI,Network boot,ipxe.efi", "--pxe-service=tag:!ipxe,BC_EFI,Network boot,ipxe.efi",
	}, args...)...)
}

// web serves a script, a kernel and an initramfs.
func (s *segment) web(host string) {
	s.t.Helper()

	listener := inside(s, host, func() (net.Listener, error) { return net.Listen("tcp4", proxyAddr+":8080") }) //nolint:noctx // in the namespace
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {            //nolint:gosec // a test's
		switch r.URL.Path {
		case "/boot.ipxe":
			fmt.Fprint(w, "#!ipxe\nkernel vmlinuz console=ttyS0 secret=hunter2\ninitrd initrd.xz\nboot\n") //nolint:errcheck // a test's
		case "/ipxe.efi":
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(binary.IpxeEFI))
		case "/vmlinuz", "/initrd.xz":
			fmt.Fprint(w, "content") //nolint:errcheck // a test's
		default:
			http.NotFound(w, r)
		}
	})}

	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()

	s.t.Cleanup(func() {
		server.Close() //nolint:errcheck // the end of it
		<-done
	})
}

func goodLoaders() map[string][]byte {
	return map[string][]byte{"ipxe.efi": binary.IpxeEFI, "undionly.0": binary.Undionly, "undionly": binary.Undionly}
}

func TestPXEOfDnsmasqWorks(t *testing.T) {
	t.Parallel()

	s := newSegment(t)
	s.site("10.77.0.1", "--dhcp-vendorclass=set:http,HTTPClient", "--dhcp-option-force=tag:http,60,HTTPClient",
		"--dhcp-boot=tag:http,http://"+proxyAddr+":8080/ipxe.efi")
	s.proxy(goodLoaders())

	tests, exit := s.pxeTest("--interface", "net0")
	if exit != 0 || len(tests) != 4 {
		t.Fatalf("exit %d, %d tests", exit, len(tests))
	}

	for _, test := range tests {
		if !test.Works || test.Outcome != "kernel" || !test.MadeUp {
			t.Errorf("%s: %s, %s", test.Firmware, test.Outcome, test.Error)
		}
	}
}

// peer is a ProxyDHCP server that answers DISCOVER, with an offer as it should be,
// mangled. Packets to its port 69 go nowhere, and none listens on 4011.
func (s *segment) peer(addr string, mangle func(*dhcpv4.DHCPv4)) {
	s.t.Helper()

	host := s.host(addr)
	conn := s.udp(host, dhcpv4.ServerPort)
	s.udp(host, 69)

	done := make(chan struct{})

	go func() {
		defer close(done)

		buffer := make([]byte, 2048)

		for {
			n, _, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}

			request, err := dhcpv4.FromBytes(buffer[:n])
			if err != nil || !strings.HasPrefix(request.ClassIdentifier(), "PXEClient") {
				continue
			}

			offer, err := dhcpv4.NewReplyFromRequest(request, dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer), dhcpv4.WithServerIP(net.ParseIP(addr)),
				dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(addr))), dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient")),
				dhcpv4.WithOption(dhcpv4.OptBootFileName("ipxe.efi")))
			if err != nil {
				s.t.Error(err)

				return
			}

			mangle(offer)

			if _, err := conn.WriteTo(offer.ToBytes(), &net.UDPAddr{IP: net.IPv4(10, 77, 0, 255), Port: dhcpv4.ClientPort}); err != nil {
				s.t.Error(err)
			}
		}
	}()
	s.t.Cleanup(func() {
		conn.Close() //nolint:errcheck // ends the peer
		<-done
	})
}

// wrong is a network that does not boot machines, in a way that they meet.
type wrong struct {
	build    func(*segment)
	firmware string
	step     string // that fails
	code     string // the firmware's own
	text     string // in its detail
	hint     string
	offers   string
}

const (
	siteAddr  = "10.77.0.1"
	otherAddr = "10.77.0.2"
)

func wrongOffers() map[string]wrong {
	return map[string]wrong{
		"nobody": {
			build: func(*segment) {}, firmware: "uefi", step: "dhcp", code: "PXE-E16", text: "nobody answered", hint: "broadcast domain",
		},
		"two DHCP servers and no proxy": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.site(otherAddr)
			},
			firmware: "bios", step: "dhcp", code: "PXE-E51", text: siteAddr + " dhcp-only", hint: "broadcast domain",
			offers: siteAddr + " dhcp-only, " + otherAddr + " dhcp-only",
		},
		"a proxy and no DHCP server": {
			build: func(s *segment) { s.proxy(goodLoaders()) }, firmware: "uefi", step: "dhcp", code: "PXE-E16", hint: "a DHCP server must give out addresses",
			offers: proxyAddr + " proxy-binl",
		},
		"no option 54": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.peer(proxyAddr, func(d *dhcpv4.DHCPv4) { d.DeleteOption(dhcpv4.OptionServerIdentifier) })
			},
			firmware: "uefi", step: "dhcp", code: "PXE-E16", text: "EDK2 drops the packet silently", hint: proxyAddr + ": its offers must carry option 54",
			offers: siteAddr + " dhcp-only, " + proxyAddr + " not accepted",
		},
		"4011 silent": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.peer(proxyAddr, func(*dhcpv4.DHCPv4) {})
			},
			firmware: "uefi", step: "pxe request", code: "PXE-E16", text: proxyAddr + ":4011", hint: "must answer on UDP port 4011",
			offers: siteAddr + " dhcp-only, " + proxyAddr + " proxy-binl wins",
		},
		"4011 silent on BIOS": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.peer(proxyAddr, func(*dhcpv4.DHCPv4) {})
			},
			firmware: "bios", step: "pxe request", code: "PXE-E55", text: proxyAddr + ":4011",
		},
		"the site sends option 60": {
			build: func(s *segment) {
				s.site(siteAddr, "--dhcp-option-force=60,PXEClient")
				s.proxy(goodLoaders())
			},
			firmware: "uefi", step: "pxe request", code: "PXE-E16", text: siteAddr + ":4011", hint: "take option 60 away there",
			offers: siteAddr + " dhcp-binl wins, " + proxyAddr + " proxy-binl",
		},
	}
}

func wrongLoaders() map[string]wrong {
	return map[string]wrong{
		"TFTP blocked": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.peer(proxyAddr, func(d *dhcpv4.DHCPv4) {
					d.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
				})
			},
			firmware: "uefi", step: "tftp", code: "PXE-E18", text: "ipxe.efi from " + proxyAddr + ":69", hint: "UDP port 69",
		},
		"TFTP blocked on BIOS": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.peer(proxyAddr, func(d *dhcpv4.DHCPv4) {
					d.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
				})
			},
			firmware: "bios", step: "tftp", code: "PXE-E32",
		},
		"a loader for another architecture": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.proxy(map[string][]byte{"ipxe.efi": binary.SNP})
			},
			firmware: "uefi", step: "tftp", text: "machine type 0xaa64, not 0x8664 (amd64)", hint: "option 93",
		},
		"no such file": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.proxy(nil)
			},
			firmware: "uefi", step: "tftp", code: "PXE-E23", text: "not found", hint: "compare names",
		},
		"no such file on BIOS": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.proxy(nil)
			},
			firmware: "bios", step: "tftp", code: "PXE-T01", text: "not found",
		},
	}
}

// piService is what dnsmasq says to a Raspberry Pi.
const piService = "--pxe-service=0,Raspberry Pi Boot"

func wrongBoards() map[string]wrong {
	return map[string]wrong{
		// dnsmasq's proxy answers the vendor class PXEClient alone, and U-Boot has its own.
		"U-Boot and a proxy": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.proxy(goodLoaders())
			},
			firmware: "uboot", step: "dhcp", text: siteAddr + " dhcp-only", offers: siteAddr + " dhcp-only",
		},
		"U-Boot and a loader for another architecture": {
			build: func(s *segment) {
				s.site(siteAddr, "--dhcp-boot=ipxe.efi,,"+proxyAddr)
				s.proxy(goodLoaders())
			},
			firmware: "uboot", step: "tftp", text: "machine type 0x8664, not 0xaa64 (arm64)", hint: "option 93",
		},
		"a Pi and no service for it": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.proxy(goodLoaders())
			},
			firmware: "rpi", step: "dhcp", text: "does not offer \"Raspberry Pi Boot\"", hint: "43.9",
			offers: siteAddr + " dhcp-only, " + proxyAddr + " not accepted",
		},
		"a Pi and no firmware for it": {
			build: func(s *segment) {
				s.site(siteAddr)
				s.proxy(goodLoaders(), piService)
			},
			firmware: "rpi", step: "tftp", text: "start4.elf", hint: "the TFTP server must hold the Pi's firmware",
		},
	}
}

// The boards boot where the site names them what they can read: U-Boot from the DHCP
// server's own fields, a Pi from dnsmasq's service for it, and then as UEFI.
func TestPXEOfBoards(t *testing.T) {
	t.Parallel()

	s := newSegment(t)
	s.site(siteAddr, "--dhcp-userclass=set:ipxe,Tinkerbell", "--dhcp-vendorclass=set:uboot,U-Boot", "--dhcp-boot=tag:uboot,tag:!ipxe,ipxe-arm64.efi,,"+proxyAddr)
	s.proxy(map[string][]byte{
		"ipxe-arm64.efi": binary.SNP, "start4.elf": []byte("\x7fELF"), "config.txt": []byte("armstub=RPI_EFI.fd\n"), "RPI_EFI.fd": []byte("UEFI"),
	}, piService, "--pxe-service=tag:!ipxe,ARM64_EFI,Network boot,ipxe-arm64.efi")

	tests, exit := s.pxeTest("--interface", "net0", "--firmware", "uboot,rpi", "--arch", "arm64")
	if exit != 0 || len(tests) != 2 {
		t.Fatalf("exit %d, %d tests", exit, len(tests))
	}

	for _, test := range tests {
		if !test.Works || test.Outcome != "kernel" {
			t.Errorf("%s: %s, %s", test.Firmware, test.Outcome, test.Error)
		}
	}
}

func TestPXEWrongOnPurpose(t *testing.T) {
	networks := wrongOffers()
	maps.Copy(networks, wrongLoaders())
	maps.Copy(networks, wrongBoards())

	for name, c := range networks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			s := newSegment(t)
			c.build(s)

			arch := "amd64"
			if c.firmware == "uboot" || c.firmware == "rpi" {
				arch = "arm64"
			}

			tests, exit := s.pxeTest("--interface", "net0", "--firmware", c.firmware, "--arch", arch)
			if exit != 8 || len(tests) != 1 || tests[0].Works {
				t.Fatalf("exit %d", exit)
			}

			last := tests[0].Steps[len(tests[0].Steps)-1]
			if last.Name != c.step || last.Verdict != "fail" || last.Code != c.code || tests[0].Code != c.code {
				t.Errorf("%s %s with %q", last.Name, last.Verdict, last.Code)
			}

			if !strings.Contains(last.Detail, c.text) || !strings.Contains(tests[0].Hint, c.hint) {
				t.Errorf("says %q and hints at %q", last.Detail, tests[0].Hint)
			}

			if got := strings.Join(tests[0].offers(), ", "); c.offers != "" && got != c.offers {
				t.Errorf("offers %s, not %s", got, c.offers)
			}
		})
	}
}

// Two network boot services: the one that wins boots the machine, and the other is
// named.
func TestPXENamesAnotherServer(t *testing.T) {
	t.Parallel()

	s := newSegment(t)
	s.site("10.77.0.1")
	s.proxy(goodLoaders())
	s.peer("10.77.0.6", func(d *dhcpv4.DHCPv4) {
		d.DeleteOption(dhcpv4.OptionServerIdentifier)
		time.Sleep(300 * time.Millisecond) // iPXE needs no option 54 and takes the first offer
	})

	tests, exit := s.pxeTest("--interface", "net0", "--firmware", "uefi")
	if exit != 0 || len(tests) != 1 || !tests[0].Works {
		t.Fatalf("exit %d", exit)
	}

	if got := strings.Join(tests[0].offers(), ", "); !strings.Contains(got, "10.77.0.6 not accepted") || !strings.Contains(got, proxyAddr+" proxy-binl wins") {
		t.Errorf("offers %s", got)
	}

	if got := tests[0].warnings(); !strings.Contains(got, "10.77.0.6 is not accepted") || tests[0].Warnings == 0 {
		t.Errorf("warnings %q", got)
	}
}

// A service on the very host of the test is asked as well, and captures have both.
func TestPXEOfTheSameHost(t *testing.T) {
	t.Parallel()

	s := newSegment(t)
	s.site("10.77.0.1")
	s.ip("-n", s.client, "addr", "flush", "dev", "net0")
	s.ip("-n", s.client, "addr", "add", proxyAddr+"/24", "dev", "net0")

	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ipxe.efi"), binary.IpxeEFI, 0o644); err != nil { //nolint:gosec // dnsmasq reads it
		t.Fatal(err)
	}

	s.proxyAt(s.client, dir)

	tests, exit := s.pxeTest("--interface", "net0", "--firmware", "uefi")
	if exit != 0 || len(tests) != 1 || !tests[0].Works {
		t.Fatalf("exit %d", exit)
	}

	if got := strings.Join(tests[0].offers(), ", "); !strings.HasPrefix(got, "10.77.0.1 dhcp-only, "+proxyAddr+" proxy-binl wins") {
		t.Errorf("offers %s", got)
	}
}

// The rest of an answer goes to a relay agent's address, port 67: that is where the
// client listens when it is one.
func TestPXEThroughARelay(t *testing.T) {
	t.Parallel()

	s := newSegment(t)
	host := s.host(proxyAddr)
	web := inside(s, host, func() (net.Listener, error) { return net.Listen("tcp4", proxyAddr+":0") }) //nolint:noctx // in the namespace

	var relayed []string

	server, err := boot.New(boot.Config{
		Decider: always{boot.Decision{Kind: boot.Disk, Reason: "installed"}}, Advertise: netip.MustParseAddr(proxyAddr), ListenAddr: netip.MustParseAddr(proxyAddr),
		HTTPPort: web.Addr().(*net.TCPAddr).Port, TFTPSinglePort: true, // a new port would be in the namespace of the test
		Conns:   boot.Conns{DHCP: s.udp(host, 67), ProxyDHCP: s.udp(host, 4011), TFTP: s.udp(host, 69)},
		Observe: func(e boot.Event) { relayed = append(relayed, string(e.Type)+" "+e.Addr.String()) },
	})
	if err != nil {
		t.Fatal(err)
	}

	if err := server.Bind(); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	scripts := &http.Server{Handler: server.Handler()} //nolint:gosec // a test's

	go func() { done <- server.Run(ctx) }()
	go func() { done <- scripts.Serve(web) }()

	capture := filepath.Join(t.TempDir(), "relay.pcap")
	tests, exit := s.pxeTest("--server", proxyAddr, "--relay", "10.77.0.99", "--firmware", "uefi", "--pcap", capture)

	cancel()
	scripts.Close() //nolint:errcheck // the end of it

	for range 2 {
		if err := <-done; err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}

	if exit != 0 || len(tests) != 1 || !tests[0].Works || tests[0].Outcome != "disk" {
		t.Fatalf("exit %d; serve saw %v", exit, relayed)
	}

	if !slices.Contains(relayed, "discover 10.77.0.99") {
		t.Errorf("serve saw %v", relayed)
	}

	info, err := os.Stat(capture)
	if err != nil || info.Size() < 1<<20 { // a loader of 1 MB is in it
		t.Errorf("captured %v, %v", info, err)
	}
}

type always struct{ decision boot.Decision }

func (a always) Decide(context.Context, boot.Machine) (boot.Decision, error) { return a.decision, nil }
