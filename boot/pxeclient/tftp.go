package pxeclient

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// TFTP's operations (RFC 1350, section 5; RFC 2347) and the error with which
// EDK2 aborts once it knows the size (RFC 2347, section "Error code 8").
const (
	opRead  = 1
	opData  = 3
	opAck   = 4
	opError = 5
	opOACK  = 6

	errorOption = 8

	blockSize    = 1468 // an Ethernet frame's worth
	smallBlock   = 512  // where the server knows no options
	maxLoader    = 64 << 20
	tftpAttempts = 6
	maxWindow    = 64
	maxAnswer    = 4 + blockSize + 512 // with room for a server that sends too much
)

// tftpError is an ERROR packet.
type tftpError struct {
	code    uint16
	message string
}

func (e *tftpError) Error() string {
	return fmt.Sprintf("server: %s (TFTP error %d)", e.message, e.code)
}

// wish is what a transfer asks for: the size of blocks, and how many of them come
// for one acknowledgement (RFC 7440); without options it is RFC 1350 alone.
type wish struct {
	block, window int
	options       bool
	limit         int // of bytes, then it is aborted; 0 is none
}

// usual is what firmware asks for.
var usual = wish{block: blockSize, window: 1, options: true}

// transfer reads one file.
type transfer struct {
	boot   *boot
	from   netip.AddrPort
	conn   *net.UDPConn
	server netip.AddrPort // the port changes with the first answer (RFC 1350, section 4)
	fixed  bool
	wait   time.Duration
	packet []byte // sent last
	size   int64  // told by the server, or -1
	block  int
	window int
	limit  int
}

// readTFTP fetches a file as firmware does. With probe it only asks for the size
// and aborts, as EDK2 does first; the content is then nil.
func (b *boot) readTFTP(ctx context.Context, server netip.AddrPort, name string, probe bool) (content []byte, size int64, err error) {
	t, done, err := b.transfer(ctx, server)
	if err != nil {
		return nil, 0, err
	}
	defer done()
	return t.get(ctx, name, usual, probe)
}

// transfer opens a socket for one transfer; done closes it.
func (b *boot) transfer(ctx context.Context, server netip.AddrPort) (t *transfer, done func(), err error) {
	from, err := b.towards(server)
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	t = &transfer{
		boot: b, conn: conn, from: conn.LocalAddr().(*net.UDPAddr).AddrPort(), server: server,
		wait: b.Timeout / tftpAttempts, size: -1, block: smallBlock, window: 1,
	}
	return t, func() { stop(); conn.Close() }, nil
}

func (t *transfer) get(ctx context.Context, name string, w wish, probe bool) (content []byte, size int64, err error) {
	t.packet, t.limit = request(name, w), w.limit
	answer, err := t.roundTrip(ctx, func(op uint16, _ []byte) bool { return op == opOACK || op == opData })
	if err != nil {
		return nil, 0, err
	}
	if binary.BigEndian.Uint16(answer) == opOACK {
		t.options(answer[2:])
		if probe {
			return nil, t.size, t.abort()
		}
		t.acknowledge(0)
		answer = nil
	} else if probe {
		return nil, -1, t.abort()
	}
	content, err = t.read(ctx, answer)
	return content, t.size, err
}

// request asks for a file with the options tsize (RFC 2349), blksize (RFC 2348)
// and windowsize (RFC 7440).
func request(name string, w wish) []byte {
	words := []string{name, "octet"}
	if w.options {
		words = append(words, "tsize", "0", "blksize", strconv.Itoa(w.block))
	}
	if w.window > 1 {
		words = append(words, "windowsize", strconv.Itoa(w.window))
	}
	packet := []byte{0, opRead}
	for _, word := range words {
		packet = append(append(packet, word...), 0)
	}
	return packet
}

