//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bmctl/bmctl/boot"
)

// decider sends every machine to a kernel that is not there.
type decider struct{}

func (decider) Decide(context.Context, boot.Machine) (boot.Decision, error) {
	return boot.Decision{Kind: boot.Agent, Reason: "far enough", Kernel: "http://" + providerAddr + "/kernel", Initrd: "http://" + providerAddr + "/initrd"}, nil
}

// withoutPXE leaves HTTP boot to EDK2.
const withoutPXE = "-fw_cfg name=opt/org.tianocore/IPv4PXESupport,string=n -fw_cfg name=opt/org.tianocore/IPv6PXESupport,string=n"

// TestFirmwareTakesTheOffer lets other ways of booting than the story's, which
// is EDK2's PXE stack in two phases, get to our script.
func TestFirmwareTakesTheOffer(t *testing.T) {
	for _, test := range []struct {
		name     string
		style    boot.Style
		firmware string   // for qemu.sh
		site     []string // of the site's own DHCP server, for dnsmasq
		steps    []boot.EventType
	}{
		{"PXE in one phase", boot.StylePXE10, "", nil, []boot.EventType{boot.EventDiscover, boot.EventLoader, boot.EventScript}},
		{"HTTP boot", boot.StyleAuto, "options='" + withoutPXE + "'", nil, []boot.EventType{boot.EventDiscover, boot.EventLoader, boot.EventScript}},
		{"iPXE in the NIC", boot.StyleAuto, "rom=efi-virtio.rom", nil, []boot.EventType{boot.EventDiscover, boot.EventScript}},
		{
			"the site names a file of its own", boot.StyleAuto, "", []string{"--dhcp-boot=elsewhere.efi"},
			[]boot.EventType{boot.EventDiscover, boot.EventRequest, boot.EventLoader, boot.EventScript},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, test.site...)
			s.newMachine(t)

			if err := os.WriteFile(s.path("firmware"), []byte(test.firmware), 0o644); err != nil {
				t.Fatal(err)
			}

			seen := startBoot(t, boot.Config{Style: test.style})
			s.boot(t)
			eventually(t, "iPXE has asked for its script", 120*time.Second, func(context.Context) error {
				if steps := seen.steps(); !slices.Equal(steps, test.steps) {
					return fmt.Errorf("the steps are %v, not %v; events:\n%s", steps, test.steps, seen)
				}

				return nil
			})
		})
	}
}

// events is what the boot server saw.
type events struct {
	mu   sync.Mutex
	list []boot.Event
}

func (e *events) observe(event boot.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()

	e.list = append(e.list, event)
}

// steps are the kinds of events, each where it came first. What was ignored is
// none: DHCP has messages that are not for us.
func (e *events) steps() []boot.EventType {
	e.mu.Lock()
	defer e.mu.Unlock()

	var steps []boot.EventType

	for _, event := range e.list {
		if event.Type != boot.EventIgnored && !slices.Contains(steps, event.Type) {
			steps = append(steps, event.Type)
		}
	}

	return steps
}

func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()

	var text strings.Builder
	for _, event := range e.list {
		fmt.Fprintf(&text, "%s %s %s %s\n", event.Type, event.MAC, event.File, event.Reason)
	}

	return text.String()
}

// startBoot runs the boot server alone on its real ports, without a provider.
func startBoot(t *testing.T, config boot.Config) *events {
	t.Helper()

	seen := &events{}
	config.Decider, config.Observe = decider{}, seen.observe
	config.Advertise, config.HTTPPort = netip.MustParseAddr(providerAddr), 80
	config.DHCPPort, config.PXEPort, config.TFTPPort = 67, 4011, 69

	server, err := boot.New(config)
	if err != nil {
		t.Fatal(err)
	}

	if err := server.Bind(); err != nil {
		t.Fatal(err)
	}

	web := &http.Server{Addr: providerAddr + ":80", Handler: server.Handler(), ReadHeaderTimeout: time.Minute}

	var group sync.WaitGroup

	group.Go(func() {
		if err := server.Run(t.Context()); err != nil {
			t.Error(err)
		}
	})
	group.Go(func() {
		if err := web.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		web.Close() //nolint:errcheck // ends it
		group.Wait()
	})

	return seen
}
