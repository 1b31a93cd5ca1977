package boot

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
)

// interfacesFresh is how long the list of interfaces is believed: addresses come
// and go, but a question to the kernel for each packet would slow a flood of them.
const interfacesFresh = 10 * time.Second

// iface is a network interface of this host with its IPv4 addresses.
type iface struct {
	name     string
	loopback bool
	mtu      int
	addrs    []netip.Addr
}

// interfaces knows this host's network interfaces by index. It is safe for
// concurrent use.
type interfaces struct {
	mu      sync.Mutex
	read    time.Time
	byIndex map[int]iface
}

func (i *interfaces) get(index int) iface {
	i.mu.Lock()
	defer i.mu.Unlock()
	if time.Since(i.read) > interfacesFresh {
		if list, err := listInterfaces(); err == nil {
			i.byIndex, i.read = list, time.Now()
		}
	}
	return i.byIndex[index]
}

// name returns the name of the interface that a packet came in by, or its number
// where the name is not known, or "" where the system did not say.
func (i *interfaces) name(control *ipv4.ControlMessage) string {
	if control == nil {
		return ""
	}
	if name := i.get(control.IfIndex).name; name != "" {
		return name
	}
	return strconv.Itoa(control.IfIndex)
}

// local returns the address that a packet was sent to if it is one of the
// receiving interface's own, and not a broadcast address.
func (i *interfaces) local(control *ipv4.ControlMessage) net.IP {
	addr, ok := netip.AddrFromSlice(control.Dst.To4())
	if !ok {
		return nil
	}
	found := i.get(control.IfIndex)
	if found.loopback && addr.IsLoopback() || slices.Contains(found.addrs, addr) {
		return control.Dst
	}
	return nil
}

// mtu returns that of the interface that a packet came in by, 0 if unknown.
func (i *interfaces) mtu(control *ipv4.ControlMessage) int {
	if control == nil {
		return 0
	}
	return i.get(control.IfIndex).mtu
}

// replyFrom sends an answer out of the interface that the packet came in by, and
// from the address that it was sent to: firmware compares.
func (i *interfaces) replyFrom(received *ipv4.ControlMessage) *ipv4.ControlMessage {
	if received == nil {
		return nil
	}
	return &ipv4.ControlMessage{IfIndex: received.IfIndex, Src: i.local(received)}
}

func listInterfaces() (map[int]iface, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	byIndex := make(map[int]iface, len(list))
	for _, link := range list {
		addrs, err := link.Addrs()
		if err != nil {
			return nil, err
		}
		byIndex[link.Index] = iface{name: link.Name, mtu: link.MTU, loopback: link.Flags&net.FlagLoopback != 0, addrs: ipv4Addrs(addrs)}
	}
	return byIndex, nil
}

func ipv4Addrs(addrs []net.Addr) []netip.Addr {
	var found []netip.Addr
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() {
			found = append(found, prefix.Addr())
		}
	}
	return found
}

// listenOn says where the DHCP sockets are to be bound for the interface that
// was asked for: its device, or, for loopback, just the address.
func listenOn(nameOrIP string) (addr netip.Addr, device string, err error) {
	if nameOrIP == "" {
		return netip.IPv4Unspecified(), "", nil
	}
	list, err := listInterfaces()
	if err != nil {
		return addr, "", fmt.Errorf("list network interfaces: %w", err)
	}
	wanted, _ := netip.ParseAddr(nameOrIP)
	for _, link := range list {
		switch {
		case link.loopback && wanted.Is4() && wanted.IsLoopback():
			return wanted, "", nil
		case link.name != nameOrIP && !slices.Contains(link.addrs, wanted):
		case link.loopback:
			return netip.AddrFrom4([4]byte{127, 0, 0, 1}), "", nil
		case len(link.addrs) == 0:
			return addr, "", fmt.Errorf("network interface %s has no IPv4 address", link.name)
		default:
			return netip.IPv4Unspecified(), link.name, nil
		}
	}
	return addr, "", fmt.Errorf("no network interface here has the name or IPv4 address %q", nameOrIP)
}
