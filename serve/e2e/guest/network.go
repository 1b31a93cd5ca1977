//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/jsimonetti/rtnetlink/v2/rtnl"
)

// bringUp sets the interface up and gives it the address that the site's DHCP
// server leases. Everything that the guest talks to is on that link, so no
// route is added.
func bringUp(ctx context.Context, name string) (*net.IPNet, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("bring up %s: %w", name, err)
	}

	netlink, err := rtnl.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("bring up %s: %w", name, err)
	}
	defer netlink.Close() //nolint:errcheck // a socket

	if err := netlink.LinkUp(link); err != nil {
		return nil, fmt.Errorf("bring up %s: %w", name, err)
	}

	client, err := nclient4.New(name, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(15))
	if err != nil {
		return nil, fmt.Errorf("bring up %s: %w", name, err)
	}
	defer client.Close() //nolint:errcheck // a socket

	lease, err := client.Request(ctx)
	if err != nil {
		return nil, fmt.Errorf("get a DHCP lease on %s: %w", name, err)
	}

	address := &net.IPNet{IP: lease.ACK.YourIPAddr, Mask: lease.ACK.SubnetMask()}
	if err := netlink.AddrAdd(link, address); err != nil {
		return nil, fmt.Errorf("give %s the address %s: %w", name, address, err)
	}

	return address, nil
}
