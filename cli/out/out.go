// Package out writes the results of commands: as a table for people, as JSON or
// YAML for programs, or as bare names for the next command in a pipe.
package out

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/goccy/go-yaml"
)

// Format is how a result is written.
type Format string

// The formats. Wide is the table with all its columns.
const (
	Table Format = "table"
	Wide  Format = "wide"
	JSON  Format = "json"
	YAML  Format = "yaml"
	Name  Format = "name"
)

// Formats returns all formats, the default first.
func Formats() []string {
	return []string{string(Table), string(Wide), string(JSON), string(YAML), string(Name)}
}

// Set implements pflag.Value.
func (f *Format) Set(text string) error {
	if !slices.Contains(Formats(), text) {
		return fmt.Errorf("want %s", strings.Join(Formats(), ", "))
	}

	*f = Format(text)

	return nil
}

// String implements pflag.Value.
func (f *Format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *Format) Type() string { return "FORMAT" }

// Machine tells whether the format is read by programs.
func (f *Format) Machine() bool { return *f == JSON || *f == YAML || *f == Name }

// Style is what a cell's colour says. It never says anything that the text
// does not.
type Style int

// The styles.
const (
	Plain Style = iota
	Good
	Warn
	Bad
	Faint
)

// sgr is the style's Select Graphic Rendition parameter (ECMA-48, 8.3.117):
// colours from the terminal's own sixteen, so that its theme decides.
func (s Style) sgr() string {
	switch s {
	case Good:
		return "32"
	case Warn:
		return "1;33"
	case Bad:
		return "31"
	case Faint:
		return "2"
	default:
		return ""
	}
}

// Cell is one field of a table. Its text may come from outside: it is cleaned
// when it is written.
type Cell struct {
	Text  string
	Style Style
}

// Text returns plain cells.
func Text(texts ...string) []Cell {
	cells := make([]Cell, len(texts))
	for i, text := range texts {
		cells[i] = Cell{Text: text}
	}

	return cells
}

// Column is a column of a table.
type Column struct {
	Head string
	// Wide columns are shown with -o wide only.
	Wide bool
}

// View is one result in all its shapes.
type View struct {
	Columns []Column
	Rows    [][]Cell // as many cells as columns
	// Document is the result for programs.
	Document any
	// Names are what -o name prints.
	Names []string
}

// Printer writes views in the way that the flags ask for. The zero Format is
// Table.
type Printer struct {
	W         io.Writer
	Format    Format
	NoHeaders bool
	Color     bool
}

// Print writes the view in one write, so that a reader that goes away is
// noticed once.
func (p Printer) Print(view View) error {
	text, err := p.render(view)
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}

	_, err = p.W.Write(text)

	return err
}

// Line writes a document as one line of JSON: an item of a stream.
func (p Printer) Line(document any) error {
	data, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}

	_, err = p.W.Write(append(escapeJSON(data), '\n'))

	return err
}

func (p Printer) render(view View) ([]byte, error) {
	switch p.Format {
	case JSON:
		data, err := json.MarshalIndent(view.Document, "", "  ")

		return append(escapeJSON(data), '\n'), err
	case YAML:
		return renderYAML(view.Document)
	case Name:
		var text strings.Builder
		for _, name := range view.Names {
			text.WriteString(Clean(name) + "\n")
		}

		return []byte(text.String()), nil
	default:
		return []byte(p.table(view)), nil
	}
}

// renderYAML goes through JSON, so that both documents have the same fields in
// the same order. The library writes control characters raw; they become the
// visible escapes of Clean, so YAML, unlike JSON, does not give them back.
func renderYAML(document any) ([]byte, error) {
	data, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}

	text, err := yaml.JSONToYAML(escapeJSON(data))

	return []byte(CleanLines(string(text))), err
}

const gap = "  "

func (p Printer) table(view View) string {
	shown := p.shown(view.Columns)

	var rows [][]Cell

	if !p.NoHeaders {
		head := make([]Cell, len(view.Columns))
		for i, column := range view.Columns {
			head[i] = Cell{Text: column.Head}
		}

		rows = append(rows, head)
	}

	rows = append(rows, view.Rows...)
	widths := make([]int, len(view.Columns))

	for _, row := range rows {
		for i := range row {
			row[i].Text = Clean(row[i].Text)
			widths[i] = max(widths[i], ansi.StringWidth(row[i].Text))
		}
	}

	var text strings.Builder
	for _, row := range rows {
		p.row(&text, row, widths, shown)
	}

	return text.String()
}

// shown are the indexes of the columns that this format has.
func (p Printer) shown(columns []Column) []int {
	var indexes []int

	for i, column := range columns {
		if !column.Wide || p.Format == Wide {
			indexes = append(indexes, i)
		}
	}

	return indexes
}

func (p Printer) row(text *strings.Builder, row []Cell, widths, shown []int) {
	line := ""

	for at, i := range shown {
		cell := row[i]
		line += p.Paint(cell.Text, cell.Style)

		if at < len(shown)-1 {
			line += strings.Repeat(" ", widths[i]-ansi.StringWidth(cell.Text)) + gap
		}
	}

	text.WriteString(strings.TrimRight(line, " ") + "\n")
}

// Paint colours the text where colours are on. The text is not cleaned.
func (p Printer) Paint(text string, style Style) string {
	if !p.Color || style.sgr() == "" || text == "" {
		return text
	}

	return "\x1b[" + style.sgr() + "m" + text + "\x1b[0m"
}

// UseColor decides on colours: when is auto, always or never; auto means a
// terminal, unless NO_COLOR (no-color.org) is set to anything or TERM is dumb.
func UseColor(when string, terminal bool, env func(string) string) bool {
	switch when {
	case "always":
		return true
	case "never":
		return false
	default:
		return terminal && env("NO_COLOR") == "" && env("TERM") != "dumb"
	}
}

// Age writes a duration by its largest unit: 8s, 4m, 2h, 12d. Negative ones are
// a clock that is wrong by a little: 0s.
func Age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
