package bmcsim

import (
	"context"
	"errors"
	"sync"

	"github.com/bougou/go-ipmi/pkg/hal"
)

// serial is the machine's serial port: it gives back what is typed, as a
// terminal with echo does, and what Print puts out.
type serial struct {
	mu       sync.Mutex
	attached bool
	output   []byte
}

// Print lets the machine write to its serial port. What nobody has taken by
// then waits, up to 64 KiB.
func (b *BMC) Print(p []byte) { b.serial.print(p) }

func (s *serial) print(p []byte) {
	const longest = 64 << 10

	s.mu.Lock()
	defer s.mu.Unlock()

	s.output = append(s.output, p...)
	s.output = s.output[max(0, len(s.output)-longest):]
}

// Open implements hal.ConsoleHAL.
func (s *serial) Open(context.Context) (hal.ConsoleConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.attached {
		return nil, errors.New("the serial port is taken")
	}

	s.attached = true

	return (*serialConn)(s), nil
}

// serialConn is the port while it is taken.
type serialConn serial

// ReadAvailable implements hal.ConsoleConn.
func (s *serialConn) ReadAvailable(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	n := copy(p, s.output)
	s.output = s.output[n:]

	return n, nil
}

// Write implements io.Writer.
func (s *serialConn) Write(p []byte) (int, error) {
	(*serial)(s).print(p)

	return len(p), nil
}

// Close implements io.Closer.
func (s *serialConn) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.attached = false

	return nil
}

// SendBreak implements hal.ConsoleConn.
func (s *serialConn) SendBreak(context.Context) error { return hal.ErrNotSupported }