func (t *transfer) options(data []byte) {
	words := strings.Split(string(data), "\x00")
	for i := 0; i+1 < len(words); i += 2 {
		n, err := strconv.ParseInt(words[i+1], 10, 64)
		if err != nil || n < 0 {
			continue
		}
		switch strings.ToLower(words[i]) {
		case "tsize":
			t.size = n
		case "blksize":
			t.block = int(min(n, blockSize))
		case "windowsize":
			t.window = int(max(1, min(n, maxWindow)))
		}
	}
}

// read collects blocks until a short one. first is block 1 if it came already.
func (t *transfer) read(ctx context.Context, first []byte) ([]byte, error) {
	var content bytes.Buffer
	unacknowledged := 0
	for number := uint16(1); ; number++ {
		answer := first
		if first = nil; answer == nil {
			var err error
			answer, err = t.next(ctx, number, unacknowledged == 0)
			if err != nil {
				return nil, fmt.Errorf("after %d bytes: %w", content.Len(), err)
			}
		}
		content.Write(answer[4:])
		t.acknowledge(number)
		last := len(answer)-4 < t.block
		if unacknowledged++; unacknowledged == t.window || last {
			unacknowledged = 0
		}
		switch {
		case last:
			return content.Bytes(), t.write(t.packet)
		case t.limit > 0 && content.Len() >= t.limit:
			return content.Bytes(), t.abort()
		case content.Len() > maxLoader:
			return nil, fmt.Errorf("more than %d bytes", maxLoader)
		}
	}
}

// next is the block of this number. At the end of a window it acknowledges the one
// before; within it, only when nothing comes.
func (t *transfer) next(ctx context.Context, number uint16, acknowledge bool) ([]byte, error) {
	wanted := func(op uint16, data []byte) bool {
		return op == opData && len(data) >= 2 && binary.BigEndian.Uint16(data) == number
	}
	if !acknowledge {
		buffer := make([]byte, maxAnswer)
		if err := t.conn.SetReadDeadline(time.Now().Add(t.wait)); err != nil {
			return nil, err
		}
		if answer, err := t.receive(ctx, buffer, wanted); !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return answer, err
		}
	}
	return t.roundTrip(ctx, wanted)
}

func (t *transfer) acknowledge(number uint16) {
	t.packet = binary.BigEndian.AppendUint16([]byte{0, opAck}, number)
}

func (t *transfer) abort() error {
	return t.write(append([]byte{0, opError, 0, errorOption}, "User aborted the transfer\x00"...))
}

func (t *transfer) write(packet []byte) error {
	t.boot.record(t.from, t.server, packet)
	_, err := t.conn.WriteToUDPAddrPort(packet, t.server)
	return err
}

// roundTrip sends the packet, again where nothing comes, until an answer is the
// wanted one.
func (t *transfer) roundTrip(ctx context.Context, wanted func(op uint16, data []byte) bool) ([]byte, error) {
	buffer := make([]byte, maxAnswer)
	for range tftpAttempts {
		if err := t.write(t.packet); err != nil {
			return nil, err
		}
		if err := t.conn.SetReadDeadline(time.Now().Add(t.wait)); err != nil {
			return nil, err
		}
		answer, err := t.receive(ctx, buffer, wanted)
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return answer, err
		}
	}
	return nil, fmt.Errorf("no answer from %s to %d packets: %w", t.server, tftpAttempts, os.ErrDeadlineExceeded)
}

func (t *transfer) receive(ctx context.Context, buffer []byte, wanted func(op uint16, data []byte) bool) ([]byte, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, from, err := t.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return nil, err
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if n < 4 || from.Addr() != t.server.Addr() || t.fixed && from != t.server {
			continue
		}
		t.boot.record(from, t.from, buffer[:n])
		op := binary.BigEndian.Uint16(buffer)
		if op == opError {
			message, _, _ := strings.Cut(string(buffer[4:n]), "\x00")
			return nil, &tftpError{binary.BigEndian.Uint16(buffer[2:]), message}
		}
		if wanted(op, buffer[2:n]) {
			t.server, t.fixed = from, true
			return buffer[:n], nil
		}
	}
}
