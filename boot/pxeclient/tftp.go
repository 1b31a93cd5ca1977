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
)

// tftpError is an ERROR packet.
type tftpError struct {
	code    uint16
	message string
}

func (e *tftpError) Error() string {
	return fmt.Sprintf("server: %s (TFTP error %d)", e.message, e.code)
}

// transfer reads one file.
type transfer struct {
	conn   *net.UDPConn
	server netip.AddrPort // the port changes with the first answer (RFC 1350, section 4)
	fixed  bool
	wait   time.Duration
	packet []byte // sent last
	size   int64  // told by the server, or -1
	block  int
}

// readTFTP fetches a file as firmware does. With probe it only asks for the size
// and aborts, as EDK2 does first; the content is then nil.
func (b *boot) readTFTP(ctx context.Context, server netip.AddrPort, name string, probe bool) (content []byte, size int64, err error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.source(), 0)))
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	t := &transfer{conn: conn, server: server, wait: b.Timeout / tftpAttempts, size: -1, block: smallBlock}
	t.packet = request(name)
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

// request asks for a file with the options tsize (RFC 2349) and blksize (RFC 2348).
func request(name string) []byte {
	packet := []byte{0, opRead}
	for _, word := range []string{name, "octet", "tsize", "0", "blksize", strconv.Itoa(blockSize)} {
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
		}
	}
}

// read collects blocks until a short one. first is block 1 if it came already.
func (t *transfer) read(ctx context.Context, first []byte) ([]byte, error) {
	var content bytes.Buffer
	for number := uint16(1); ; number++ {
		answer := first
		if first = nil; answer == nil {
			var err error
			answer, err = t.roundTrip(ctx, func(op uint16, data []byte) bool {
				return op == opData && len(data) >= 2 && binary.BigEndian.Uint16(data) == number
			})
			if err != nil {
				return nil, fmt.Errorf("after %d bytes: %w", content.Len(), err)
			}
		}
		content.Write(answer[4:])
		t.acknowledge(number)
		if len(answer)-4 < t.block {
			_, err := t.conn.WriteToUDPAddrPort(t.packet, t.server)
			return content.Bytes(), err
		}
		if content.Len() > maxLoader {
			return nil, fmt.Errorf("more than %d bytes", maxLoader)
		}
	}
}

func (t *transfer) acknowledge(number uint16) {
	t.packet = binary.BigEndian.AppendUint16([]byte{0, opAck}, number)
}

func (t *transfer) abort() error {
	packet := append([]byte{0, opError, 0, errorOption}, "User aborted the transfer\x00"...)
	_, err := t.conn.WriteToUDPAddrPort(packet, t.server)
	return err
}

// roundTrip sends the packet, again where nothing comes, until an answer is the
// wanted one.
func (t *transfer) roundTrip(ctx context.Context, wanted func(op uint16, data []byte) bool) ([]byte, error) {
	buffer := make([]byte, 4+blockSize+512)
	for range tftpAttempts {
		if _, err := t.conn.WriteToUDPAddrPort(t.packet, t.server); err != nil {
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
