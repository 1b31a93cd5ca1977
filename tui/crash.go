package tui

import (
	"fmt"
	"runtime/debug"
	"sync"

	tea "github.com/charmbracelet/bubbletea"
)

// Panic is what Run returns when the view panicked. The terminal is as it was
// before.
type Panic struct {
	Value any
	Stack []byte
}

// Error implements error; it does not tell the stack.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// crash catches panics of the model and of its commands and ends the program
// with them. Bubble Tea's own way prints them onto the screen that is left, where
// nobody can read them.
type crash struct {
	quit func()

	mu    sync.Mutex
	first *Panic
}

// caught is deferred where a panic may come by.
func (c *crash) caught() {
	if value := recover(); value != nil {
		c.record(&Panic{value, debug.Stack()})
	}
}

func (c *crash) record(p *Panic) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if already, ok := p.Value.(*Panic); ok {
		p = already // passed on by another goroutine, with its own stack
	}

	if c.first == nil {
		c.first = p

		go c.quit() // it waits for the program, which waits for us
	}
}

func (c *crash) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.first == nil {
		return nil
	}

	return c.first
}

// guard makes the command harmless, and those that it brings along.
func (c *crash) guard(cmd tea.Cmd) tea.Cmd {
	if cmd == nil {
		return nil
	}

	return func() tea.Msg {
		defer c.caught()

		msg := cmd()
		if batch, ok := msg.(tea.BatchMsg); ok {
			for i := range batch {
				batch[i] = c.guard(batch[i])
			}
		}

		return msg
	}
}

// guarded is a model whose panics are caught.
type guarded struct {
	tea.Model
	crash *crash
}

// Init implements tea.Model.
func (g guarded) Init() tea.Cmd { return g.crash.guard(g.Model.Init()) }

// Update implements tea.Model. After a panic the model stays as it was.
func (g guarded) Update(msg tea.Msg) (next tea.Model, cmd tea.Cmd) {
	defer func() {
		if next == nil {
			next = g
		}
	}()
	defer g.crash.caught()

	inner, cmd := g.Model.Update(msg)

	return guarded{inner, g.crash}, g.crash.guard(cmd)
}

// View implements tea.Model.
func (g guarded) View() string {
	defer g.crash.caught()

	return g.Model.View()
}
