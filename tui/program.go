package tui

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// Run shows src on the terminal until the person leaves or ctx ends; neither is
// an error. Whatever way it ends, the terminal is as it was; after a panic the
// error is a *Panic.
func Run(ctx context.Context, src Source, opts Options, in io.Reader, out io.Writer) error {
	commands, cancel := context.WithCancel(ctx)
	defer cancel()

	if opts.Copy == nil {
		opts.Copy = func(text string) error { return askTerminalToCopy(out, text) }
	}

	m, err := New(commands, src, opts, time.Now())
	if err != nil {
		return err
	}

	var caught crash

	program := tea.NewProgram(guarded{m, &caught}, programOptions(opts, in, out)...)
	caught.quit = program.Quit

	stop := context.AfterFunc(ctx, program.Quit)
	defer stop()

	if _, err := program.Run(); err != nil {
		return errors.Join(caught.err(), fmt.Errorf("terminal: %w", err))
	}

	return caught.err()
}

func programOptions(opts Options, in io.Reader, out io.Writer) []tea.ProgramOption {
	options := []tea.ProgramOption{tea.WithInput(in), tea.WithOutput(out), tea.WithAltScreen(), tea.WithoutSignalHandler()}
	if !opts.NoMouse {
		options = append(options, tea.WithMouseCellMotion())
	}

	return options
}

// askTerminalToCopy uses OSC 52, which terminals pass to the clipboard if they
// are allowed to, over SSH too.
func askTerminalToCopy(out io.Writer, text string) error {
	_, err := fmt.Fprintf(out, "\x1b]52;c;%s\a", base64.StdEncoding.EncodeToString([]byte(text)))

	return err
}
