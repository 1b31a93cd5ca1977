package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/term"
)

// consoleSession joins a machine's serial port and a terminal.
type consoleSession struct {
	port          io.ReadWriteCloser
	stdin         io.Reader
	stdout        io.Writer
	readOnly      bool
	say           func(string) // a line for the person, below the machine's own
	sayPlain      func(string) // the same where no terminal is raw
	greet         func(say func(string))
	typed         chan []byte
	ended, failed chan error
}

// typedBuffer is how much of what is typed waits for a slow controller, in
// reads of the terminal. Escapes are seen meanwhile.
const typedBuffer = 1024

// errInputEnded: stdin is at its end, and it is no terminal.
var errInputEnded = errors.New("end of input")

// run copies until the person, the machine or ctx ends it. On every way out the
// console is closed and the terminal is as it was.
func (s consoleSession) run(ctx context.Context) (err error) {
	s.typed, s.ended, s.failed = make(chan []byte, typedBuffer), make(chan error, 1), make(chan error, 2)

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	restore, person, err := rawTerminal(s.stdin)
	if err != nil {
		return errors.Join(err, s.port.Close())
	}

	defer func() { err = errors.Join(err, restore()) }()
	defer func() { err = errors.Join(err, s.port.Close()) }()

	// Only now, with the keys taken: what a person types who has read that the
	// console is there is not for the terminal any more.
	if person {
		s.greet(s.say)
	} else {
		s.greet(s.sayPlain)
	}

	go s.show()
	go s.listen(ctx, person)
	go s.write(ctx)

	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err = <-s.failed:
		return err
	case err = <-s.ended:
	}

	if errors.Is(err, errInputEnded) {
		// What was piped in has been sent; the answers are still to be seen.
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err = <-s.failed:
		}
	}

	return err
}

// rawTerminal takes the terminal's own keys away from it, where stdin is one.
func rawTerminal(stdin any) (restore func() error, person bool, err error) {
	file, ok := stdin.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return func() error { return nil }, false, nil
	}

	before, err := term.MakeRaw(int(file.Fd()))
	if err != nil {
		return nil, false, fmt.Errorf("take over the terminal: %w", err)
	}

	return func() error { return term.Restore(int(file.Fd()), before) }, true, nil
}

// show writes what comes from the machine.
func (s consoleSession) show() {
	_, err := io.Copy(s.stdout, s.port)
	if err == nil {
		err = fmt.Errorf("the console was closed at the other end: %w", io.EOF)
	}

	s.failed <- err
}

// listen reads what is typed. Only a person's keys have escapes in them.
func (s consoleSession) listen(ctx context.Context, person bool) {
	keys := newEscapes(s.readOnly)
	buffer := make([]byte, 4096)

	for {
		n, err := s.stdin.Read(buffer)
		send, act := buffer[:n], escapeNone

		if person {
			send, act = keys.feed(buffer[:n])
		}

		if !s.readOnly && len(send) > 0 {
			select {
			case s.typed <- append([]byte(nil), send...):
			case <-ctx.Done():
				return
			}
		}

		switch {
		case act == escapeEnd:
			s.ended <- nil

			return
		case act == escapeHelp:
			s.say("~. or ctrl-] ends, ~~ types ~, ~? says this")
		}

		if err != nil {
			s.ended <- inputError(err, person)

			return
		}
	}
}

// inputError is the end of a person's input, which ends the session, or that of a
// file's, which does not.
func inputError(err error, person bool) error {
	switch {
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("read what is typed: %w", err)
	case person:
		return nil
	default:
		return errInputEnded
	}
}

func (s consoleSession) write(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case typed := <-s.typed:
			if _, err := s.port.Write(typed); err != nil {
				s.failed <- err

				return
			}
		}
	}
}

// escapeAct is what a key sequence asks of us instead of the machine.
type escapeAct int

const (
	escapeNone escapeAct = iota
	escapeEnd
	escapeHelp
)

const (
	ctrlC            = 0x03
	ctrlRightBracket = 0x1d
)

// escapes finds the escapes in what is typed, as ssh does: a tilde counts at the
// start of a line only.
type escapes struct {
	readOnly  bool
	lineStart bool
	tilde     bool // held back: what follows says what it means
}

func newEscapes(readOnly bool) *escapes { return &escapes{readOnly: readOnly, lineStart: true} }

// feed returns what is for the machine, up to the first escape that asks for
// something; what was typed behind one that ends is nobody's.
func (e *escapes) feed(typed []byte) (send []byte, act escapeAct) {
	for _, key := range typed {
		switch {
		case key == ctrlRightBracket, e.readOnly && key == ctrlC, e.tilde && key == '.':
			return send, escapeEnd
		case e.tilde && key == '?':
			e.tilde, act = false, escapeHelp

			continue
		case e.tilde && key != '~':
			send = append(send, '~')
		case !e.tilde && e.lineStart && key == '~':
			e.tilde = true

			continue
		}

		send = append(send, key)
		e.tilde, e.lineStart = false, key == '\r' || key == '\n'
	}

	return send, act
}
