package tui

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"
)

func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"r1n01":           "r1n01",
		"":                "",
		"Zürich 日本":       "Zürich 日本",
		"e\u0301":         "e\u0301",
		"\x1b[2Jx":        `\x1b[2Jx`,
		"a\nb\tc":         `a\x0ab\x09c`,
		"\u009b31m":       `\u009b31m`,
		"\u202eabc":       `\u202eabc`,
		"\xff":            `\xff`,
		"\u2028":          `\u2028`,
		"❤\ufe0f":         `❤\ufe0f`,
		"1\u20e3":         `1\u20e3`,
		"\U000e0041":      `\U000e0041`,
		"a\u200bb\u200dc": `a\u200bb\u200dc`,
	} {
		if got := clean(text); got != want {
			t.Errorf("clean(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestFit(t *testing.T) {
	for _, test := range []struct {
		text string
		w    int
		want string
	}{
		{"abc", 5, "abc  "}, {"abcdef", 4, "abc…"}, {"abc", 3, "abc"}, {"abc", 0, ""}, {"abc", -1, ""}, {"abc", 1, "…"},
		{"日本語", 4, "日… "}, {"日本語", 6, "日本語"}, {"日", 1, "…"}, {"", 2, "  "},
	} {
		if got := fit(test.text, test.w, "…"); got != test.want {
			t.Errorf("fit(%q, %d) = %q, want %q", test.text, test.w, got, test.want)
		}
	}
}

// TestCleanTextIsHarmlessAndAsWideAsItSays holds for any text at all.
func TestCleanTextIsHarmlessAndAsWideAsItSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := clean(string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text"))
		w := rapid.IntRange(0, 40).Draw(t, "w")

		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
			t.Fatalf("%q is not harmless", text)
		}

		got := fit("x"+text, w+1, "…")
		if width(got) != w+1 || ansi.StringWidthWc(got) > w+1 || ansi.StringWidth(got) > w+1 {
			t.Fatalf("fit(%q, %d) = %q has %d or %d cells", "x"+text, w+1, got, ansi.StringWidthWc(got), ansi.StringWidth(got))
		}

		if clean(text) != text {
			t.Fatalf("%q changes when it is cleaned again", text)
		}
	})
}

func TestNaturalOrder(t *testing.T) {
	names := []string{"r1n2", "r1n9", "r1n10", "r1n11", "r2n1", "r10n1", "s"}
	for i := 1; i < len(names); i++ {
		if natural(names[i-1]) >= natural(names[i]) {
			t.Errorf("%s does not stand before %s", names[i-1], names[i])
		}
	}
}
