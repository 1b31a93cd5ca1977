package boot_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// proxyPeer is a ProxyDHCP server in a network namespace of its own, reached from
// the client's through a pair of interfaces.
type proxyPeer struct {
	name, namespace, server, client string
}

// segment makes the namespaces and the link between them.
func segment(t *testing.T, client string, p proxyPeer, link string) {
	t.Helper()

	run := func(words ...string) {
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", words, err, out)
		}
	}

	run("ip", "netns", "add", p.namespace)
	t.Cleanup(func() { run("ip", "netns", "del", p.namespace) })
	run("ip", "-n", p.namespace, "link", "add", link, "type", "veth", "peer", "name", link, "netns", client)
	run("ip", "-n", p.namespace, "addr", "add", p.server+"/24", "dev", link)
	run("ip", "-n", client, "addr", "add", p.client+"/24", "dev", link)

	for _, namespace := range []string{p.namespace, client} {
		run("ip", "-n", namespace, "link", "set", link, "up")
		run("ip", "-n", namespace, "link", "set", "lo", "up")
	}
}

var perfdhcpCounts = regexp.MustCompile(`sent packets: (\d+)\s+received packets: (\d+)`)

// offers has perfdhcp ask as a relay does, for so many clients a second, and returns
// the offers that it had a second and the share that was lost.
func (p proxyPeer) offers(t *testing.T, client string, rate int) (offers, lost float64) {
	t.Helper()

	const seconds = 5

	begun := time.Now()

	out, err := exec.Command("ip", "netns", "exec", client, "perfdhcp", "-4", "-i", "-l", p.client, "-r", strconv.Itoa(rate), "-p", strconv.Itoa(seconds),
		"-R", "1000000", "-o", "60,"+hex.EncodeToString([]byte("PXEClient:Arch:00007:UNDI:003016")), "-o", "93,0007", "-o", "94,010310",
		p.server).CombinedOutput()

	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 3) { // 3: some were lost
		t.Fatalf("perfdhcp: %v: %s", err, out)
	}

	counts := perfdhcpCounts.FindSubmatch(out)
	if counts == nil {
		t.Fatalf("perfdhcp after %v: %s", time.Since(begun), out)
	}

	sent, _ := strconv.ParseFloat(string(counts[1]), 64)
	received, _ := strconv.ParseFloat(string(counts[2]), 64)

	return received / seconds, 1 - received/sent
}

// TestBesideDnsmasqProxy prints the rows of docs/design/performance.md for
// ProxyDHCP: perfdhcp asks both in turns at a rate, and medians count.
func TestBesideDnsmasqProxy(t *testing.T) {
	wantPeers(t, "dnsmasq", "perfdhcp", "ip")

	const client = "bmctl-perf"

	if out, err := exec.Command("ip", "netns", "add", client).CombinedOutput(); err != nil {
		t.Fatalf("a network namespace, which needs root: %v: %s", err, out)
	}

	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", client).Run() })

	ours := proxyPeer{"bmctl", "bmctl-perf-a", "10.88.1.1", "10.88.1.2"}
	theirs := proxyPeer{"dnsmasq", "bmctl-perf-b", "10.88.2.1", "10.88.2.2"}

	segment(t, client, ours, "perf-a")
	segment(t, client, theirs, "perf-b")

	startOurs(t, ours.server+" ", "ip", "netns", "exec", ours.namespace)
	startServer(t, exec.Command("ip", "netns", "exec", theirs.namespace, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root",
		"--pid-file", "--dhcp-range=10.88.2.0,proxy,255.255.255.0", "--pxe-service=X86-64_EFI,boot,ipxe.efi", "--dhcp-boot=ipxe.efi", "--log-facility="+os.DevNull))

	for _, p := range []proxyPeer{ours, theirs} {
		for begun := time.Now(); ; {
			if offers, _ := p.offers(t, client, 10); offers > 0 {
				break
			} else if time.Since(begun) > 30*time.Second {
				t.Fatalf("%s offers nothing", p.name)
			}
		}
	}

	fmt.Println("| Asked a second | bmctl offers/s | lost | dnsmasq offers/s | lost | Ratio (wanted >= 1.0) |\n|---|---|---|---|---|---|")

	for _, rate := range []int{5_000, 20_000, 100_000} {
		offers, lost := map[string][]float64{}, map[string][]float64{}

		for range 3 {
			for _, p := range []proxyPeer{ours, theirs} {
				had, missed := p.offers(t, client, rate)
				offers[p.name], lost[p.name] = append(offers[p.name], had), append(lost[p.name], missed)
			}
		}

		row := fmt.Sprintf("| %d |", rate)
		for _, p := range []proxyPeer{ours, theirs} {
			had, least, most := spread(offers[p.name])
			missed, _, _ := spread(lost[p.name])
			row += fmt.Sprintf(" %.0f (%.0f to %.0f) | %.2f %% |", had, least, most, missed*100)
		}

		a, _, _ := spread(offers["bmctl"])
		b, _, _ := spread(offers["dnsmasq"])
		fmt.Printf("%s %.2f |\n", row, a/b)
	}
}
