package boot

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// sniffer hears the DHCP answers that others broadcast to machines. A socket on
// port 68 would hear them as well, but it would take that port's packets from this
// host's own DHCP client. It needs CAP_NET_RAW.
type sniffer struct {
	file *os.File
	raw  syscall.RawConn
}

// answersToClients lets pass what came by the network (packet types 4 and 5 are
// our own) as UDP, not fragmented, to port 68. Offsets are in the IPv4 header.
var answersToClients = []bpf.Instruction{
	bpf.LoadExtension{Num: bpf.ExtType},
	bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: 4, SkipTrue: 8},
	bpf.LoadAbsolute{Off: 9, Size: 1}, // protocol
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: syscall.IPPROTO_UDP, SkipTrue: 6},
	bpf.LoadAbsolute{Off: 6, Size: 2}, // fragment offset
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 4},
	bpf.LoadMemShift{Off: 0}, // length of the header
	bpf.LoadIndirect{Off: 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: dhcpClientPort, SkipTrue: 1},
	bpf.RetConstant{Val: maxPacket},
	bpf.RetConstant{Val: 0},
}

// newSniffer hears on one network device, or on all where device is empty.
func newSniffer(device string) (*sniffer, error) {
	index := 0
	if device != "" {
		link, err := net.InterfaceByName(device)
		if err != nil {
			return nil, err
		}
		index = link.Index
	}
	// Protocol 0: nothing is heard before the filter is in place.
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket AF_PACKET", err)
	}
	s := &sniffer{file: os.NewFile(uintptr(fd), "packet socket")}
	if err := s.listen(fd, index); err != nil {
		_ = s.close()
		return nil, err
	}
	return s, nil
}

func (s *sniffer) listen(fd, index int) (err error) {
	program, err := bpf.Assemble(answersToClients)
	if err != nil {
		return fmt.Errorf("packet filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(program))
	for n, i := range program {
		filter[n] = unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K}
	}
	attached := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, attached); err != nil {
		return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
	}
	network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, syscall.ETH_P_IP))
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: network, Ifindex: index}); err != nil {
		return os.NewSyscallError("bind AF_PACKET", err)
	}
	s.raw, err = s.file.SyscallConn()
	return err
}

// hear waits for a packet, from its IPv4 header on, and tells the number of the
// interface that it came by. It ends when the sniffer is closed.
func (s *sniffer) hear(buffer []byte) (n, index int, err error) {
	var from syscall.Sockaddr
	failed := s.raw.Read(func(fd uintptr) bool {
		n, from, err = syscall.Recvfrom(int(fd), buffer, 0)
		return err != syscall.EAGAIN && err != syscall.EINTR
	})
	if failed != nil {
		return 0, 0, failed
	}
	if link, ok := from.(*syscall.SockaddrLinklayer); ok {
		index = link.Ifindex
	}
	return n, index, os.NewSyscallError("recvfrom", err)
}

func (s *sniffer) close() error { return s.file.Close() }

// askOn broadcasts a DISCOVER as a UEFI machine does. It has the MAC of the network
// device itself, as switches may refuse any other.
func askOn(device net.Interface) error {
	conn, err := nclient4.NewRawUDPConn(device.Name, dhcpClientPort)
	if err != nil {
		return err
	}
	defer conn.Close()
	packet, err := dhcpv4.NewDiscovery(device.HardwareAddr, dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(classPXE+":Arch:00007:UNDI:003016")),
		dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_X86_64)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 16}),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionVendorSpecificInformation, dhcpv4.OptionClassIdentifier, dhcpv4.OptionBootfileName))
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err = conn.WriteTo(packet.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpServerPort})
	return err
}
