package cli

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestGuidesNameWhatThereIs keeps the guides true as far as a program can: every
// command line in them parses, every flag is one of some command, and every link
// leads to a file.
func TestGuidesNameWhatThereIs(t *testing.T) {
	guides, err := filepath.Glob(filepath.Join("..", "docs", "howto", "*.md"))
	if err != nil || len(guides) < 5 {
		t.Fatalf("%d guides, %v", len(guides), err)
	}

	commands := 0

	for _, guide := range guides {
		data, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}

		text := string(data)

		for _, line := range commandLines(text) {
			commands++

			if err := parses(line); err != nil {
				t.Errorf("%s: %s: %v", guide, line, err)
			}
		}

		for _, flag := range regexp.MustCompile("`--([a-z][a-z-]+)[=` ]").FindAllStringSubmatch(text, -1) {
			if !slices.Contains(allFlags(), flag[1]) {
				t.Errorf("%s: no command has the flag --%s", guide, flag[1])
			}
		}

		for _, link := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(guide), link[1])); err != nil {
				t.Errorf("%s: %v", guide, err)
			}
		}
	}

	if commands < 30 {
		t.Errorf("only %d command lines were found", commands)
	}
}

// commandLines are bmctl's, in blocks and between backquotes.
func commandLines(text string) []string {
	var lines []string

	for _, found := range regexp.MustCompile("(?m)^    +(?:\\$ )?(bmctl .*)$|`(bmctl [^`]+)`").FindAllStringSubmatch(text, -1) {
		line, _, _ := strings.Cut(found[1]+found[2], "  #")
		if !regexp.MustCompile(`^bmctl: |COMMAND`).MatchString(line) {
			lines = append(lines, strings.TrimSpace(strings.ReplaceAll(line, "...", "")))
		}
	}

	return lines
}

func parses(line string) error {
	var words []string
	for _, word := range regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`).FindAllString(line, -1) {
		words = append(words, strings.Trim(word, `"'`))
	}

	cmd, rest, err := newApp(nil, io.Discard, io.Discard, nil).root().Find(words[1:])
	if err != nil {
		return err
	}

	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}

	if !cmd.Runnable() || cmd.HasSubCommands() && len(cmd.Flags().Args()) > 0 {
		return usagef("%s is not a command", strings.Join(words, " "))
	}

	return nil
}

func allFlags() []string {
	var names []string

	var collect func(*cobra.Command)

	collect = func(cmd *cobra.Command) {
		for _, set := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
			set.VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
		}

		for _, child := range cmd.Commands() {
			collect(child)
		}
	}

	collect(newApp(nil, io.Discard, io.Discard, nil).root())

	return names
}
