package tui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// TestUpdate presses keys on the fleet and looks at the model.
func TestUpdate(t *testing.T) {
	first := fleet().Rows[0].ID

	for name, test := range map[string]struct {
		keys  []string
		check func(m Model, s *site) string
	}{
		"down and up":             {[]string{"j", "j", "k"}, at("r1n01")},
		"the end":                 {[]string{"G"}, at("r1n42")},
		"past the end":            {[]string{"G", "j", "g", "k"}, at("9c41e0aa")},
		"half a page":             {[]string{"ctrl+d"}, at("r1n08")},
		"next match goes around":  {[]string{"N"}, at("r1n42")},
		"select goes on":          {[]string{"space", "space"}, selected(2, "r1n01")},
		"select twice is none":    {[]string{"space", "k", "space"}, selected(0, "r1n01")},
		"a range":                 {[]string{"v", "j", "j"}, selected(3, "r1n02")},
		"a range shrinks":         {[]string{"v", "j", "j", "k"}, selected(2, "r1n01")},
		"all shown":               {[]string{"*"}, selected(42, "9c41e0aa")},
		"all and none":            {[]string{"*", "*"}, selected(0, "9c41e0aa")},
		"esc clears the selected": {[]string{"space", "esc"}, selected(0, "r1n01")},
		"filter":                  {append(append([]string{"/"}, typed("power=off")...), "enter"), shown(3)},
		"filter and esc":          {append(append([]string{"/"}, typed("power=off")...), "enter", "esc"), shown(42)},
		"a bad filter says why": {append(append([]string{"/"}, typed("=x")...), "enter"), func(m Model, _ *site) string {
			return lacks(m, "has no key")
		}},
		"sort by power": {[]string{"s"}, func(m Model, _ *site) string { return want(m.shown[0].Power, "off") }},
		"reversed":      {[]string{"S", "g"}, at("r1n42")},
		"open and back": {[]string{"enter", "esc"}, func(m Model, _ *site) string { return want(m.open, false) }},
		"panes by number": {[]string{"j", "1"}, func(m Model, _ *site) string {
			return want(m.pane, paneDetails) + lacks(m, "installed and wanted on")
		}},
		"tab goes around": {[]string{"tab", "tab", "tab", "tab"}, func(m Model, _ *site) string { return want(m.pane, paneDetails) }},
		"help":            {[]string{"?"}, func(m Model, _ *site) string { return lacks(m, "half a page down") }},
		"copy": {[]string{"y"}, func(m Model, _ *site) string {
			return lacks(m, "copied 9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1")
		}},
		"power menu and back":      {[]string{"p", "esc"}, did()},
		"a confirmation, and none": {[]string{"j", "p", "o"}, did()},
		"enter alone is cancel":    {[]string{"j", "p", "c", "enter"}, did()},
		"enter twice is cancel":    {[]string{"j", "p", "c", "enter", "enter"}, did()},
		"y does it":                {[]string{"j", "p", "o", "y"}, did("power on " + first)},
		"tab and enter does it":    {[]string{"j", "p", "o", "tab", "enter"}, did("power on " + first)},
		"soft instead":             {[]string{"j", "p", "f", "s", "y"}, did("power soft " + first)},
		"cycle of one that is off": {[]string{"j", "j", "j", "p", "c"}, func(m Model, s *site) string {
			return did()(m, s) + lacks(m, "power cycle: r1n03: it is off: power it on")
		}},
		"why not": {[]string{"g", "p", "o"}, func(m Model, s *site) string {
			return did()(m, s) + lacks(m, "not in the inventory")
		}},
		"many need their number": {append([]string{"*", "p", "f"}, "y", "enter"), did()},
		"many with their number": {append([]string{"*", "p", "s"}, "4", "2", "enter"), func(_ Model, s *site) string {
			return want(len(s.acts()), 1)
		}},
		"boot":                {[]string{"j", "b", "p", "y"}, did("boot pxe " + first)},
		"accept is not y":     {[]string{"g", "a", "y", "enter"}, did()},
		"accept by its id":    {append(append([]string{"g", "a"}, typed("9c41e0aa")...), "enter"), did("accept 9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1")},
		"accept a wrong id":   {append(append([]string{"g", "a"}, typed("9c41e0ab")...), "enter"), did()},
		"accept and esc":      {append(append([]string{"g", "a"}, typed("9c41e0aa")...), "esc"), did()},
		"accept only one":     {[]string{"g", "space", "space", "a"}, func(m Model, s *site) string { return did()(m, s) + lacks(m, "one machine at a time") }},
		"accepted already":    {[]string{"j", "a"}, func(m Model, s *site) string { return did()(m, s) + lacks(m, "it is accepted already") }},
		"reject":              {[]string{"g", "x", "y"}, did("reject 9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1")},
		"cordon":              {[]string{"j", "C", "y"}, did("cordon " + first)},
		"no console":          {[]string{"c"}, func(m Model, _ *site) string { return lacks(m, "console: there is none") }},
		"a command":           {append(append([]string{":"}, typed("bmctl machines")...), "enter"), ran("machines")},
		"an empty command":    {[]string{":", "enter"}, ran()},
		"a command, and esc":  {[]string{":", "x", "esc"}, ran()},
		"editing the command": {append(append([]string{":"}, typed("a machinez")...), "backspace", "s", "home", "ctrl+d", "ctrl+d", "enter"), ran("machines")},
		"the log tells": {[]string{"j", "p", "o", "y", "L"}, func(m Model, _ *site) string {
			return lacks(m, "bmctl power on r1n01") + lacks(m, "r1n01 power on ok")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &site{snapshot: fleet(), events: bootEvents()}

			opts := Options{Plain: true, Copy: func(string) error { return nil }}
			if problem := test.check(press(opened(s, opts, 120, 30), test.keys...), s); problem != "" {
				t.Error(problem)
			}
		})
	}
}

