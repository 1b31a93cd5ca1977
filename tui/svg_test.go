package tui

import (
	"fmt"
	"html"
	"strconv"
	"strings"
)

// The colours of the screens: a dark terminal with a calm palette.
const (
	screenPaper = "#16181d"
	screenInk   = "#d5d8df"
	screenFrame = "#2b2f38"
	cellWidth   = 8.4
	cellHeight  = 18
	margin      = 14
	titleHeight = 28
)

func screenColours() map[int]string {
	return map[int]string{
		30: "#2b2f38", 31: "#e06c75", 32: "#98c379", 33: "#e5c07b", 34: "#61afef", 35: "#c678dd", 36: "#56b6c2", 37: "#d5d8df",
		90: "#6b7280", 91: "#ff8790", 92: "#b5e08f", 93: "#ffd98a", 94: "#8cc8ff", 95: "#e29cf0", 96: "#7fd4df", 97: "#ffffff",
	}
}

// pen is the style of a piece of a screen.
type pen struct {
	colour      int
	bold, faint bool
}

// set follows one style sequence: the parameters between ESC [ and m.
func (p pen) set(parameters string) pen {
	for _, parameter := range strings.Split(parameters, ";") {
		switch n, err := strconv.Atoi(parameter); {
		case err != nil || n == 0:
			p = pen{}
		case n == 1:
			p.bold = true
		case n == 2:
			p.faint = true
		case n == 22:
			p.bold, p.faint = false, false
		case n == 39:
			p.colour = 0
		case n >= 30 && n <= 37, n >= 90 && n <= 97:
			p.colour = n
		}
	}

	return p
}

func (p pen) attributes() string {
	text := ""
	if colour, ok := screenColours()[p.colour]; ok {
		text += ` fill="` + colour + `"`
	}

	if p.bold {
		text += ` font-weight="bold"`
	}

	if p.faint {
		text += ` opacity="0.55"`
	}

	return text
}

// SVG draws a screen of styled text, as View and tmux give it, as a picture of
// w columns.
func svg(title, screen string, w int) string {
	lines := strings.Split(strings.TrimRight(screen, "\n"), "\n")
	width := float64(w)*cellWidth + 2*margin
	height := len(lines)*cellHeight + 2*margin + titleHeight

	var b strings.Builder

	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.1f %d" width="%.1f" height="%d">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(title))
	fmt.Fprintf(&b, `<rect width="%.1f" height="%d" rx="8" fill="%s" stroke="%s"/>`+"\n", width, height, screenPaper, screenFrame)

	for i, colour := range []string{"#e06c75", "#e5c07b", "#98c379"} {
		fmt.Fprintf(&b, `<circle cx="%d" cy="16" r="5" fill="%s" opacity="0.8"/>`+"\n", 20+i*17, colour)
	}

	fmt.Fprintf(&b, `<text x="%.1f" y="20" fill="#6b7280" font-size="12" text-anchor="middle" font-family="sans-serif">%s</text>`+"\n", width/2, html.EscapeString(title))
	fmt.Fprintf(&b, `<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14" fill="%s" xml:space="preserve">`+"\n", screenInk)

	p := pen{}
	for i, line := range lines {
		p = svgLine(&b, line, titleHeight+margin+i*cellHeight+13, p)
	}

	b.WriteString("</g>\n</svg>\n")

	return b.String()
}

// svgLine draws the pieces of one line, each at its own place, so that no font
// can move a column.
func svgLine(b *strings.Builder, line string, y int, p pen) pen {
	x := 0
	piece := ""
	flush := func() {
		text := strings.TrimRight(piece, " ")
		if lead := len(text) - len(strings.TrimLeft(text, " ")); strings.TrimSpace(text) != "" {
			at := x - width(piece) + lead
			text = text[lead:]
			fmt.Fprintf(b, `<text x="%.1f" y="%d" textLength="%.1f"%s>%s</text>`+"\n",
				margin+float64(at)*cellWidth, y, float64(width(text))*cellWidth, p.attributes(), html.EscapeString(text))
		}

		piece = ""
	}

	for token, cells := range tokens(line) {
		if token[0] == escape {
			flush()

			p = p.set(strings.TrimSuffix(strings.TrimPrefix(token, "\x1b["), "m"))

			continue
		}

		piece += token
		x += cells

		if strings.HasSuffix(piece, "   ") {
			flush()
		}
	}

	flush()

	return p
}
