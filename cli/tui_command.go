package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bmctl/bmctl/power/hosts"
	"github.com/bmctl/bmctl/tui"
)

// Equivalent implements tui.Source.
func (s *tuiSource) Equivalent(verb tui.Verb, ids ...string) string {
	targets := s.typed(ids)

	action, isPower := strings.CutPrefix(string(verb), "power ")
	device, isBoot := strings.CutPrefix(string(verb), "boot ")

	switch {
	case isPower:
		return "bmctl power " + action + " " + targets
	case isBoot:
		return "bmctl power boot " + targets + " --boot " + device
	case verb == tui.Cordon || verb == tui.Uncordon:
		return "bmctl machines " + string(verb) + " " + targets
	default:
		return "bmctl " + string(verb) + " " + targets
	}
}

// typed is the shortest way to name the machines: their names folded, then the
// starts of the ids of those that have none.
func (s *tuiSource) typed(ids []string) string {
	s.mu.Lock()
	seen := s.seen
	s.mu.Unlock()

	refs := machineRefs(seen)
	index := make(map[string]int, len(seen))

	for i, m := range seen {
		index[m.ID] = i
	}

	var names, rest []string

	for _, id := range ids {
		i, known := index[id]

		switch {
		case known && hasName(seen[i]) && hosts.Valid(seen[i].Name):
			names = append(names, seen[i].Name)
		case !known && s.names[strings.ToLower(id)] != "":
			names = append(names, s.names[strings.ToLower(id)])
		case known && len(ids) < 10:
			rest = append(rest, shortID(id, refs))
		default:
			rest = append(rest, id)
		}
	}

	slices.Sort(rest)

	return strings.TrimSpace(hosts.Fold(names) + " " + strings.Join(rest, " "))
}

// Console implements tui.Source.
func (s *tuiSource) Console(id string) *exec.Cmd {
	if !s.console {
		return nil
	}

	exe, args, err := s.a.selfArgs("console", s.typed([]string{id}))
	if err != nil {
		return nil
	}

	said := &heard{to: s.stderr}
	cmd := exec.Command(exe, args...)
	cmd.Env, cmd.Stderr = s.a.environ, said

	if _, host := s.known(id); host != "" {
		s.consoles.Lock()
		s.consoles.last[host] = said
		s.consoles.Unlock()
	}

	return cmd
}

// consoles are what the hosts' consoles said last.
type consoles struct {
	sync.Mutex
	last map[string]*heard
}

// heard passes on what is written, and remembers the beginning.
type heard struct {
	to io.Writer

	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (h *heard) Write(p []byte) (int, error) {
	const enough = 4096

	h.mu.Lock()
	h.text = append(h.text, p[:min(len(p), enough-len(h.text))]...)
	h.mu.Unlock()

	return h.to.Write(p)
}

// String returns what was written, as errors: the hints are for the command line.
func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()

	for line := range strings.Lines(string(h.text)) {
		if text, ok := strings.CutPrefix(line, "bmctl: error: "); ok {
			return text
		}
	}

	return string(h.text)
}

// Run implements tui.Source: it runs this program with the line as arguments. It
// asks nothing: what needs a confirmation says so, with the flag that gives it.
func (s *tuiSource) Run(ctx context.Context, line string) iter.Seq[tui.Result] {
	return func(yield func(tui.Result) bool) {
		args, err := splitLine(line)
		if err == nil && len(args) > 0 && slices.Contains([]string{"serve", "lab", "tui", "console"}, args[0]) {
			err = fmt.Errorf("bmctl %s needs a terminal of its own", args[0])
		}

		if err == nil {
			err = s.runSelf(ctx, args, func(line string) bool { return yield(tui.Result{Text: line}) })
		}

		if err != nil {
			yield(tui.Result{Err: err})
		}
	}
}

func (s *tuiSource) runSelf(ctx context.Context, args []string, say func(string) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	exe, all, err := s.a.selfArgs(append([]string{"--no-input"}, args...)...)
	if err != nil {
		return err
	}

	reader, writer := io.Pipe()
	cmd := exec.CommandContext(ctx, exe, all...)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.a.environ, writer, writer
	cmd.WaitDelay = time.Second

	if err := cmd.Start(); err != nil {
		return err
	}

	ended := make(chan error, 1)

	go func() {
		ended <- cmd.Wait()

		_ = writer.Close() // never fails
	}()

	lines := bufio.NewScanner(reader)
	for lines.Scan() {
		if !say(lines.Text()) {
			cancel()
			_ = reader.Close() // never fails; the writer must not wait for us

			break
		}
	}

	_ = reader.Close() // a line that is too long ends the reading

	if err := <-ended; err != nil && ctx.Err() == nil {
		return fmt.Errorf("bmctl: %w", err)
	}

	return lines.Err()
}

// splitLine splits a command line as a shell does that knows quotes only.
func splitLine(line string) ([]string, error) {
	var (
		args  []string
		word  strings.Builder
		open  bool // a word has begun
		quote rune
	)

	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ' || r == '\t':
			if open {
				args = append(args, word.String())
			}

			word.Reset()

			open = false
		default:
			word.WriteRune(r)

			open = true
		}
	}

	if quote != 0 {
		return nil, fmt.Errorf("the quote %c is not closed", quote)
	}

	if open {
		args = append(args, word.String())
	}

	return args, nil
}