func at(name string) func(Model, *site) string {
	return func(m Model, _ *site) string { return want(m.at().name(), name) }
}

// selected wants so many machines selected, and the one under the cursor or
// before it among them.
func selected(n int, name string) func(Model, *site) string {
	return func(m Model, _ *site) string {
		chosen := slices.ContainsFunc(m.rows, func(r row) bool { return r.name() == name && m.selected[r.raw] })

		return want(len(m.selected), n) + want(chosen, n > 0)
	}
}

func shown(n int) func(Model, *site) string {
	return func(m Model, _ *site) string { return want(len(m.shown), n) }
}

func did(acts ...string) func(Model, *site) string {
	return func(_ Model, s *site) string { return want(strings.Join(s.acts(), "; "), strings.Join(acts, "; ")) }
}

func ran(lines ...string) func(Model, *site) string {
	return func(_ Model, s *site) string { return want(strings.Join(s.lines, "; "), strings.Join(lines, "; ")) }
}

func want[T comparable](got, wanted T) string {
	if got == wanted {
		return ""
	}

	return fmt.Sprintf("got %v, want %v", got, wanted)
}

func TestKeysThatComeTogether(t *testing.T) {
	s := &site{snapshot: fleet()}
	opts := Options{Copy: func(string) error { return nil }}
	m := feed(opened(s, opts, 120, 30), tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("jj/r1n0")})

	if m.at().name() != "r1n02" || m.modal == nil {
		t.Fatalf("the cursor is at %s, %v is open", m.at().name(), m.modal)
	}

	if m = press(m, "enter"); m.filter.expr != "r1n0" {
		t.Errorf("the filter is %q", m.filter.expr)
	}
}

func TestPastedTextIsNoKeys(t *testing.T) {
	s := &site{snapshot: fleet()}
	paste := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("jpoy"), Paste: true}

	m := feed(opened(s, Options{}, 120, 30), paste)
	if m.cursor != 0 || m.modal != nil || len(s.acts()) > 0 {
		t.Errorf("pasted text moved to %d, opened %v, did %v", m.cursor, m.modal, s.acts())
	}

	if m = press(feed(press(m, "j", "p", "o"), paste), "esc"); len(s.acts()) > 0 {
		t.Errorf("text pasted into a confirmation did %v", s.acts())
	}

	if m = press(feed(press(m, "/"), paste), "enter"); m.filter.expr != "jpoy" {
		t.Errorf("the filter is %q", m.filter.expr)
	}
}

