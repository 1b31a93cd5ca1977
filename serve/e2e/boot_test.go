//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/bmctl/bmctl/boot"
)

// httpPort is that of the guides.
const httpPort = 50042

// decider sends every machine to a kernel that is not there.
type decider struct{}

func (decider) Decide(context.Context, boot.Machine) (boot.Decision, error) {
	base := fmt.Sprintf("http://%s:%d/", providerAddr, httpPort)

	return boot.Decision{Kind: boot.Agent, Reason: "far enough", Kernel: base + "kernel", Initrd: base + "initrd"}, nil
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

// of are the machine's events, in their order. A file over TFTP of which no MAC is
// known is the machine's unless a bench has asked for it.
func (e *events) of(m *machine) []boot.Event {
	e.mu.Lock()
	defer e.mu.Unlock()

	return slices.DeleteFunc(slices.Clone(e.list), func(event boot.Event) bool {
		unnamed := event.Type == boot.EventLoader && event.MAC == "" && !slices.Contains([]string{benchAddr, farBenchAddr}, event.Addr.String())

		return event.MAC != m.mac && !unnamed
	})
}

// rivals says of other servers that were seen what serve has to say of them.
func (e *events) rivals() (said []string) {
	e.mu.Lock()
	defer e.mu.Unlock()

	for _, event := range e.list {
		if event.Type == boot.EventRival {
			said = append(said, event.Reason)
		}
	}

	return said
}

// count is how many events of a kind there are of the machine.
func (e *events) count(m *machine, kind boot.EventType) (n int) {
	for _, event := range e.of(m) {
		if event.Type == kind {
			n++
		}
	}

	return n
}

// steps are the kinds of events, each where it came first. What was ignored is
// none: DHCP has messages that are not for us.
func (e *events) steps(m *machine) (steps []boot.EventType) {
	for _, event := range e.of(m) {
		if event.Type != boot.EventIgnored && !slices.Contains(steps, event.Type) {
			steps = append(steps, event.Type)
		}
	}

	return steps
}

// stepsAre is nil if these are the steps of the machine, and no others.
func (e *events) stepsAre(m *machine, want ...boot.EventType) error {
	if steps := e.steps(m); !slices.Equal(steps, want) {
		return fmt.Errorf("the steps are %v, not %v; events:\n%s", steps, want, e)
	}

	return nil
}

func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()

	var text strings.Builder
	for _, event := range e.list {
		fmt.Fprintf(&text, "%s %s %s %s %s %s\n", event.Time.Format("05.000"), event.Type, event.MAC, event.Addr, event.File, event.Reason)
	}

	return text.String()
}

// startBoot runs the boot server alone on its real ports, but for sockets that
// the configuration has already, without a provider.
func startBoot(t *testing.T, config boot.Config) *events {
	t.Helper()

	seen := &events{}
	config.Decider, config.Observe = decider{}, seen.observe
	config.Advertise, config.HTTPPort = netip.MustParseAddr(providerAddr), httpPort
	config.DHCPPort, config.PXEPort, config.TFTPPort = 67, 4011, 69

	server, err := boot.New(config)
	if err != nil {
		t.Fatal(err)
	}

	if err := server.Bind(); err != nil {
		t.Fatal(err)
	}

	web := &http.Server{Addr: net.JoinHostPort(providerAddr, strconv.Itoa(httpPort)), Handler: server.Handler(), ReadHeaderTimeout: time.Minute}

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

// distortion is what becomes of the boot server's answers on their way.
type distortion struct {
	offer  func(*dhcpv4.DHCPv4) // nil: nothing
	silent bool                 // port 4011 takes requests and says nothing
}

// startDistorted runs the boot server behind something that distorts it, if
// anything: the server's own DHCP sockets are on loopback then, and machines talk
// to the distorter.
func startDistorted(t *testing.T, config boot.Config, d distortion) *events {
	t.Helper()

	if d.offer == nil && !d.silent {
		return startBoot(t, config)
	}

	config.Conns.DHCP, config.Conns.ProxyDHCP = listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")

	forward(t, listen(t, "0.0.0.0:67"), config.Conns.DHCP.LocalAddr(), d.offer)

	if second := listen(t, "0.0.0.0:4011"); !d.silent {
		forward(t, second, config.Conns.ProxyDHCP.LocalAddr(), nil)
	}

	return startBoot(t, config)
}

func listen(t *testing.T, address string) net.PacketConn {
	t.Helper()

	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", address)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { conn.Close() }) //nolint:errcheck // perhaps the boot server has already

	return conn
}

// forward hands packets that come to front over to a server, and its answers,
// distorted, back to where the packets came from, or to everybody.
func forward(t *testing.T, front net.PacketConn, server net.Addr, distort func(*dhcpv4.DHCPv4)) {
	var group sync.WaitGroup

	group.Go(func() {
		buffer := make([]byte, 2048)

		for {
			n, from, err := front.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}

			if err != nil {
				t.Errorf("the distorter reads: %v", err)

				return
			}

			packet := slices.Clone(buffer[:n])

			group.Go(func() {
				answer, err := ask(server, packet)
				if err != nil || answer == nil {
					return // not every packet gets an answer
				}

				if distort != nil {
					distort(answer)
				}

				if from.(*net.UDPAddr).IP.IsUnspecified() {
					from = &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
				}

				if _, err := front.WriteTo(answer.ToBytes(), from); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Errorf("the distorter answers: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		front.Close() //nolint:errcheck // ends it
		group.Wait()
	})
}

// ask sends a packet to a DHCP server and waits for what it answers.
func ask(server net.Addr, packet []byte) (*dhcpv4.DHCPv4, error) {
	conn, err := net.Dial("udp4", server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // a socket

	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}

	if _, err := conn.Write(packet); err != nil {
		return nil, err
	}

	buffer := make([]byte, 2048)

	n, err := conn.Read(buffer)
	if err != nil {
		return nil, err
	}

	return dhcpv4.FromBytes(buffer[:n])
}
