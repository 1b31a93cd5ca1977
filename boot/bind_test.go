package boot_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/bmctl/bmctl/boot"
)

func TestBindNamesWhoHasThePort(t *testing.T) {
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.LocalAddr().(*net.UDPAddr).Port
	for what, config := range map[string]boot.Config{"DHCP": {DHCPPort: port}, "ProxyDHCP": {PXEPort: port}, "TFTP": {TFTPPort: port}} {
		config.Decider, config.Advertise, config.Interface, config.ListenAddr = &decider{}, loopback, "lo", loopback
		server, err := boot.New(config)
		if err != nil {
			t.Fatal(err)
		}
		err = server.Bind()
		if err == nil {
			t.Fatalf("%s: bound port %d twice", what, port)
		}
		for _, want := range []string{"listen for " + what + " on 127.0.0.1:", "address already in use by boot.test (pid "} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
		for _, addr := range []netip.AddrPort{server.Addrs().DHCP, server.Addrs().ProxyDHCP} {
			if !addr.IsValid() {
				continue
			}
			again, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
			if err != nil {
				t.Errorf("%s: %v is still bound: %v", what, addr, err)
				continue
			}
			again.Close()
		}
	}
}

func TestTryBindTriesEach(t *testing.T) {
	taken, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	config := boot.Config{Decider: &decider{}, Advertise: loopback, Interface: "lo", ListenAddr: loopback, PXEPort: taken.LocalAddr().(*net.UDPAddr).Port}
	try := func() (found []string) {
		server, err := boot.New(config)
		if err != nil {
			t.Fatal(err)
		}
		for _, trial := range server.TryBind() {
			if trial.Addr.IsValid() == (trial.Err != nil) {
				t.Errorf("%s: bound to %v, and %v", trial.Name, trial.Addr, trial.Err)
			}
			found = append(found, fmt.Sprint(trial.Name, " ", errors.Is(trial.Err, syscall.EADDRINUSE)))
		}
		if err := server.Bind(); err == nil == slices.Contains(found, "ProxyDHCP true") {
			t.Errorf("Bind says %v after %v", err, found)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		return found
	}
	if got := try(); !slices.Equal(got, []string{"DHCP false", "ProxyDHCP true", "TFTP false"}) {
		t.Errorf("one port in use: %v", got)
	}
	config.DisableBroadcast, config.PXEPort = true, 0
	if got := try(); !slices.Equal(got, []string{"ProxyDHCP false", "TFTP false"}) {
		t.Errorf("without broadcast: %v", got)
	}
	config.Interface = "nonesuch0"
	server, err := boot.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if trials := server.TryBind(); trials[0].Err == nil || trials[1].Err != nil {
		t.Errorf("an interface that is not there: %v", trials)
	}
}

func TestBindErrorNamesWhoHasATCPPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = net.Listen("tcp", taken.Addr().String())
	want := fmt.Sprintf("listen for HTTP on %s: address already in use by boot.test (pid %d)", taken.Addr(), os.Getpid())
	if got := boot.BindError("HTTP", "tcp", taken.Addr().String(), err); got.Error() != want || !errors.Is(got, syscall.EADDRINUSE) {
		t.Errorf("%v, want %s", got, want)
	}
}
