package out

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes text from outside harmless for a terminal: control characters,
// escape sequences, direction overrides, line separators and broken UTF-8 become
// visible escapes like \x1b or \u202e. Text without them is returned unchanged.
//
// A host name, a BMC's model or a reason may be chosen by whoever owns the
// machine; printed raw it could move the cursor, hide a row or retitle the
// window.
func Clean(text string) string {
	if !strings.ContainsFunc(text, hostile) && utf8.ValidString(text) {
		return text
	}

	var clean strings.Builder

	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)

		switch {
		case r == utf8.RuneError && size == 1, hostile(r) && r < 0x80:
			fmt.Fprintf(&clean, `\x%02x`, text[0])
		case hostile(r) && r > 0xffff:
			fmt.Fprintf(&clean, `\U%08x`, r)
		case hostile(r):
			fmt.Fprintf(&clean, `\u%04x`, r)
		default:
			clean.WriteRune(r)
		}

		text = text[size:]
	}

	return clean.String()
}

// CleanLines is Clean for text whose line breaks are its own.
func CleanLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = Clean(lines[i])
	}

	return strings.Join(lines, "\n")
}

// hostile is every control (C0, DEL, C1) and format character (direction
// overrides, zero-width, tags), and the separators that end a line.
func hostile(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}

// escapeJSON writes the hostile characters of an encoded document as \u escapes.
// encoding/json does so below U+0020 only; in a document they stand nowhere but
// inside strings, where the escape means the same.
func escapeJSON(document []byte) []byte {
	text := string(document)

	var escaped strings.Builder

	for _, r := range text {
		switch {
		case r == '\n' || !hostile(r):
			escaped.WriteRune(r)
		case r > 0xffff:
			high, low := surrogates(r)
			fmt.Fprintf(&escaped, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&escaped, `\u%04x`, r)
		}
	}

	return []byte(escaped.String())
}

func surrogates(r rune) (high, low rune) {
	r -= 0x10000

	return 0xd800 + r>>10, 0xdc00 + r&0x3ff
}
