package tui

import (
	"strings"

	"github.com/charmbracelet/bubbles/key"
)

// keyMap is every key of the table and the panes: what the program does, the
// help screen and the page of the documentation come from it.
type keyMap struct {
	Up, Down, Top, Bottom, PageUp, PageDown  key.Binding
	Select, Range, All                       key.Binding
	Filter, Next, Previous, Sort, Reverse    key.Binding
	Open, NextPane, Pane, Back               key.Binding
	Power, Boot, Accept, Reject, Cordon      key.Binding
	Console, Log, Copy, Command, Refresh     key.Binding
	Help, Quit, Interrupt                    key.Binding
	Yes, Cancel, Gentle, Confirm, OtherFocus key.Binding
}

func bind(help, desc string, keys ...string) key.Binding {
	return key.NewBinding(key.WithKeys(keys...), key.WithHelp(help, desc))
}

func newKeyMap() keyMap {
	return keyMap{
		Up:       bind("k ↑", "up", "k", "up"),
		Down:     bind("j ↓", "down", "j", "down"),
		Top:      bind("g", "first", "g", "home"),
		Bottom:   bind("G", "last", "G", "end"),
		PageUp:   bind("ctrl-u", "half a page up", "ctrl+u", "pgup"),
		PageDown: bind("ctrl-d", "half a page down", "ctrl+d", "pgdown"),

		Select: bind("space", "select", " "),
		Range:  bind("v", "select a range", "v"),
		All:    bind("*", "select all shown", "*"),

		Filter:   bind("/", "filter", "/"),
		Next:     bind("n", "next match", "n"),
		Previous: bind("N", "previous match", "N"),
		Sort:     bind("s", "sort", "s"),
		Reverse:  bind("S", "reverse the order", "S"),

		Open:     bind("enter", "details", "enter"),
		NextPane: bind("tab", "next pane", "tab"),
		Pane:     bind("1-5", "pane", "1", "2", "3", "4", "5"),
		Back:     bind("esc", "back", "esc", "alt+esc"),

		Power:  bind("p", "power", "p"),
		Boot:   bind("b", "boot", "b"),
		Accept: bind("a", "accept", "a"),
		Reject: bind("x", "reject", "x"),
		Cordon: bind("C", "cordon, uncordon", "C"),

		Console: bind("c", "console", "c"),
		Log:     bind("L", "log", "L"),
		Copy:    bind("y", "copy the id", "y"),
		Command: bind(":", "command", ":"),
		Refresh: bind("R", "refresh", "R"),

		Help:      bind("?", "help", "?"),
		Quit:      bind("q", "quit", "q"),
		Interrupt: bind("ctrl-c", "quit", "ctrl+c"),

		Yes:        bind("y", "do it", "y"),
		Cancel:     bind("esc", "cancel", "esc", "alt+esc", "q"),
		Gentle:     bind("s", "soft shutdown instead", "s"),
		Confirm:    bind("enter", "press the button in focus", "enter"),
		OtherFocus: bind("tab", "other button", "tab", "left", "right", "h", "l", "shift+tab"),
	}
}

// section is a group of keys in the help.
type section struct {
	title string
	keys  []key.Binding
}

// sections are all keys of the table and the panes, in the order of the help.
func (k keyMap) sections() []section {
	return []section{
		{"Move", []key.Binding{k.Up, k.Down, k.Top, k.Bottom, k.PageUp, k.PageDown}},
		{"Look", []key.Binding{k.Open, k.NextPane, k.Pane, k.Log, k.Back}},
		{"Choose", []key.Binding{k.Select, k.Range, k.All}},
		{"Act", []key.Binding{
			menuHelp(k.Power, powerVerbs()), menuHelp(k.Boot, bootVerbs()), k.Accept, k.Reject, k.Cordon, k.Console,
		}},
		{"Find", []key.Binding{k.Filter, k.Next, k.Previous, k.Sort, k.Reverse}},
		{"More", []key.Binding{k.Copy, k.Command, k.Refresh, k.Help, k.Quit}},
	}
}

// menuHelp tells the keys of a menu in one line.
func menuHelp(first key.Binding, verbs []Verb) key.Binding {
	keys, words := first.Help().Key, make([]string, len(verbs))

	for i, verb := range verbs {
		keys += " " + verb.deed().key
		words[i] = verb.deed().word
	}

	return bind(keys, first.Help().Desc+" "+strings.Join(words, "|"))
}