func TestTheCursorStaysWithItsMachine(t *testing.T) {
	s := &site{snapshot: fleet()}
	m := press(opened(s, Options{}, 80, 24), "j", "j")
	name := m.at().name()

	fewer := fleet()
	fewer.Rows = fewer.Rows[1:]
	m = feed(m, arrived(fewer, nil, noon))

	if got := m.at().name(); got != name {
		t.Errorf("the cursor went from %s to %s", name, got)
	}

	m = press(m, "S")
	if got := m.at().name(); got != name {
		t.Errorf("after sorting the cursor went from %s to %s", name, got)
	}
}

func TestWhatIsGoneIsNotActedUpon(t *testing.T) {
	s := &site{snapshot: fleet()}
	m := press(opened(s, Options{}, 80, 24), "*")
	m = feed(m, arrived(Snapshot{Rows: fleet().Rows[:3]}, nil, noon))

	if len(m.selected) != 3 {
		t.Errorf("%d selected, want the 3 that are left", len(m.selected))
	}

	if m = feed(m, arrived(Snapshot{}, nil, noon)); len(m.selected) != 0 || m.at() != nil {
		t.Errorf("%d selected of none", len(m.selected))
	}

	if m = press(m, "p", "o", "y", "a", "enter", "c", "y"); len(s.acts()) > 0 {
		t.Errorf("did %v to no machine", s.acts())
	}
}

func TestReadOnlyDoesNothing(t *testing.T) {
	s := &site{snapshot: fleet()}
	m := opened(s, Options{ReadOnly: true}, 120, 30)

	for _, keys := range [][]string{{"p"}, {"b"}, {"a"}, {"x"}, {"C"}, {":", "x", "enter"}} {
		m = press(m, keys...)
		if text := m.View(); !strings.Contains(text, "read-only") {
			t.Errorf("after %v the view does not say that it is read-only:\n%s", keys, text)
		}

		m = press(m, "esc")
	}

	if len(s.acts())+len(s.lines) > 0 {
		t.Errorf("did %v %v", s.acts(), s.lines)
	}
}

func TestOmniAwayIsSaid(t *testing.T) {
	s := &site{snapshot: fleet()}
	s.snapshot.Health.OmniDown = true
	s.snapshot.Health.OmniSince = noon.Add(-134 * time.Second)
	s.snapshot.Health.OmniRetry = noon.Add(8 * time.Second)
	m := opened(s, Options{Plain: true}, 120, 30)

	for _, text := range []string{"omni UNREACHABLE 2m14s (retry in 8s)", "42 machines as of 14:02:11", "running~", "prod~"} {
		if problem := lacks(m, text); problem != "" {
			t.Error(problem)
		}
	}

	if problem := lacks(press(m, "g", "a"), "accept: needs Omni, which does not answer"); problem != "" {
		t.Error(problem)
	}

	if press(m, "j", "p", "o", "y"); len(s.acts()) != 1 {
		t.Errorf("power does not go on without Omni: %v", s.acts())
	}
}

func TestServeAwayKeepsWhatIsKnown(t *testing.T) {
	s := &site{snapshot: fleet()}
	m := opened(s, Options{Plain: true}, 120, 30)
	m = feed(m, arrived(Snapshot{}, errors.New("bmctl serve is not running\x1b[2J"), noon))
	m = feed(m, tickMsg(noon.Add(12*time.Second)))

	for _, text := range []string{"serve AWAY 12s", "as of 14:02:11", "r1n01", "running~", `is not running\x1b[2J`} {
		if problem := lacks(m, text); problem != "" {
			t.Error(problem)
		}
	}

	m = feed(m, arrived(fleet(), nil, noon))
	if strings.Contains(m.View(), "AWAY") {
		t.Errorf("it is back:\n%s", m.View())
	}
}

