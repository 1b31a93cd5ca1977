package tui

import (
	"fmt"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// clean makes text from outside harmless: control and format characters, line
// separators and broken UTF-8 become visible escapes such as \x1b. So do the
// characters that make the one before them wider on some terminals and not on
// others: a row must be as wide as we think it is.
func clean(text string) string {
	if harmless(text) {
		return text
	}

	var b strings.Builder

	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)

		switch {
		case r == utf8.RuneError && size == 1, hostile(r) && r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case hostile(r) && r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		case hostile(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}

		text = text[size:]
	}

	return b.String()
}

// harmless is quick for what nearly all text is.
func harmless(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return utf8.ValidString(text) && !strings.ContainsFunc(text, hostile)
		}
	}

	return true
}

func hostile(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Variation_Selector) || r == enclosingKeycap
}

// enclosingKeycap turns a digit into an emoji of two cells.
const enclosingKeycap = '\u20e3'

// width is how many cells the text takes, styles aside. It adds up the
// characters one by one, each at its widest: terminals that join some of them
// into one show the text narrower, never wider.
func width(text string) int {
	cells := 0

	for token, w := range tokens(text) {
		_ = token
		cells += w
	}

	return cells
}

// tokens takes a text apart into its characters with their cells, and the
// styles between them, which have none.
func tokens(text string) iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for len(text) > 0 {
			size, cells := 1, 1

			switch {
			case text[0] == escape:
				size, cells = styleLength(text), 0
			case text[0] >= utf8.RuneSelf:
				size, cells = wideRune(text)
			}

			if !yield(text[:size], cells) {
				return
			}

			text = text[size:]
		}
	}
}

const escape = '\x1b'

// styleLength is the length of the style that the text begins with: ESC [ ... m.
// Our own styles are the only escape sequences there are: clean sees to that.
func styleLength(text string) int {
	if end := strings.IndexByte(text, 'm'); end >= 0 {
		return end + 1
	}

	return len(text)
}

func wideRune(text string) (size, cells int) {
	r, size := utf8.DecodeRuneInString(text)
	if r >= 0x2500 && r < 0x2600 {
		return size, 1 // frames and bars, which we draw most
	}

	if unicode.In(r, unicode.Mn, unicode.Me) {
		return size, 0 // on top of the one before it
	}

	return size, max(ansi.StringWidthWc(text[:size]), ansi.StringWidth(text[:size]))
}

// cut shortens the text to at most w cells, marking that with an ellipsis.
func cut(text string, w int, ellipsis string) string {
	if len(text) <= w || width(text) <= w {
		return text
	}

	room := max(0, w-width(ellipsis))
	if w < width(ellipsis) {
		room, ellipsis = max(0, w), ""
	}

	var b strings.Builder

	marked := false

	for token, cells := range tokens(text) {
		switch {
		case token[0] == escape:
			b.WriteString(token) // also behind the cut: styles must end
		case marked:
		case cells > room:
			b.WriteString(ellipsis)

			marked = true
		default:
			room -= cells
			b.WriteString(token)
		}
	}

	return b.String()
}

// cutLeft is the text from cell x on. A character that lies across becomes
// spaces.
func cutLeft(text string, x int) string {
	var b strings.Builder

	for token, cells := range tokens(text) {
		switch {
		case token[0] == escape || x <= 0:
			b.WriteString(token)
		case cells > x:
			b.WriteString(strings.Repeat(" ", cells-x))

			x = 0
		default:
			x -= cells
		}
	}

	return b.String()
}

// fit makes the text exactly w cells wide.
func fit(text string, w int, ellipsis string) string {
	return pad(cut(text, w, ellipsis), w)
}

// pad fills the text up to w cells.
func pad(text string, w int) string {
	if missing := w - width(text); missing > 0 {
		return text + strings.Repeat(" ", missing)
	}

	return text
}

// padLeft puts the text at the end of w cells.
func padLeft(text string, w int) string {
	return strings.Repeat(" ", max(0, w-width(text))) + text
}

// wrap breaks the text into lines of at most w cells, at spaces where possible.
func wrap(text string, w int) []string {
	if w <= 0 {
		return nil
	}

	return strings.Split(ansi.WrapWc(text, w, ""), "\n")
}

// between puts left and right at the two ends of a line of w cells; what does
// not fit is cut from the left one.
func between(left, right string, w int) string {
	room := w - width(right)
	if room <= 0 {
		return cut(right, w, "")
	}

	return fit(left, room, "") + right
}
