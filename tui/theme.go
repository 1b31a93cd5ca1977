package tui

import (
	"fmt"
	"io"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// role is what a piece of text is; the theme decides how that looks.
type role int

const (
	plain role = iota
	faint
	good
	warn
	bad
	accent
	strong
	heading
	roles // their number
)

// theme is the looks: styles by role, each also in bold for the row at the
// cursor, and the glyphs.
type theme struct {
	styles, bold [roles]lipgloss.Style
	glyphs
}

// glyphs are the characters with a meaning. Each has a word beside it.
type glyphs struct {
	on, off, full, empty, cursor, mark, ellipsis, rule, prompt, dot string
	corners                                                         [4]string
	side                                                            string
	spinner                                                         []string
}

func unicodeGlyphs() glyphs {
	return glyphs{
		on: "●", off: "○", full: "▰", empty: "▱", cursor: "▌", mark: "✓", ellipsis: "…", rule: "─", prompt: "▏", dot: "·",
		corners: [4]string{"┌", "┐", "└", "┘"}, side: "│", spinner: []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"},
	}
}

func asciiGlyphs() glyphs {
	return glyphs{
		on: "*", off: "o", full: "#", empty: ".", cursor: ">", mark: "x", ellipsis: "~", rule: "-", prompt: "_", dot: "-",
		corners: [4]string{"+", "+", "+", "+"}, side: "|", spinner: []string{"|", "/", "-", `\`},
	}
}

// Themes are the names that Options.Theme knows.
func Themes() []string { return []string{"auto", "dark", "light", "mono", "high-contrast"} }

// The palettes: the 16 colours of ANSI only, so that the terminal's own theme
// has the last word. Auto uses the six that are legible on either background.
func palette(name string) (map[role]lipgloss.Color, error) {
	switch name {
	case "", "auto":
		return map[role]lipgloss.Color{good: "2", warn: "3", bad: "1", accent: "6"}, nil
	case "dark":
		return map[role]lipgloss.Color{faint: "8", good: "10", warn: "11", bad: "9", accent: "14", heading: "7"}, nil
	case "light":
		return map[role]lipgloss.Color{faint: "8", good: "2", warn: "5", bad: "1", accent: "4", heading: "0"}, nil
	case "high-contrast":
		return map[role]lipgloss.Color{good: "15", warn: "11", bad: "9", accent: "14", heading: "15"}, nil
	case "mono":
		return nil, nil
	default:
		return nil, fmt.Errorf("theme %q is not known", name)
	}
}

// newTheme makes the theme. Mono has no colours but still bold and faint, unless
// plainText is set, which leaves the glyphs alone.
func newTheme(name string, ascii, plainText bool) (theme, error) {
	colours, err := palette(name)
	if err != nil {
		return theme{}, err
	}

	renderer := lipgloss.NewRenderer(io.Discard)
	renderer.SetColorProfile(termenv.ANSI)

	if plainText {
		renderer.SetColorProfile(termenv.Ascii)
	}

	t := theme{glyphs: unicodeGlyphs()}
	if ascii {
		t.glyphs = asciiGlyphs()
	}

	for r := range roles {
		style := renderer.NewStyle().TabWidth(lipgloss.NoTabConversion)
		if colour, ok := colours[r]; ok {
			style = style.Foreground(colour)
		} else if (r == faint || r == heading) && name != "high-contrast" {
			style = style.Faint(true)
		}

		t.styles[r] = style.Bold(r == strong || r == bad || r == heading && name == "high-contrast")
		t.bold[r] = style.Bold(true).Faint(false)
	}

	return t, nil
}

// in gives the text the looks of the role.
func (t *theme) in(r role, text string) string {
	if r == plain || text == "" {
		return text
	}

	return t.styles[r].Render(text)
}

// inBold is in for the row at the cursor.
func (t *theme) inBold(r role, text string) string {
	if text == "" {
		return text
	}

	return t.bold[r].Render(text)
}
