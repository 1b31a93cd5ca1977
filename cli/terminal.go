package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// ask writes the text and the question to the controlling terminal and returns
// the line that was typed there. Neither stdin nor stdout is touched: they may
// be a list of machines and a file.
//
// A prompt needs a person: stdin or stderr must be a terminal. Otherwise, and
// with --no-input, it is a failure with the hint, which says how to do without.
func (a *app) ask(ctx context.Context, text, question, hint string) (string, error) {
	tty, err := a.openTerminal("a confirmation", hint)
	if err != nil {
		return "", err
	}

	defer tty.Close() //nolint:errcheck // read and written already

	if _, err := fmt.Fprint(tty, text, question); err != nil {
		return "", fmt.Errorf("ask on the terminal: %w", err)
	}

	return readLine(ctx, tty)
}

// openTerminal opens the controlling terminal to ask for what is needed there.
func (a *app) openTerminal(what, hint string) (*os.File, error) {
	if a.global.noInput {
		return nil, failf(codePromptNeeded, hint, "%s is needed, and --no-input forbids to ask", what)
	}

	if !terminal(a.stdin) && !terminal(a.stderr) {
		return nil, failf(codePromptNeeded, hint, "%s is needed, and there is no terminal to ask on", what)
	}

	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, failf(codePromptNeeded, hint, "%s is needed, and the terminal does not open: %w", what, err)
	}

	return tty, nil
}

// readLine gives up when ctx ends; the read itself ends with the process.
func readLine(ctx context.Context, tty io.Reader) (string, error) {
	type answer struct {
		line string
		err  error
	}

	answers := make(chan answer, 1)

	go func() {
		line, err := bufio.NewReader(tty).ReadString('\n')
		answers <- answer{line, err}
	}()

	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case got := <-answers:
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			return "", fmt.Errorf("read from the terminal: %w", got.err)
		}

		return strings.TrimSpace(got.line), nil // the end of input is an empty answer
	}
}