func TestSnapshotsDoNotPileUp(t *testing.T) {
	m := opened(&site{snapshot: fleet()}, Options{}, 80, 24)

	m, first := m.ask()
	m, second := m.ask()

	if first == nil || second != nil || !m.dirty {
		t.Fatal("a second snapshot is asked for while the first is under way")
	}

	m, again := m.onSnapshot(arrived(fleet(), nil, noon))
	if again == nil {
		t.Error("what happened meanwhile is not looked at")
	}

	if m, _ = m.ask(); m.dirty {
		t.Error("asking again does not settle it")
	}
}

func TestFailuresAreCounted(t *testing.T) {
	s := &site{snapshot: fleet(), fails: map[string]string{fleet().Rows[2].ID: "no answer\nfrom 10.0.3.3"}}
	m := press(opened(s, Options{Plain: true}, 120, 30), append(append([]string{"/"}, typed("power=off")...), "enter", "*", "p", "o", "y")...)

	if problem := lacks(m, "power on 3 machines: 1 of 3 failed; L shows which"); problem != "" {
		t.Error(problem)
	}

	if problem := lacks(press(m, "L"), "r1n03 no answer from 10.0.3.3"); problem != "" {
		t.Error(problem)
	}
}

func TestLeavingAnActIsAsked(t *testing.T) {
	s := &site{snapshot: fleet()}
	m := press(opened(s, Options{Plain: true}, 120, 30), "j", "p", "o")
	next, _ := m.Update(keyMsg("y")) // its results have not come

	m = next.(Model)

	next, cmd := m.Update(keyMsg("q"))
	if m = next.(Model); cmd != nil || m.modal == nil {
		t.Fatal("left without a question")
	}

	if problem := lacks(m, "power on r1n01: 0 of 1"); problem != "" {
		t.Error(problem)
	}

	if next, _ := m.Update(keyMsg("enter")); next.(Model).modal != nil {
		t.Error("enter does not stay")
	}

	if _, cmd := m.Update(keyMsg("y")); cmd == nil {
		t.Error("y does not leave")
	}
}

func TestMouse(t *testing.T) {
	m := opened(&site{snapshot: fleet()}, Options{Plain: true}, 120, 30)
	click := func(m Model, x, y int) Model {
		return feed(m, tea.MouseMsg{X: x, Y: y, Button: tea.MouseButtonLeft, Action: tea.MouseActionPress})
	}

	y := m.rects().Table.Y + 2
	m = click(m, 10, y)

	if got := m.at().name(); got != "r1n02" {
		t.Errorf("clicked on r1n02, the cursor is at %s", got)
	}

	if slow := click(feed(m, clickedMsg{}), 10, y); slow.open {
		t.Error("two slow clicks opened it")
	}

	if m = click(m, 10, y); !m.open {
		t.Error("two clicks did not open it")
	}

	m = press(m, "esc")
	if m = feed(m, tea.MouseMsg{Button: tea.MouseButtonWheelDown, Action: tea.MouseActionPress}); m.at().name() != "r1n05" {
		t.Errorf("the wheel went to %s", m.at().name())
	}

	columns := place(m.columns, m.w)
	i := slices.IndexFunc(columns, func(c placed) bool { return c.key == byStatus })

	if m = click(m, columns[i].x+1, m.rects().Heads.Y); m.sort != byStatus || m.shown[0].Status != "error" {
		t.Errorf("sorted by %v, first is %s", m.sort, m.shown[0].Status)
	}

	if m = click(m, columns[i].x+1, m.rects().Heads.Y); !m.reverse {
		t.Error("a second click does not reverse")
	}
}

func TestTooSmallTakesNoKeys(t *testing.T) {
	s := &site{snapshot: fleet()}
	m := opened(s, Options{Plain: true}, 52, 14)

	if problem := lacks(m, "bmctl needs 60x15, this is 52x14"); problem != "" {
		t.Error(problem)
	}

	if press(m, "j", "p", "o", "y"); len(s.acts()) > 0 {
		t.Errorf("acted unseen: %v", s.acts())
	}
}

func lacks(m Model, text string) string {
	if strings.Contains(strings.Join(strings.Fields(m.View()), " "), strings.Join(strings.Fields(text), " ")) {
		return ""
	}

	return "the view lacks " + text + ":\n" + m.View()
}
