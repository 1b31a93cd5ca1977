package boot_test

import (
	"net"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/bmctl/bmctl/boot"
)

// A request over TFTP or HTTP names no NIC. The one that asked its DHCP server for
// the address just before, which every station hears, is the one that loads.
func TestAFileIsLoadedByTheNICThatHasTheAddress(t *testing.T) {
	f := start(t, boot.Config{})
	packet := discover(t, "02:00:00:00:00:01", dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016"),
		dhcpv4.OptMessageType(dhcpv4.MessageTypeRequest), dhcpv4.OptRequestedIPAddress(net.IPv4(127, 77, 1, 9)))
	peer := newPeer(t, f.Addrs().DHCP)
	if _, err := peer.WriteToUDPAddrPort(packet.ToBytes(), f.Addrs().DHCP); err != nil {
		t.Fatal(err)
	}
	f.event(t, boot.EventIgnored) // the request is for the DHCP server

	peer.server = f.Addrs().TFTP
	peer.ask(1, "undionly.kpxe", "octet")
	for last := false; !last; {
		_, number, rest := peer.hear()
		peer.say(4, number, "")
		last = len(rest) < 512
	}
	if e := f.event(t, boot.EventLoader); e.MAC != "02:00:00:00:00:01" || e.Arch != "amd64" || e.Bytes == 0 || e.Duration <= 0 {
		t.Errorf("event %+v", e)
	}

	fetchHTTP(t, f.http+"/tftp/ipxe.efi") // from 127.0.0.1, which nobody asked for
	if e := f.event(t, boot.EventLoader); e.MAC != "" || e.Bytes == 0 {
		t.Errorf("event %+v", e)
	}
}
