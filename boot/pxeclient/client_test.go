package pxeclient_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinkerbell/ipxedust/binary"
	"go.uber.org/goleak"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/boot/pxeclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type decision func(boot.Machine) (boot.Decision, error)

func (d decision) Decide(_ context.Context, m boot.Machine) (boot.Decision, error) { return d(m) }

// serve runs package boot on free ports of loopback and returns a client that
// asks it.
func serve(t *testing.T, config boot.Config, decide decision) *pxeclient.Client {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	config.Decider, config.Advertise, config.Interface, config.ListenAddr = decide, loopback, "127.0.0.1", loopback
	server, err := boot.New(config)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(server.Handler())
	if err := server.SetHTTPPort(int(netip.MustParseAddrPort(web.Listener.Addr().String()).Port())); err != nil {
		t.Fatal(err)
	}
	if err := server.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		web.Close()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	addrs := server.Addrs()
	return &pxeclient.Client{
		DHCP: addrs.DHCP, ProxyDHCP: addrs.ProxyDHCP, TFTPPort: int(addrs.TFTP.Port()),
		Local: netip.MustParseAddr("127.77.1.2"), MAC: "02:00:00:00:00:02", UUID: "4c4c4544-0042-3610-8054-b4c04f564433",
		Serial: "S 1", Manufacturer: "Maker & Sons", Product: "Box", Hostname: "r1n01", SleepScale: 0.001,
	}
}

func TestBootsFromTheDiskOnEveryFirmware(t *testing.T) {
	for _, c := range []struct {
		firmware pxeclient.Firmware
		arch     string
	}{
		{pxeclient.BIOS, "amd64"}, {pxeclient.UEFI, "amd64"}, {pxeclient.UEFI, "arm64"},
		{pxeclient.UEFIHTTP, "amd64"}, {pxeclient.UEFIHTTP, "arm64"}, {pxeclient.IPXE, "amd64"},
		{pxeclient.UBoot, "arm64"}, {pxeclient.RPi, "arm64"},
	} {
		for _, method := range []boot.DiskMethod{boot.DiskExit, boot.DiskSanboot, boot.DiskHTTP404} {
			t.Run(string(c.firmware)+"/"+c.arch+"/"+string(method), func(t *testing.T) {
				var asked boot.Machine
				client := serve(t, boot.Config{IPXEDir: piFirmware(t, "armstub=RPI_EFI.fd\n")}, func(m boot.Machine) (boot.Decision, error) {
					asked = m
					return boot.Decision{Kind: boot.Disk, Reason: "installed", Method: method}, nil
				})
				client.Firmware, client.Arch = c.firmware, c.arch
				client.MAC = c.firmware.MadeUpMAC()
				result, err := client.Boot(within(t, 10*time.Second))
				if err != nil || result.Outcome != pxeclient.OutcomeDisk {
					t.Fatalf("%+v, %v", result, err)
				}
				want := boot.Machine{UUID: client.UUID, MAC: client.MAC, Serial: "S 1", Manufacturer: "Maker & Sons", Product: "Box", Hostname: "r1n01", Arch: c.arch, Addr: client.Local}
				if asked != want {
					t.Errorf("the decider was asked for %+v, not %+v", asked, want)
				}
			})
		}
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestLoadsWhatWasDecided(t *testing.T) {
	var asked []string
	assets := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.Method+" "+r.URL.Path) }))
	defer assets.Close()
	decide := func(boot.Machine) (boot.Decision, error) {
		return boot.Decision{Kind: boot.Agent, Reason: "unknown machine", Kernel: assets.URL + "/k", Initrd: assets.URL + "/i", Args: []string{"u=${uuid}", "a"}}, nil
	}
	client := serve(t, boot.Config{}, decide)
	var names []string
	client.OnStep = func(s pxeclient.Step) { names = append(names, s.Name) }
	result, err := client.Boot(within(t, 10*time.Second))
	if err != nil || result.Outcome != pxeclient.OutcomeKernel || result.Kernel != assets.URL+"/k" || result.Initrd != assets.URL+"/i" || result.Cmdline != "initrd=initrd u="+client.UUID+" a" {
		t.Fatalf("%+v, %v", result, err)
	}
	if got := strings.Join(names, " "); got != "dhcp request tftp dhcp script console script console kernel initrd" {
		t.Errorf("steps: %s", got)
	}
	client.Fetch = true
	if _, err := client.Boot(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(asked, ", "); got != "HEAD /k, HEAD /i, GET /k, GET /i" {
		t.Errorf("asked for %s", got)
	}
}

