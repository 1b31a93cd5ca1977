package cli_test

import (
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/bmctl/bmctl/cli"
)

func generate(t *testing.T, what string) (dir string) {
	t.Helper()

	dir = filepath.Join(t.TempDir(), what)
	if code := cli.Main([]string{"docs", what, dir}, strings.NewReader(""), io.Discard, os.Stderr, nil); code != 0 {
		t.Fatalf("bmctl docs %s: exit code %d", what, code)
	}

	return dir
}

// TestReferenceIsThatOfTheCommands compares docs/reference with what the commands
// say of themselves.
func TestReferenceIsThatOfTheCommands(t *testing.T) {
	made, kept := generate(t, "markdown"), filepath.Join("..", "docs", "reference")

	pages := filesBelow(t, made)
	if len(pages) < 15 || !slices.Contains(pages, "serve.md") {
		t.Fatalf("only %v", pages)
	}

	if old := filesBelow(t, kept); !slices.Equal(old, pages) {
		t.Errorf("docs/reference has %v, the commands make %v: make docs", old, pages)
	}

	for _, page := range pages {
		want, err := os.ReadFile(filepath.Join(made, page))
		if err != nil {
			t.Fatal(err)
		}

		if got, err := os.ReadFile(filepath.Join(kept, page)); err != nil || string(got) != string(want) {
			t.Errorf("docs/reference/%s is not what the commands say (%v): make docs", page, err)
		}
	}
}

func filesBelow(t *testing.T, dir string) (names []string) {
	t.Helper()

	report(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, relErr := filepath.Rel(dir, path)
			names, err = append(names, name), relErr
		}

		return err
	}))

	return names
}

// TestManPagesSayWhatTheHelpSays looks for what a page of bmctl must have, and for
// what the generator makes of <PLACEHOLDERS>.
func TestManPagesSayWhatTheHelpSays(t *testing.T) {
	dir := filepath.Join(generate(t, "share"), "man", "man1")
	pages := filesBelow(t, dir)

	for _, name := range []string{"bmctl.1.gz", "bmctl-serve.1.gz", "bmctl-machines-bmc-set.1.gz"} {
		if !slices.Contains(pages, name) {
			t.Errorf("there is no page %s", name)
		}
	}

	for page, want := range map[string]string{
		"bmctl-serve.1.gz":  `BMCTL_<FLAG>`,
		"bmctl-accept.1.gz": "refused at the prompt or by a guard",
	} {
		file, err := os.Open(filepath.Join(dir, page))
		if err != nil {
			t.Fatal(err)
		}

		unpacked, err := gzip.NewReader(file)
		if err != nil {
			t.Fatal(err)
		}

		text, err := io.ReadAll(unpacked)
		report(t, err)
		report(t, file.Close())

		for _, want := range []string{want, ".SH NAME", ".SH EXIT STATUS", ".SH OPTIONS"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s has no %q", page, want)
			}
		}
	}
}

// releaseConfig is what the test reads of .goreleaser.yaml.
type releaseConfig struct {
	Before struct {
		Hooks []string `yaml:"hooks"`
	} `yaml:"before"`
	Archives []struct {
		Files []string `yaml:"files"`
	} `yaml:"archives"`
	NFPMs []struct {
		Bindir   string `yaml:"bindir"`
		Contents []struct {
			Src, Dst, Type, Packager string
		} `yaml:"contents"`
	} `yaml:"nfpms"`
}

// TestPackagesHoldWhatThereIs follows every path of the release's configuration to
// a file, those of bin/share to what make share writes there.
func TestPackagesHoldWhatThereIs(t *testing.T) {
	var config releaseConfig

	data, err := os.ReadFile(filepath.Join("..", ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}

	if err := yaml.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}

	if !slices.Contains(config.Before.Hooks, "make share") || len(config.NFPMs) != 1 {
		t.Fatalf("hooks %v, %d packages", config.Before.Hooks, len(config.NFPMs))
	}

	share, packed := generate(t, "share"), []string{config.NFPMs[0].Bindir + "/bmctl"}

	for _, content := range config.NFPMs[0].Contents {
		path := filepath.Join("..", content.Src)
		if made, ok := strings.CutPrefix(content.Src, "bin/share/"); ok {
			path = filepath.Join(share, made)
		}

		if info, err := os.Stat(path); err != nil || info.IsDir() != (content.Type == "tree") {
			t.Errorf("a package wants %s: %v", content.Src, err)
		}

		packed = append(packed, content.Dst)
	}

	for _, name := range filesBelow(t, share) {
		if !slices.ContainsFunc(packed, func(dst string) bool { return strings.HasPrefix("/usr/share/"+name, dst) }) {
			t.Errorf("no package has %s", name)
		}
	}

	for _, name := range config.Archives[0].Files {
		if found, err := filepath.Glob(filepath.Join("..", name)); err != nil || len(found) == 0 {
			t.Errorf("the archive wants %s: %v", name, err)
		}
	}

	unitNeeds(t, packed)
}

// unitNeeds demands that what the unit names is in the package.
func unitNeeds(t *testing.T, packed []string) {
	t.Helper()

	unit, err := os.ReadFile(filepath.Join("..", "docs", "deploy", "bmctl.service"))
	if err != nil {
		t.Fatal(err)
	}

	needs := 0

	for line := range strings.Lines(string(unit)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "EnvironmentFile" && key != "ExecStart" {
			continue
		}

		needs++

		if path, _, _ := strings.Cut(value, " "); !slices.Contains(packed, path) {
			t.Errorf("the unit's %s is not in the package", line)
		}
	}

	if needs != 2 {
		t.Errorf("the unit names %d files, want its binary and its environment", needs)
	}
}

// TestTheUnitIsSound has systemd itself read the unit, and say how much the service
// may do; its scale ends at 10, "unsafe".
func TestTheUnitIsSound(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}

		t.Skip("systemd-analyze is not installed")
	}

	unit, err := os.ReadFile(filepath.Join("..", "docs", "deploy", "bmctl.service"))
	if err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(t.TempDir(), "bmctl.service")
	report(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(unit), "/usr/bin/bmctl", "/bin/true")), 0o600)) // what is not installed is no fault of the unit

	if text, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", path).CombinedOutput(); err != nil || len(text) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, text)
	}

	if text, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", path).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, text)
	}
}
