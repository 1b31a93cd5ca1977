package eventlog_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/bmctl/bmctl/serve/eventlog"
	"github.com/bmctl/bmctl/serve/localapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const machine = "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1"

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// event is the n-th, a minute after the one before.
func event(n int) localapi.Event {
	e := localapi.Event{Seq: uint64(n), At: noon.Add(time.Duration(n) * time.Minute), Type: "script", Text: fmt.Sprintf("event %d", n)}
	if n%2 == 0 {
		e.MachineID = machine
	}

	return e
}

// noticed collects what a log says of itself, in its log and in notices.
type noticed struct {
	mu    sync.Mutex
	lines []string
	log   bytes.Buffer
}

func (n *noticed) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.log.Write(p)
}

func (n *noticed) hear(e localapi.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.lines = append(n.lines, e.Text+": "+e.Reason)
}

func (n *noticed) said() (notices []string, log string) {
	n.mu.Lock()
	defer n.mu.Unlock()

	return append([]string(nil), n.lines...), n.log.String()
}

func newLog(dir string, n *noticed) *eventlog.Log {
	return eventlog.New(eventlog.Config{Dir: dir, Log: slog.New(slog.NewTextHandler(n, nil)), Notice: n.hear, MaxSize: 2000, Kept: 2})
}

// write adds the events and lets the log write them, in one run.
func write(l *eventlog.Log, events ...localapi.Event) {
	for _, e := range events {
		l.Add(e)
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l.Run(ctx)
}

func since(t *testing.T, l *eventlog.Log, at time.Time) []localapi.Event {
	t.Helper()

	events, err := l.Since(at)
	if err != nil {
		t.Fatal(err)
	}

	return events
}

func TestEventsOverRuns(t *testing.T) {
	dir := t.TempDir()
	write(newLog(dir, &noticed{}), event(1), event(2))
	write(newLog(dir, &noticed{}), event(3), event(4))

	l := newLog(dir, &noticed{})
	want := []localapi.Event{event(1), event(2), event(3), event(4)}

	if diff := cmp.Diff(want, since(t, l, time.Time{})); diff != "" {
		t.Errorf("all events (-want +got):\n%s", diff)
	}

	if diff := cmp.Diff(want[2:], since(t, l, event(3).At)); diff != "" {
		t.Errorf("since the third (-want +got):\n%s", diff)
	}

	of, err := l.Of(machine)
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff([]localapi.Event{event(2), event(4)}, of); diff != "" {
		t.Errorf("of the machine (-want +got):\n%s", diff)
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	l := newLog(dir, &noticed{})

	const all = 200
	for n := range all {
		write(l, event(n))
	}

	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}

	var names []string

	for _, entry := range entries {
		names = append(names, entry.Name())

		if info, err := entry.Info(); err != nil || info.Size() > 2000 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want at most 2000 bytes for nobody else", entry.Name(), info, err)
		}
	}

	if diff := cmp.Diff([]string{"events.jsonl", "events.jsonl.1", "events.jsonl.2"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}

	events := since(t, l, time.Time{})
	if len(events) < 20 || len(events) == all {
		t.Fatalf("%d events are kept, want those of three files", len(events))
	}

	for i, e := range events {
		if want := event(all - len(events) + i); e != want {
			t.Fatalf("event %d is %+v, want %+v: the newest, in order and without gaps", i, e, want)
		}
	}
}

func TestLastLineCutOff(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, eventlog.File)
	write(newLog(dir, &noticed{}), event(1), event(2))

	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}

	if err := os.Truncate(path, info.Size()-10); err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff([]localapi.Event{event(1)}, since(t, newLog(dir, &noticed{}), time.Time{})); diff != "" {
		t.Errorf("before it is written on (-want +got):\n%s", diff)
	}

	said := &noticed{}
	l := newLog(dir, said)
	write(l, event(3))

	if diff := cmp.Diff([]localapi.Event{event(1), event(3)}, since(t, l, time.Time{})); diff != "" {
		t.Errorf("after it was written on (-want +got):\n%s", diff)
	}

	if _, log := said.said(); !strings.Contains(log, "lines=1") {
		t.Errorf("log %q, want the line that is no event", log)
	}
}

