package tui

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// updating tells whether views, screens and pages are to be written instead of
// compared. The flag is teatest's.
func updating() bool { return flag.Lookup("update").Value.String() == "true" }

// scene is a view at a moment.
type scene struct {
	name  string
	w, h  int
	opts  Options
	site  func(*site)
	keys  []string
	after func(Model) Model
}

func scenes() []scene {
	filterLine := append(append([]string{"/"}, typed("r1n0")...), "enter")
	onBooting := []string{"g", "j", "j"}

	return []scene{
		{name: "fleet", w: 120, h: 30, keys: append(filterLine, "g", "j", "j", "space", "space", "k", "k", "k")},
		{name: "fleet", w: 80, h: 24, keys: []string{"j", "j", "j", "space"}},
		{name: "boot", w: 120, h: 30, keys: append(onBooting, "2")},
		{name: "boot", w: 80, h: 24, keys: append(onBooting, "enter")},
		{name: "details", w: 120, h: 30, keys: append(onBooting, "1")},
		{name: "details", w: 80, h: 24, keys: append(onBooting, "enter", "1")},
		{name: "cycle", w: 80, h: 24, keys: append(onBooting, "k", "space", "space", "space", "p", "c")},
		{name: "cycle-many", w: 120, h: 30, keys: []string{"*", "p", "c"}},
		{name: "accept", w: 80, h: 24, keys: append([]string{"g", "a"}, typed("9c41")...)},
		{name: "menu", w: 80, h: 24, keys: []string{"j", "p"}},
		{name: "help", w: 120, h: 30, keys: []string{"?"}},
		{name: "help", w: 80, h: 24, keys: []string{"?"}},
		{name: "ascii", w: 80, h: 24, opts: Options{ASCII: true}, keys: []string{"j", "j", "space", "j", "p", "f"}},
		{name: "log", w: 120, h: 30, keys: append(append([]string{"j", "p", "o", "y", ":"}, typed("machines -o wide")...), "enter")},
		{name: "omni-away", w: 80, h: 24, site: func(s *site) {
			s.snapshot.Health.OmniDown, s.snapshot.Health.OmniSince = true, noon.Add(-134*time.Second)
			s.snapshot.Health.OmniRetry = noon.Add(8 * time.Second)
		}},
		{name: "serve-away", w: 80, h: 24, after: func(m Model) Model {
			m = feed(m, arrived(Snapshot{}, errors.New("bmctl serve is not running: nothing answers on /run/bmctl/bmctl.sock"), noon))

			return feed(m, tickMsg(noon.Add(12*time.Second)))
		}},
		{name: "inventory", w: 80, h: 24, site: func(s *site) {
			s.snapshot.Rows = s.snapshot.Rows[:5]
			s.snapshot.Health = Health{Source: "inventory", Notice: "serve does not answer: power only. Start it: bmctl serve"}
			s.events = nil
		}},
		{name: "strangers", w: 120, h: 30, site: func(s *site) { s.snapshot.Rows = strangers() }},
		{name: "empty", w: 80, h: 24, site: func(s *site) { s.snapshot.Rows = nil }},
		{name: "small", w: 52, h: 14},
	}
}

// play comes to the moment of the scene.
func (c scene) play(opts Options) Model {
	s := &site{snapshot: fleet(), events: bootEvents()}
	if c.site != nil {
		c.site(s)
	}

	opts.ASCII = c.opts.ASCII
	m := press(opened(s, opts, c.w, c.h), c.keys...)

	if c.after != nil {
		m = c.after(m)
	}

	return m
}

func (c scene) file(extension string) string {
	return c.name + "-" + itoa(c.w) + "x" + itoa(c.h) + extension
}

// TestViews compares what is drawn, without styles, with what is kept.
func TestViews(t *testing.T) {
	for _, c := range scenes() {
		t.Run(c.file(""), func(t *testing.T) {
			lines := strings.Split(c.play(Options{Plain: true}).View(), "\n")
			for i := range lines {
				lines[i] = strings.TrimRight(lines[i], " ")
			}

			compare(t, filepath.Join("testdata", "views", c.file(".txt")), strings.Join(lines, "\n")+"\n")
		})
	}
}

// compare holds text against the file, or writes it there with -update.
func compare(t *testing.T, path, text string) {
	t.Helper()

	if updating() {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}

		return
	}

	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./tui -update writes it)", err)
	}

	if string(kept) != text {
		t.Errorf("%s is not current (go test ./tui -update writes it). It is now:\n%s", path, text)
	}
}
