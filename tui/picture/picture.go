// Package picture draws screens of a terminal as SVG, for the documentation. It
// is used by tests only, which keep the pictures current.
package picture

import (
	"fmt"
	"html"
	"regexp"
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// The looks of a picture: a dark terminal with a calm palette.
const (
	paper       = "#16181d"
	ink         = "#d5d8df"
	frame       = "#2b2f38"
	quiet       = "#6b7280"
	font        = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
	cellWidth   = 8.4
	cellHeight  = 18
	margin      = 14
	titleHeight = 28
	baseline    = 13
)

// colour is the picture's colour for one of ANSI's foreground codes; empty: ink.
func colour(code int) string {
	normal := []string{"#2b2f38", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d5d8df"}
	bright := []string{"#6b7280", "#ff8790", "#b5e08f", "#ffd98a", "#8cc8ff", "#e29cf0", "#7fd4df", "#ffffff"}

	switch {
	case code >= 30 && code <= 37:
		return normal[code-30]
	case code >= 90 && code <= 97:
		return bright[code-90]
	default:
		return ""
	}
}

// SVG draws the screen, lines of text with ANSI's styles, on so many columns. Of
// the styles it knows foreground colours, bold and faint.
func SVG(title, screen string, columns int) string {
	lines := strings.Split(strings.TrimRight(screen, "\n"), "\n")
	width := float64(columns)*cellWidth + 2*margin
	height := len(lines)*cellHeight + 2*margin + titleHeight
	title = html.EscapeString(title)

	var b strings.Builder

	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.1f %d" width="%.1f" height="%d">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", title)
	fmt.Fprintf(&b, `<rect width="%.1f" height="%d" rx="8" fill="%s" stroke="%s"/>`+"\n", width, height, paper, frame)

	for i, light := range []int{31, 33, 32} {
		fmt.Fprintf(&b, `<circle cx="%d" cy="16" r="5" fill="%s" opacity="0.8"/>`+"\n", 20+i*17, colour(light))
	}

	fmt.Fprintf(&b, `<text x="%.1f" y="20" fill="%s" font-size="12" text-anchor="middle" font-family="sans-serif">%s</text>`+"\n", width/2, quiet, title)
	fmt.Fprintf(&b, `<g font-family="%s" font-size="14" fill="%s" xml:space="preserve">`+"\n", font, ink)

	p := pen{}
	for i, line := range lines {
		p = p.write(&b, line, titleHeight+margin+i*cellHeight+baseline)
	}

	b.WriteString("</g>\n</svg>\n")

	return b.String()
}

// pen is the style of a piece of the screen.
type pen struct {
	code        int
	bold, faint bool
}

// pieces finds styles, and texts up to a wide gap: each gets a place of its own,
// so that no font can move a column.
var pieces = regexp.MustCompile("\x1b\\[[0-9;]*m|[^\x1b ]+(?: {1,2}[^\x1b ]+)*| +")

// write draws one line and returns the style at its end.
func (p pen) write(b *strings.Builder, line string, y int) pen {
	x := 0

	for _, piece := range pieces.FindAllString(line, -1) {
		if parameters, ok := strings.CutPrefix(piece, "\x1b["); ok {
			p = p.set(strings.TrimSuffix(parameters, "m"))

			continue
		}

		cells := ansi.StringWidth(piece)
		if strings.TrimSpace(piece) != "" {
			fmt.Fprintf(b, `<text x="%.1f" y="%d" textLength="%.1f"%s>%s</text>`+"\n",
				margin+float64(x)*cellWidth, y, float64(cells)*cellWidth, p.attributes(), html.EscapeString(piece))
		}

		x += cells
	}

	return p
}

// set follows the parameters of one style sequence (ECMA-48, 8.3.117).
func (p pen) set(parameters string) pen {
	for _, parameter := range strings.Split(parameters, ";") {
		switch code, err := strconv.Atoi(parameter); {
		case err != nil || code == 0:
			p = pen{}
		case code == 1:
			p.bold = true
		case code == 2:
			p.faint = true
		case code == 22:
			p.bold, p.faint = false, false
		case code == 39, colour(code) != "":
			p.code = code
		}
	}

	return p
}

func (p pen) attributes() string {
	text := ""
	if c := colour(p.code); c != "" {
		text += ` fill="` + c + `"`
	}

	if p.bold {
		text += ` font-weight="bold"`
	}

	if p.faint {
		text += ` opacity="0.55"`
	}

	return text
}