// A loader with a script of its own runs that, whatever DHCP would name.
func TestTheLoadersOwnScriptIsFollowed(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("#!ipxe\nexit\n")) }))
	defer site.Close()
	dir := t.TempDir()
	// Without its marks the build is not changed any more; what follows a program is no part of it.
	loader := bytes.ReplaceAll(binary.IpxeEFI, []byte("PLACEHOLDER"), []byte("placeholder"))
	loader = append(loader, "\x00#!ipxe\ndhcp\nchain "+site.URL+"/own.ipxe\n\x00"...)
	if err := os.WriteFile(filepath.Join(dir, "ipxe.efi"), loader, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, firmware := range []pxeclient.Firmware{pxeclient.UEFI, pxeclient.UEFIHTTP} {
		client := serve(t, boot.Config{IPXEDir: dir}, func(boot.Machine) (boot.Decision, error) {
			return boot.Decision{}, errors.New("nobody is to be asked")
		})
		client.Firmware = firmware
		var names []string
		client.OnStep = func(s pxeclient.Step) { names = append(names, s.Name) }
		result, err := client.Boot(within(t, 10*time.Second))
		if err != nil || result.Outcome != pxeclient.OutcomeDisk || result.Script != site.URL+"/own.ipxe" || slices.Index(names[1:], "dhcp") >= 0 {
			t.Errorf("%s: %+v after %v, %v", firmware, result, names, err)
		}
	}
}

func TestWaitsUntilToldOtherwise(t *testing.T) {
	rounds := 0
	client := serve(t, boot.Config{}, func(boot.Machine) (boot.Decision, error) {
		if rounds++; rounds < 5 {
			return boot.Decision{Kind: boot.Wait, Reason: "not yet"}, nil
		}
		return boot.Decision{Kind: boot.Disk, Reason: "installed"}, nil
	})
	sleeps := 0
	client.OnStep = func(s pxeclient.Step) {
		if s.Name == "sleep" {
			sleeps++
		}
	}
	result, err := client.Boot(within(t, 10*time.Second))
	if err != nil || result.Outcome != pxeclient.OutcomeDisk || sleeps != 4 {
		t.Errorf("%+v after %d sleeps, %v", result, sleeps, err)
	}
}

func TestWaitEndsWithTheContext(t *testing.T) {
	client := serve(t, boot.Config{}, func(boot.Machine) (boot.Decision, error) {
		return boot.Decision{Kind: boot.Wait, Reason: "held"}, nil
	})
	client.SleepScale = 1
	ctx, cancel := context.WithCancel(t.Context())
	client.OnStep = func(s pxeclient.Step) {
		if strings.Contains(s.Detail, "held") {
			cancel()
		}
	}
	if _, err := client.Boot(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ended by %v", err)
	}
}

func TestStylesReachEveryFirmware(t *testing.T) {
	for _, style := range []boot.Style{boot.StyleAuto, boot.StyleBINL, boot.StylePXE10} {
		client := serve(t, boot.Config{Style: style}, func(boot.Machine) (boot.Decision, error) {
			return boot.Decision{Kind: boot.Disk, Reason: "installed"}, nil
		})
		requests := 0
		client.OnStep = func(s pxeclient.Step) {
			if s.Name == "request" {
				requests++
			}
		}
		if _, err := client.Boot(within(t, 10*time.Second)); err != nil {
			t.Errorf("%s: %v", style, err)
		}
		if (requests == 1) != (style != boot.StylePXE10) {
			t.Errorf("%s: %d requests on the ProxyDHCP port", style, requests)
		}
	}
}

// A machine that cannot reach port 4011 boots at the next attempt, in one phase.
func TestAutoStyleGetsAroundASilentProxyPort(t *testing.T) {
	client := serve(t, boot.Config{}, func(boot.Machine) (boot.Decision, error) {
		return boot.Decision{Kind: boot.Disk, Reason: "installed"}, nil
	})
	silent, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	client.ProxyDHCP = silent.LocalAddr().(*net.UDPAddr).AddrPort()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	if _, err := client.Boot(ctx); err == nil {
		t.Error("booted without an answer on 4011")
	}
	cancel()
	result, err := client.Boot(within(t, 10*time.Second))
	if err != nil || result.Outcome != pxeclient.OutcomeDisk {
		t.Errorf("the second time: %+v, %v", result, err)
	}
}

