package pxeclient_test

import (
	"context"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

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
		Serial: "S 1", Hostname: "r1n01", SleepScale: 0.001,
	}
}

func TestBootsFromTheDiskOnEveryFirmware(t *testing.T) {
	for _, c := range []struct {
		firmware pxeclient.Firmware
		arch     string
	}{
		{pxeclient.BIOS, "amd64"}, {pxeclient.UEFI, "amd64"}, {pxeclient.UEFI, "arm64"},
		{pxeclient.UEFIHTTP, "amd64"}, {pxeclient.UEFIHTTP, "arm64"}, {pxeclient.IPXE, "amd64"},
	} {
		for _, method := range []boot.DiskMethod{boot.DiskExit, boot.DiskSanboot, boot.DiskHTTP404} {
			t.Run(string(c.firmware)+"/"+c.arch+"/"+string(method), func(t *testing.T) {
				var asked boot.Machine
				client := serve(t, boot.Config{}, func(m boot.Machine) (boot.Decision, error) {
					asked = m
					return boot.Decision{Kind: boot.Disk, Reason: "installed", Method: method}, nil
				})
				client.Firmware, client.Arch = c.firmware, c.arch
				result, err := client.Boot(within(t, 10*time.Second))
				if err != nil || result.Outcome != pxeclient.OutcomeDisk {
					t.Fatalf("%+v, %v", result, err)
				}
				want := boot.Machine{UUID: client.UUID, MAC: client.MAC, Serial: "S 1", Hostname: "r1n01", Arch: c.arch, Addr: client.Local}
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
