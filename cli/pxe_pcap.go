package cli

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"

	"golang.org/x/net/ipv4"

	"github.com/bmctl/bmctl/boot/pxeclient"
)

// capture writes packets as a libpcap file (draft-ietf-opsawg-pcap). They are what
// the client sent and got, in IPv4 and UDP headers made for them: no right to
// listen on an interface is needed, and nobody else's packets are in it.
type capture struct {
	to  io.Writer
	err error // the first
}

const (
	pcapMagic   = 0xa1b2c3d4 // times in microseconds
	pcapMajor   = 2
	pcapMinor   = 4
	pcapLinkRaw = 101 // LINKTYPE_RAW: a packet begins with its IP header
	pcapMaxLen  = 1 << 16

	timeToLive  = 64
	protocolUDP = 17
	udpHeader   = 8
)

func newCapture(to io.Writer) *capture {
	c := &capture{to: to}
	head := binary.LittleEndian.AppendUint32(nil, pcapMagic)
	head = binary.LittleEndian.AppendUint16(head, pcapMajor)
	head = binary.LittleEndian.AppendUint16(head, pcapMinor)
	head = append(head, make([]byte, 8)...) // reserved
	head = binary.LittleEndian.AppendUint32(head, pcapMaxLen)
	c.write(binary.LittleEndian.AppendUint32(head, pcapLinkRaw))

	return c
}

func (c *capture) add(p pxeclient.Packet) {
	size := udpHeader + len(p.Data)
	packet := binary.BigEndian.AppendUint16(ipHeader(p.From.Addr(), p.To.Addr(), size), p.From.Port())
	packet = binary.BigEndian.AppendUint16(packet, p.To.Port())
	packet = binary.BigEndian.AppendUint16(packet, uint16(size))
	packet = append(packet, 0, 0) // no checksum (RFC 768)
	packet = append(packet, p.Data...)

	record := binary.LittleEndian.AppendUint32(nil, uint32(p.At.Unix()))
	record = binary.LittleEndian.AppendUint32(record, uint32(p.At.Nanosecond()/1000))
	record = binary.LittleEndian.AppendUint32(record, uint32(len(packet)))
	record = binary.LittleEndian.AppendUint32(record, uint32(len(packet)))
	c.write(append(record, packet...))
}

// ipHeader is the header of a UDP packet of this size (RFC 791, section 3.1).
func ipHeader(from, to netip.Addr, size int) []byte {
	data := make([]byte, ipv4.HeaderLen)
	data[0] = ipv4.Version<<4 | ipv4.HeaderLen/4
	binary.BigEndian.PutUint16(data[2:], uint16(ipv4.HeaderLen+size))
	data[8], data[9] = timeToLive, protocolUDP
	copy(data[12:], from.Unmap().AsSlice())
	copy(data[16:], to.Unmap().AsSlice())

	sum := uint32(0)
	for i := 0; i < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}

	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}

	binary.BigEndian.PutUint16(data[10:], ^uint16(sum))

	return data
}

func (c *capture) write(data []byte) {
	if c.err != nil {
		return
	}

	if _, err := c.to.Write(data); err != nil {
		c.err = fmt.Errorf("--pcap: %w", err)
	}
}
