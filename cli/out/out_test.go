package out_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bmctl/bmctl/cli/out"
)

type document struct {
	Kind string            `json:"kind"`
	At   time.Time         `json:"at,omitzero"`
	Tags map[string]string `json:"tags"`
	Name string            `json:"name"`
	N    float64           `json:"n"`
}

func view(name string) out.View {
	return out.View{
		Columns:  []out.Column{{Head: "NAME"}, {Head: "STATUS"}, {Head: "REASON", Wide: true}, {Head: "AGE"}},
		Rows:     [][]out.Cell{append(out.Text(name), out.Cell{Text: "error", Style: out.Bad}, out.Cell{Text: "no answer"}, out.Cell{Text: "2h"}), out.Text("日本", "ok", "", "")},
		Document: document{Kind: "Test", At: time.Date(2026, 9, 1, 2, 3, 4, 5e8, time.UTC), Tags: map[string]string{"b": "2", "a": "1"}, Name: name, N: 0.031},
		Names:    []string{name, "other"},
	}
}

func render(t *testing.T, printer out.Printer, v out.View) string {
	t.Helper()

	var buffer bytes.Buffer

	printer.W = &buffer
	if err := printer.Print(v); err != nil {
		t.Fatal(err)
	}

	return buffer.String()
}

func TestFormats(t *testing.T) {
	for name, test := range map[string]struct {
		printer out.Printer
		want    string
	}{
		"table":      {out.Printer{Format: out.Table}, "NAME   STATUS  AGE\nr1n01  error   2h\n日本   ok\n"},
		"wide":       {out.Printer{Format: out.Wide}, "NAME   STATUS  REASON     AGE\nr1n01  error   no answer  2h\n日本   ok\n"},
		"no headers": {out.Printer{NoHeaders: true}, "r1n01  error  2h\n日本   ok\n"},
		"colour":     {out.Printer{Color: true, NoHeaders: true}, "r1n01  \x1b[31merror\x1b[0m  2h\n日本   ok\n"},
		"json": {out.Printer{Format: out.JSON}, `{
  "kind": "Test",
  "at": "2026-09-01T02:03:04.5Z",
  "tags": {
    "a": "1",
    "b": "2"
  },
  "name": "r1n01",
  "n": 0.031
}
`},
		"yaml": {out.Printer{Format: out.YAML}, "kind: Test\nat: \"2026-09-01T02:03:04.5Z\"\ntags:\n  a: \"1\"\n  b: \"2\"\nname: r1n01\n\"n\": 0.031\n"},
		"name": {out.Printer{Format: out.Name}, "r1n01\nother\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, render(t, test.printer, view("r1n01"))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNothingHostileReachesTheTerminal(t *testing.T) {
	text := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.RuneFrom([]rune("\x00\a\b\n\r\t\x1b[]m\x7f\u0085\u009b\u200b\u202e\u2028\u2029\ufeff\U000e0041"))))

	rapid.Check(t, func(t *rapid.T) {
		name := text.Draw(t, "name") + string(rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "bytes"))

		for _, format := range out.Formats() {
			var buffer bytes.Buffer
			if err := (out.Printer{W: &buffer, Format: out.Format(format)}).Print(view(name)); err != nil {
				t.Fatal(err)
			}

			for _, r := range buffer.String() {
				if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029') {
					t.Fatalf("-o %s of %q has %U", format, name, r)
				}
			}

			if lines := strings.Count(buffer.String(), "\n"); format == "table" && lines != 3 {
				t.Fatalf("-o table of %q has %d lines", name, lines)
			}
		}
	})
}

func TestDocumentsKeepTheirText(t *testing.T) {
	text := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.RuneFrom([]rune("\x00\n\r\t\x1b[]m\x7f\u0085\u009b\u202e\u2028\ufeff\U000e0041'\"\\:#- "))))

	rapid.Check(t, func(t *rapid.T) {
		name := text.Draw(t, "name")

		var buffer bytes.Buffer
		if err := (out.Printer{W: &buffer, Format: out.JSON}).Print(view(name)); err != nil {
			t.Fatal(err)
		}

		var decoded document
		if err := json.Unmarshal(buffer.Bytes(), &decoded); err != nil || decoded.Name != name {
			t.Fatalf("%q came back as %q, %v", name, decoded.Name, err)
		}

		buffer.Reset()

		if err := (out.Printer{W: &buffer, Format: out.JSON}).Line(view(name).Document); err != nil {
			t.Fatal(err)
		}

		if strings.Count(buffer.String(), "\n") != 1 {
			t.Fatalf("%q is not one line", buffer.String())
		}
	})
}

func TestYAMLReadsBack(t *testing.T) {
	for _, name := range []string{"plain", "a: b", "- x", "#no", "true", "0x1f", "quote\"'", "ünï", "", " lead", "two\nlines", "null"} {
		var decoded document

		text := render(t, out.Printer{Format: out.YAML}, view(name))
		if err := yaml.Unmarshal([]byte(text), &decoded); err != nil || decoded.Name != name {
			t.Errorf("%q came back as %q, %v from\n%s", name, decoded.Name, err, text)
		}
	}
}

func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"plain ü 日本":              "plain ü 日本",
		"\x1b]0;owned\a\x1b[2Jr1": `\x1b]0;owned\x07\x1b[2Jr1`,
		"a\nb\r\tc":               `a\x0ab\x0d\x09c`,
		"\u009b31m":               `\u009b31m`,
		"abc\u202edef":            `abc\u202edef`,
		"\xff\xfe":                `\xff\xfe`,
		"\U000e0041":              `\U000e0041`,
	} {
		if got := out.Clean(text); got != want {
			t.Errorf("Clean(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestUseColor(t *testing.T) {
	for _, test := range []struct {
		when     string
		terminal bool
		noColor  string
		term     string
		want     bool
	}{
		{"auto", true, "", "xterm", true},
		{"auto", false, "", "xterm", false},
		{"auto", true, "1", "xterm", false},
		{"auto", true, "", "dumb", false},
		{"always", false, "1", "dumb", true},
		{"never", true, "", "xterm", false},
	} {
		env := map[string]string{"NO_COLOR": test.noColor, "TERM": test.term}
		if got := out.UseColor(test.when, test.terminal, func(name string) string { return env[name] }); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 8 * time.Second: "8s", 59 * time.Second: "59s", time.Minute: "1m", 59*time.Minute + 59*time.Second: "59m",
		time.Hour: "1h", 47 * time.Hour: "47h", 48 * time.Hour: "2d", 12 * 24 * time.Hour: "12d",
	} {
		if got := out.Age(d); got != want {
			t.Errorf("Age(%v) = %s, want %s", d, got, want)
		}
	}
}

type broken struct{ writes int }

func (b *broken) Write([]byte) (int, error) {
	b.writes++

	return 0, errors.New("closed pipe")
}

func TestAReaderThatWentAwayIsTold(t *testing.T) {
	for _, format := range out.Formats() {
		writer := &broken{}
		if err := (out.Printer{W: writer, Format: out.Format(format)}).Print(view("a")); err == nil || writer.writes != 1 {
			t.Errorf("-o %s: %v after %d writes, want the error of the only one", format, err, writer.writes)
		}
	}
}

func TestFormatRefusesOthers(t *testing.T) {
	format := out.Table
	if err := format.Set("xml"); err == nil || format != out.Table {
		t.Errorf("xml: %v, %v", err, format)
	}
}