func TestFailuresInTheFirmwaresTerms(t *testing.T) {
	none, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	closed := none.LocalAddr().(*net.UDPAddr).AddrPort()
	disk := func(boot.Machine) (boot.Decision, error) {
		return boot.Decision{Kind: boot.Disk, Reason: "installed"}, nil
	}
	for _, c := range []struct {
		name       string
		change     func(*pxeclient.Client)
		step, code string
	}{
		{"unknown firmware", func(c *pxeclient.Client) { c.Firmware = "openfirmware" }, "start", ""},
		{"arm64 BIOS", func(c *pxeclient.Client) { c.Firmware, c.Arch = pxeclient.BIOS, "arm64" }, "start", ""},
		{"bad MAC", func(c *pxeclient.Client) { c.MAC = "x" }, "start", ""},
		{"bad UUID", func(c *pxeclient.Client) { c.UUID = "4c4c4544" }, "start", ""},
		{"no server", func(c *pxeclient.Client) { c.DHCP = netip.AddrPort{} }, "start", ""},
		{"TFTP elsewhere", func(c *pxeclient.Client) { c.TFTPPort = int(c.DHCP.Port()) }, "tftp", "PXE-E18"},
		{"4011 silent", func(c *pxeclient.Client) { c.ProxyDHCP = closed }, "request", "PXE-E16"},
		{"nobody offers", func(c *pxeclient.Client) { c.DHCP = closed }, "dhcp", "PXE-E16"},
		{"nobody offers, BIOS", func(c *pxeclient.Client) { c.DHCP, c.Firmware = closed, pxeclient.BIOS }, "dhcp", "PXE-E51"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, boot.Config{}, disk)
			client.Timeout = 500 * time.Millisecond
			c.change(client)
			result, err := client.Boot(within(t, 30*time.Second))
			var failure *pxeclient.Error
			if !errors.As(err, &failure) || failure.Step != c.step || failure.Code != c.code || result.Outcome != pxeclient.OutcomeFailed {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

func TestMadeUpIdentities(t *testing.T) {
	seen := map[boot.Machine]bool{}
	client := serve(t, boot.Config{}, func(m boot.Machine) (boot.Decision, error) {
		seen[m] = true
		return boot.Decision{Kind: boot.Disk, Reason: "installed"}, nil
	})
	client.MAC, client.UUID = "", ""
	for range 3 {
		if _, err := client.Boot(within(t, 10*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 3 {
		t.Errorf("machines %v", seen)
	}
}

// piFirmware is a folder with what a Raspberry Pi loads before it is a machine like
// others.
func piFirmware(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"start4.elf": "\x7fELF and more", "config.txt": config, "RPI_EFI.fd": "UEFI", "u-boot.bin": "U-Boot"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A Pi is what it loads: UEFI, U-Boot, or a kernel at once. What is missing is named.
func TestAPiIsWhatItLoads(t *testing.T) {
	for config, want := range map[string]string{
		"armstub = RPI_EFI.fd\r\n[pi4]\narm_64bit=1\n": "discover ipxe-arm64.efi UEFI",
		"kernel=u-boot.bin\n":                          "discover ipxe-arm64.efi U-Boot",
		"kernel=start4.elf\n":                          "",
		"":                                             "kernel8.img from",
	} {
		events := make(chan boot.Event, 100)
		client := serve(t, boot.Config{IPXEDir: piFirmware(t, config), Observe: func(e boot.Event) { events <- e }}, func(boot.Machine) (boot.Decision, error) {
			return boot.Decision{Kind: boot.Disk, Reason: "installed"}, nil
		})
		client.Firmware, client.Arch, client.MAC = pxeclient.RPi, "", pxeclient.RPi.MadeUpMAC()
		result, err := client.Boot(within(t, 10*time.Second))
		var failure *pxeclient.Error
		switch {
		case want == "":
			if result.Outcome != pxeclient.OutcomeKernel || result.Kernel != "start4.elf" || err != nil {
				t.Errorf("%q: %+v, %v", config, result, err)
			}
		case strings.HasPrefix(want, "discover"):
			if result.Outcome != pxeclient.OutcomeDisk || err != nil {
				t.Fatalf("%q: %+v, %v", config, result, err)
			}
			for ctx := within(t, 10*time.Second); ; {
				select {
				case e := <-events:
					if string(e.Type)+" "+e.File+" "+e.Firmware != want {
						continue
					}
				case <-ctx.Done():
					t.Errorf("%q: no event %s", config, want)
				}
				break
			}
		case !errors.As(err, &failure) || !strings.Contains(failure.Error(), want) || !strings.Contains(failure.Hint, "--ipxe-dir"):
			t.Errorf("%q: %v", config, err)
		}
	}
}
