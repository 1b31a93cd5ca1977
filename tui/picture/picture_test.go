package picture

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestSVG(t *testing.T) {
	drawn := SVG("a <title>", " \x1b[1mbold\x1b[0m  \x1b[32;2mgreen & faint\x1b[0m   far\n\x1b[91m日本\x1b[39m  x\n", 40)

	for _, text := range []string{
		"<title>a &lt;title&gt;</title>",
		`<text x="22.4" y="55" textLength="33.6" font-weight="bold">bold</text>`,
		`<text x="72.8" y="55" textLength="109.2" fill="#98c379" opacity="0.55">green &amp; faint</text>`,
		`<text x="207.2" y="55" textLength="25.2">far</text>`,
		`<text x="14.0" y="73" textLength="33.6" fill="#ff8790">日本</text>`,
		`<text x="64.4" y="73" textLength="8.4">x</text>`,
	} {
		if !strings.Contains(drawn, text) {
			t.Errorf("no %s in\n%s", text, drawn)
		}
	}

	for decoder := xml.NewDecoder(strings.NewReader(drawn)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("not well formed: %v\n%s", err, drawn)
		}
	}
}