func TestForeignLines(t *testing.T) {
	dir := t.TempDir()
	foreign := strings.Repeat("x", 200<<10) + "\n\nnull\n{\"seq\":\"one\"}\n\x00\xff\n"

	line, err := json.Marshal(event(7))
	if err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(filepath.Join(dir, eventlog.File), append([]byte(foreign), append(line, '\n')...), 0o600); err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff([]localapi.Event{event(7)}, since(t, newLog(dir, &noticed{}), noon)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A disk that is full says so once; when there is room again, later events are
// kept, and the number of those that were not is told.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, eventlog.File)

	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}

	said := &noticed{}
	l := newLog(dir, said)
	write(l, event(1))
	write(l, event(2), event(3))

	notices, log := said.said()
	if len(notices) != 1 || !strings.Contains(notices[0], "no space left on device") || strings.Count(log, "ERROR") != 1 {
		t.Fatalf("notices %q, log %q; want one of each, with the reason", notices, log)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}

	write(l, event(4))

	if diff := cmp.Diff([]localapi.Event{event(4)}, since(t, l, time.Time{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	if notices, _ = said.said(); len(notices) != 2 || !strings.Contains(notices[1], "3 were lost") {
		t.Errorf("notices %q, want that three were lost", notices)
	}
}

func TestDirectoryCannotBeUsed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	said := &noticed{}
	l := newLog(dir, said)
	write(l, event(1), event(2))

	if notices, _ := said.said(); len(notices) != 1 || !strings.Contains(notices[0], "no such file or directory") {
		t.Fatalf("notices %q, want one with the reason", notices)
	}

	if events, err := l.Since(time.Time{}); len(events) > 0 || err != nil {
		t.Errorf("got %v, %v, want nothing", events, err)
	}

	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}

	write(l, event(3))

	if diff := cmp.Diff([]localapi.Event{event(3)}, since(t, l, time.Time{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A file that cannot be renamed grows on: nothing is lost.
func TestRotationFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, eventlog.File+".1", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}

	if err := os.MkdirAll(filepath.Join(dir, eventlog.File+".2", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}

	said := &noticed{}
	l := newLog(dir, said)

	for n := range 100 {
		write(l, event(n))
	}

	data, err := os.ReadFile(filepath.Join(dir, eventlog.File))
	if n := bytes.Count(data, []byte("\n")); n != 100 || err != nil {
		t.Errorf("%d lines, %v, want 100", n, err)
	}

	if _, log := said.said(); !strings.Contains(log, "not rotated") {
		t.Errorf("log %q, want that it is not rotated", log)
	}
}

// A disk that takes nothing stops nobody: a pipe that is not read stands for it.
func TestAddNeverWaits(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, eventlog.File)

	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}

	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()

	ctx, cancel := context.WithCancel(t.Context())
	said := &noticed{}
	l := eventlog.New(eventlog.Config{Dir: dir, Log: slog.New(slog.NewTextHandler(said, nil))})
	done := make(chan struct{})

	go func() { l.Run(ctx); close(done) }()

	for n := range 50_000 { // far more than pipe and queue hold
		l.Add(event(n))
	}

	missing := make(chan int)

	go func() {
		found, kept := 0, 0
		for lines := bufio.NewScanner(reader); lines.Scan() && lines.Text() != "end"; kept++ {
			var n int
			if _, text, ok := strings.Cut(lines.Text(), `"text":"`); ok && strings.Contains(text, "are missing here") {
				if _, err := fmt.Sscanf(text, "%d events", &n); err == nil {
					found, kept = found+n, kept-1
				}
			}
		}
		missing <- found
		missing <- kept
	}()

	cancel()
	<-done

	if _, err := reader.WriteString("end\n"); err != nil {
		t.Fatal(err)
	}

	if found, kept := <-missing, <-missing; found == 0 || found+kept != 50_000 {
		t.Errorf("%d are said to be missing and %d are kept, want 50000 in all", found, kept)
	}

	if _, log := said.said(); !strings.Contains(log, "dropped=") {
		t.Errorf("log %q, want the number of dropped events", log)
	}
}

// Readers see whole events in order while files are written and renamed.
func TestReadWhileWriting(t *testing.T) {
	l := newLog(t.TempDir(), &noticed{})
	ctx, cancel := context.WithCancel(t.Context())

	var writing sync.WaitGroup

	writing.Go(func() { l.Run(ctx) })
	writing.Go(func() {
		defer cancel()

		for n := range 2000 {
			l.Add(event(n))
		}
	})

	for ctx.Err() == nil {
		last := -1

		for _, e := range since(t, l, time.Time{}) {
			if last >= 0 && int(e.Seq) != last+1 {
				t.Errorf("event %d follows %d", e.Seq, last)
			}

			last = int(e.Seq)
		}
	}

	writing.Wait()
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("{}\n{"))
	f.Add([]byte("\n\n{\"seq\":1,\"at\":\"2026-11-22T12:00:00Z\",\"type\":\"script\",\"text\":\"x\"}\n"))
	f.Add([]byte("[]\nnull\n\xff"))

	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, eventlog.File), data, 0o600); err != nil {
			t.Fatal(err)
		}

		l := eventlog.New(eventlog.Config{Dir: dir})
		before := since(t, l, time.Time{})
		write(l, event(1))

		if after := since(t, l, time.Time{}); len(after) < len(before)+1 || after[len(after)-1] != event(1) {
			t.Errorf("%d events, then %d; want one more, the new one", len(before), len(after))
		}
	})
}
