package tui

import (
	"fmt"
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
// characters one by one, as terminals do that know no grapheme clusters: on the
// others the text is never wider.
func width(text string) int {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return ansi.StringWidthWc(text)
		}
	}

	return len(text)
}

// cut shortens the text to at most w cells, marking that with an ellipsis.
func cut(text string, w int, ellipsis string) string {
	switch {
	case w <= 0:
		return ""
	case width(text) <= w:
		return text
	case w <= width(ellipsis):
		return ansi.TruncateWc(text, w, "")
	default:
		return ansi.TruncateWc(text, w, ellipsis)
	}
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
