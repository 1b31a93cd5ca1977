package boot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	// tftpTimeout is waited for an acknowledgement before the window is sent again,
	// unless the client asked for another time.
	tftpTimeout = time.Second
	tftpRetries = 5
)

// link is the way to one client.
type link interface {
	send(packet []byte) error
	// receive reads one packet; its error is os.ErrDeadlineExceeded where nothing
	// came in time, and the context's where that has ended.
	receive(ctx context.Context, buffer []byte, wait time.Duration) (int, error)
	close() error
}

// aborted is the client's ERROR packet.
type aborted struct {
	code    uint16
	message string
}

func (a *aborted) Error() string {
	return fmt.Sprintf("the client aborted: %q (TFTP error %d)", a.message, a.code)
}

// transfer sends one file.
type transfer struct {
	link    link
	request readRequest
	content []byte
	buffer  []byte // for what is received
	packet  []byte // for what is sent
	acked   int    // blocks acknowledged
}

// run sends the file; oack is nil where no option was granted.
func (t *transfer) run(ctx context.Context, oack []byte) error {
	if t.request.timeout == 0 {
		t.request.timeout = tftpTimeout
	}
	t.buffer = make([]byte, 512)
	t.packet = make([]byte, 0, 4+t.request.block)
	if oack != nil {
		if err := t.exchange(ctx, 0, func() error { return t.link.send(oack) }); err != nil {
			return err
		}
	}
	blocks := len(t.content)/t.request.block + 1 // the last is short, perhaps empty
	for t.acked < blocks {
		last := min(t.acked+t.request.window, blocks)
		if err := t.exchange(ctx, last, func() error { return t.window(last) }); err != nil {
			return err
		}
	}
	return nil
}

// sent is the number of bytes acknowledged.
func (t *transfer) sent() int64 {
	return int64(min(t.acked*t.request.block, len(t.content)))
}

// window sends the blocks after those acknowledged, up to last.
func (t *transfer) window(last int) error {
	for n := t.acked + 1; n <= last; n++ {
		from := (n - 1) * t.request.block
		to := min(from+t.request.block, len(t.content))
		t.packet = binary.BigEndian.AppendUint16(append(t.packet[:0], 0, tftpData), uint16(n))
		t.packet = append(t.packet, t.content[from:to]...)
		if err := t.link.send(t.packet); err != nil {
			return err
		}
	}
	return nil
}

// exchange sends something, again where nothing comes, until some of it is
// acknowledged; last is its last block, 0 for the options.
func (t *transfer) exchange(ctx context.Context, last int, send func() error) error {
	for range tftpRetries {
		if err := send(); err != nil {
			return err
		}
		err := t.await(ctx, last)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return fmt.Errorf("no acknowledgement of block %d in %d tries", t.acked+1, tftpRetries)
}

// await reads until an acknowledgement moves the transfer on. One of the block
// before the window means, for a window of several, that its first block was
// lost; for a window of one it is a duplicate, and to send again for each of
// those would double every packet from then on (RFC 1123, section 4.2.3.1).
func (t *transfer) await(ctx context.Context, last int) error {
	deadline := time.Now().Add(t.request.timeout)
	for repeated := false; ; {
		n, err := t.link.receive(ctx, t.buffer, time.Until(deadline))
		if err != nil {
			return err
		}
		block, err := acknowledged(t.buffer[:n])
		if err != nil {
			return err
		}
		ahead := int(uint16(block) - uint16(t.acked))
		switch {
		case block < 0:
		case last == 0 && block == 0:
			return nil
		case ahead >= 1 && ahead <= last-t.acked:
			t.acked += ahead
			return nil
		case ahead == 0 && last-t.acked > 1 && !repeated:
			repeated = true
			if err := t.window(last); err != nil {
				return err
			}
		}
	}
}

// acknowledged returns the block of an ACK packet, -1 for what is none, and an
// error for an ERROR.
func acknowledged(packet []byte) (int, error) {
	if len(packet) < 4 {
		return -1, nil
	}
	number := binary.BigEndian.Uint16(packet[2:])
	switch binary.BigEndian.Uint16(packet) {
	case tftpAck:
		return int(number), nil
	case tftpError:
		message, _, _ := strings.Cut(string(packet[4:]), "\x00")
		return -1, &aborted{number, word(message)}
	default:
		return -1, nil
	}
}
