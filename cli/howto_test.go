package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/cli/config"
)

// TestGuidesNameWhatThereIs keeps the guides true as far as a program can: every
// command line in them parses, every flag is one of some command, and every link
// leads to a file.
func TestGuidesNameWhatThereIs(t *testing.T) {
	guides, err := filepath.Glob(filepath.Join("..", "docs", "howto", "*"))
	if err != nil || len(guides) < 5 {
		t.Fatalf("%d guides, %v", len(guides), err)
	}

	commands, flags := 0, allFlags()

	for _, guide := range append(guides, filepath.Join("..", "README.md"), filepath.Join("..", "docs", "errors.md"), filepath.Join("..", "docs", "deploy", "serve.env"), filepath.Join("..", "docs", "deploy", "kubernetes.yaml")) {
		data, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}

		text := string(data)

		typed, named := commandLines(text)
		commands += len(typed) + len(named)

		for _, line := range typed {
			if err := parses(line, true); err != nil {
				t.Errorf("%s: %s: %v", guide, line, err)
			}
		}

		for _, line := range named {
			if err := parses(line, false); err != nil {
				t.Errorf("%s: %s: %v", guide, line, err)
			}
		}

		for _, flag := range regexp.MustCompile("`--([a-z][a-z-]+)[=` ]").FindAllStringSubmatch(text, -1) {
			if !slices.Contains(flags, flag[1]) {
				t.Errorf("%s: no command has the flag --%s", guide, flag[1])
			}
		}

		for _, name := range regexp.MustCompile("BMCTL_[A-Z_]+[A-Z]").FindAllString(text, -1) {
			if !slices.ContainsFunc(flags, func(flag string) bool { return config.EnvName(flag) == name }) && !slices.Contains(otherVariables(), name) {
				t.Errorf("%s: nothing reads %s", guide, name)
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

// otherVariables are what the guides name besides the variables of flags.
func otherVariables() []string {
	return []string{
		"BMCTL_FLAG", "BMCTL_BMC_PASSWORD", // read by the commands that log in to BMCs
		"BMCTL_LAB_DHCP", "BMCTL_LAB_PROXYDHCP", "BMCTL_LAB_TFTP", "BMCTL_LAB_HTTP", // of bmctl lab env
	}
}

// commandLines are bmctl's: typed ones stand in blocks, named ones between
// backquotes.
func commandLines(text string) (typed, named []string) {
	text = strings.ReplaceAll(text, "\\\n", " ")

	for _, found := range regexp.MustCompile("(?m)^(?: {4,}(?:\\$ )?|\\$ )(?:sudo (?:-\\S+ +)*)?(bmctl .*)$|`(bmctl [^`]+)`").FindAllStringSubmatch(text, -1) {
		line, _, _ := strings.Cut(found[1]+found[2], "  #")
		line, _, _ = strings.Cut(line, " | ")
		line = strings.TrimSpace(strings.ReplaceAll(line, "...", ""))

		switch {
		case strings.HasPrefix(line, "bmctl: "), strings.Contains(line, "COMMAND"):
		case found[1] != "":
			typed = append(typed, line)
		default:
			named = append(named, line)
		}
	}

	return typed, named
}

// parses has the command line parsed, and its arguments checked; a command that is
// only named may lack them.
func parses(line string, complete bool) error {
	var words []string
	for _, word := range regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`).FindAllString(line, -1) {
		words = append(words, strings.Trim(word, `"'`))
	}

	cmd, rest, err := newApp(nil, io.Discard, io.Discard, nil).root().Find(words[1:])
	if err != nil {
		return err
	}

	if err := cmd.ParseFlags(rest); errors.Is(err, pflag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}

	args := cmd.Flags().Args()
	if !cmd.Runnable() || cmd.HasSubCommands() && len(args) > 0 {
		return usagef("%s is not a command", strings.Join(words, " "))
	}

	if cmd.Args != nil && (complete || len(args) > 0) {
		return cmd.Args(cmd, args)
	}

	return nil
}

func allFlags() []string {
	var names []string

	var collect func(*cobra.Command)

	collect = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()

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
