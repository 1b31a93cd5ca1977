package cli

import (
	"bytes"
	"os"
	"runtime/debug"
	"slices"
	"testing"
)

// Commands that stay collect their garbage as other Go programs do; those that
// end at once do not.
func TestResidentCommands(t *testing.T) {
	const marker = 321

	t.Setenv("GOGC", "") // put back afterwards

	if err := os.Unsetenv("GOGC"); err != nil {
		t.Fatal(err)
	}

	defer debug.SetGCPercent(debug.SetGCPercent(marker))

	none := func() *app {
		return newApp(bytes.NewReader(nil), &bytes.Buffer{}, &bytes.Buffer{}, []string{"HOME=" + t.TempDir()})
	}

	var stay []string

	for i, cmd := range none().root().Commands() {
		a := none()

		if err := a.setup(a.root().Commands()[i]); err != nil {
			t.Errorf("%s: %v", cmd.Name(), err)
		}

		if debug.SetGCPercent(marker) != marker {
			stay = append(stay, cmd.Name())
		}
	}

	if want := []string{"lab", "serve", "tui"}; !slices.Equal(slices.Sorted(slices.Values(stay)), want) {
		t.Errorf("%q stay, want %q", stay, want)
	}
}
