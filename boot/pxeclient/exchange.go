package pxeclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// tries is how often a packet is sent; the wait doubles each time.
const tries = 4

// leg is one way to send a packet, and to get answers to it. What a raw socket's
// own address is, it does not tell: from does. Without to it only listens, and with
// only to that sender.
type leg struct {
	conn     net.PacketConn
	from, to netip.AddrPort
	only     netip.Addr
}

// answer is a packet that answers ours.
type answer struct {
	packet *dhcpv4.DHCPv4
	from   netip.AddrPort
	after  time.Duration // since ours was sent last
}

// patience is how long an exchange waits: for anything at all, and for more
// answers once there is one.
type patience struct{ timeout, window time.Duration }

// wait is the time after the given repetition; all of them make up the timeout.
func (p patience) wait(try int, spent time.Duration) time.Duration {
	return min(max(p.window, p.timeout<<try/(1<<tries-1)), p.timeout-spent)
}

// exchange sends a packet up to four times, by every leg, and hands over each
// answer that belongs to it. It ends when enough says so and the window is over,
// or without an answer that is enough, which is an error. It closes the legs.
func (b *boot) exchange(ctx context.Context, legs []leg, packet *dhcpv4.DHCPv4, p patience, enough func(answer) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan answer)
	var readers sync.WaitGroup
	defer func() {
		cancel()
		for _, l := range legs {
			_ = l.conn.Close()
		}
		readers.Wait()
	}()
	for _, l := range legs {
		readers.Go(func() { b.read(ctx, l, packet, answers) })
	}
	started := time.Now()
	for try := range tries {
		sent := time.Now()
		if err := b.send(legs, packet); err != nil {
			return err
		}
		wait := p.wait(try, sent.Sub(started))
		if wait <= 0 {
			break
		}
		if found, err := collect(ctx, answers, sent, wait, p.window == 0, enough); err != nil || found {
			return err
		}
	}
	return fmt.Errorf("no answer of use in %v", p.timeout)
}

// send goes by every leg. Where it has an address to send from, the packet says so
// (ciaddr): by that dnsmasq, among others, knows that it can answer there.
func (b *boot) send(legs []leg, packet *dhcpv4.DHCPv4) error {
	for _, l := range legs {
		if !l.to.IsValid() {
			continue
		}
		packet.ClientIPAddr = net.IPv4zero
		if !l.from.Addr().IsUnspecified() && !b.Relay.IsValid() {
			packet.ClientIPAddr = l.from.Addr().AsSlice()
		}
		data := packet.ToBytes()
		b.record(l.from, l.to, data)
		if _, err := l.conn.WriteTo(data, net.UDPAddrFromAddrPort(l.to)); err != nil {
			return fmt.Errorf("send to %s: %w", l.to, err)
		}
	}
	return nil
}

// read hands over the answers that come by a leg until it is closed.
func (b *boot) read(ctx context.Context, l leg, packet *dhcpv4.DHCPv4, answers chan<- answer) {
	buffer := make([]byte, 2048)
	for {
		n, source, err := l.conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || ctx.Err() != nil {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier packet
		}
		from := source.(*net.UDPAddr).AddrPort()
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		got, err := dhcpv4.FromBytes(buffer[:n])
		if err != nil || !belongs(got, packet) || l.only.IsValid() && from.Addr() != l.only {
			continue
		}
		b.record(from, l.from, buffer[:n])
		select {
		case <-ctx.Done():
			return
		case answers <- answer{packet: got, from: from}:
		}
	}
}

// collect takes answers until the wait is over, or until the first that is enough.
func collect(ctx context.Context, answers <-chan answer, sent time.Time, wait time.Duration, first bool, enough func(answer) bool) (found bool, err error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return found, ctx.Err()
		case <-timer.C:
			return found, nil
		case a := <-answers:
			a.after = time.Since(sent)
			if found = enough(a) || found; found && first {
				return true, nil
			}
		}
	}
}

// belongs says whether a packet answers another, by EDK2's rules.
func belongs(answer, packet *dhcpv4.DHCPv4) bool {
	kind := answer.Options.Get(dhcpv4.OptionDHCPMessageType)
	return answer.OpCode == dhcpv4.OpcodeBootReply && answer.TransactionID == packet.TransactionID &&
		answer.ClientHWAddr.String() == packet.ClientHWAddr.String() && len(kind) == 1 && kind[0] >= 1 && kind[0] <= 9
}
