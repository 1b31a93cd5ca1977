//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/boot"
)

// guide returns the indented lines of a guide that begin like this, with other
// names and addresses in them.
func guide(t *testing.T, name, beginning string, instead ...string) (lines []string) {
	t.Helper()

	text, err := os.ReadFile("../../docs/howto/" + name)
	if err != nil {
		t.Fatal(err)
	}

	for line := range strings.Lines(string(text)) {
		if line, indented := strings.CutPrefix(line, "    "); indented && strings.HasPrefix(line, beginning) {
			lines = append(lines, strings.NewReplacer(instead...).Replace(strings.TrimSpace(line)))
		}
	}

	if len(lines) == 0 {
		t.Fatalf("%s has no line that begins with %q", name, beginning)
	}

	return lines
}

// TestWithoutProxy has the site's DHCP server name our loader, as the guide says
// how, and our proxy off: the loader finds its script, and does not load itself
// for ever.
func TestWithoutProxy(t *testing.T) {
	for _, test := range []struct{ name, kind string }{{"UEFI", uefi}, {"BIOS", bios}} {
		t.Run(test.name, func(t *testing.T) {
			if apart(t) {
				return
			}

			var site []string
			for _, line := range guide(t, "dhcp-same-host.md", "dhcp-", "10.0.2.5", providerAddr) {
				site = append(site, "--"+line)
			}

			s := newSite(t, site...)
			m := s.newMachine(t, 1, test.kind)
			seen := startBoot(t, boot.Config{DisableDHCPProxy: true})

			m.boot(t)
			eventually(t, "iPXE has asked for its script", 120*time.Second, func(context.Context) error {
				return errors.Join(seen.stepsAre(m, boot.EventLoader, boot.EventScript), loadedOnce(m, seen))
			})
		})
	}
}

func loadedOnce(m *machine, seen *events) error {
	if n := seen.count(m, boot.EventLoader); n != 1 {
		return fmt.Errorf("the loader was loaded %d times", n)
	}

	return nil
}

// TestRelay boots a machine in another subnet than ours, behind a router with a
// DHCP relay that is told of two servers, as the guide says.
func TestRelay(t *testing.T) {
	if apart(t) {
		return
	}

	s := newSite(t, "--dhcp-range=set:far,10.78.0.100,10.78.0.200,255.255.255.0,10m", "--dhcp-option=tag:far,option:router,10.78.0.1")
	s.addSubnet(t)

	relay := guide(t, "relays.md", "dhcrelay ", "vlan20", "br0", "vlan10", "eth0", "10.0.0.1", siteAddr, "172.16.0.42", providerAddr)
	s.start(t, "dhcrelay", strings.Fields("ip netns exec router "+prepared(t, "relay/usr/sbin/"+relay[0])+" -d --no-pid")...)

	m := s.newMachine(t, 1, uefi)
	seen := startBoot(t, boot.Config{})
	foretell := s.pxeTest(t, "farbench", "--firmware=uefi")

	m.boot(t)
	eventually(t, "iPXE has asked for its script", 120*time.Second, func(context.Context) error {
		return seen.stepsAre(m, boot.EventDiscover, boot.EventRequest, boot.EventLoader, boot.EventScript)
	})

	if v := foretell(); !v.loads() {
		t.Errorf("pxe test disagrees:\n%s", v)
	}
}
