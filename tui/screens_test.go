package tui

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/bmctl/bmctl/tui/picture"
)

// pictured are the scenes with a picture in the documentation.
func pictured() map[string]string {
	return map[string]string{
		"fleet-120x30": "bmctl tui", "boot-120x30": "bmctl tui: a boot, step by step", "details-120x30": "bmctl tui: all that is known of a machine",
		"cycle-80x24": "bmctl tui: before power is cut", "accept-80x24": "bmctl tui: before disks are erased", "omni-away-80x24": "bmctl tui: Omni does not answer",
	}
}

// TestScreens keeps the pictures of docs/tui current.
func TestScreens(t *testing.T) {
	drawn := 0

	for _, c := range scenes() {
		title, ok := pictured()[c.file("")]
		if !ok {
			continue
		}

		drawn++

		compare(t, filepath.Join("..", "docs", "tui", c.file(".svg")), picture.SVG(title, c.play(Options{}).View(), c.w))
	}

	if drawn != len(pictured()) {
		t.Errorf("%d of %d pictures have a scene", drawn, len(pictured()))
	}
}

// TestKeysPage keeps the page of the keys current.
func TestKeysPage(t *testing.T) {
	var page strings.Builder

	page.WriteString("# Keys of `bmctl tui`\n\nThe same list is behind `?`. A key that cannot be used is faint, and pressing it says why.\n")

	for _, s := range newKeyMap().sections() {
		page.WriteString("\n## " + s.title + "\n\n| Key | What it does |\n|---|---|\n")

		for _, k := range s.keys {
			page.WriteString("| `" + k.Help().Key + "` | " + strings.ReplaceAll(k.Help().Desc, "|", ", ") + " |\n")
		}
	}

	page.WriteString("\nIn a confirmation `enter` presses the button in focus, which is Cancel; `tab` goes to the other one, and `y` is a shortcut to it. " +
		"Accepting, and stopping more than " + itoa(typeFrom-1) + " machines, wants the text typed that is shown.\n")
	compare(t, filepath.Join("..", "docs", "tui", "keys.md"), page.String())
}
