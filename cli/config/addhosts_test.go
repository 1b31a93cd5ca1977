package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bmctl/bmctl/cli/config"
)

func freshHosts() map[string]config.Host {
	return map[string]config.Host{
		"10.0.3.10": {Address: "10.0.3.10", Protocol: "ipmi", ID: "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1"},
		"10.0.3.9":  {Address: "10.0.3.9", Protocol: "redfish", Port: 8443},
	}
}

const freshLines = `"10.0.3.9": {address: "10.0.3.9", protocol: redfish, port: 8443}
"10.0.3.10": {address: "10.0.3.10", protocol: ipmi, id: "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1"}
`

func indented(lines, indent string) string {
	return indent + strings.ReplaceAll(strings.TrimSuffix(lines, "\n"), "\n", "\n"+indent) + "\n"
}

func TestAddHostsKeepsTheRest(t *testing.T) {
	for name, test := range map[string]struct{ old, want string }{
		"no file": {"", "hosts:\n" + indented(freshLines, "  ")},
		"a section": {
			"# mine\nhosts: # here\n    a: {address: a.example} # first\n\n    # the second\n    b:\n      address: b.example\n\n# groups\ngroups: {all: \"a,b\"}\n",
			"# mine\nhosts: # here\n    a: {address: a.example} # first\n\n    # the second\n    b:\n      address: b.example\n" +
				indented(freshLines, "    ") + "\n# groups\ngroups: {all: \"a,b\"}\n",
		},
		"at the end":       {"quiet: true\nhosts:\n  a: {address: a.example}", "quiet: true\nhosts:\n  a: {address: a.example}\n" + indented(freshLines, "  ")},
		"none yet":         {"quiet: true # yes", "quiet: true # yes\nhosts:\n" + indented(freshLines, "  ")},
		"empty, in braces": {"hosts: {} # none\nquiet: true\n", "hosts: # none\n" + indented(freshLines, "  ") + "quiet: true\n"},
		"empty":            {"hosts:\nquiet: true\n", "hosts:\n" + indented(freshLines, "  ") + "quiet: true\n"},
		"null":             {"hosts: null\n", "hosts:\n" + indented(freshLines, "  ")},
		"with line feeds":  {"hosts:\r\n  a: {address: a.example}\r\nquiet: true\r\n", "hosts:\r\n  a: {address: a.example}\r\n" + indented(freshLines, "  ") + "quiet: true\r\n"},
	} {
		path := filepath.Join(t.TempDir(), "deeper", "config.yaml")

		if test.old != "" {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}

			if err := os.WriteFile(path, []byte(test.old), 0o640); err != nil {
				t.Fatal(err)
			}
		}

		if err := config.AddHosts(path, freshHosts()); err != nil {
			t.Errorf("%s: %v", name, err)

			continue
		}

		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}

		if diff := cmp.Diff(test.want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}

		wantMode(t, path, test.old)
		onlyFile(t, path)
	}
}

// wantMode: the mode stays, and a new file is its owner's.
func wantMode(t *testing.T, path, old string) {
	t.Helper()

	want := os.FileMode(0o600)
	if old != "" {
		want = 0o640
	}

	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
		t.Errorf("mode %v, %v; want %v", info.Mode(), err, want)
	}
}

func onlyFile(t *testing.T, path string) {
	t.Helper()

	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("something is left beside the file: %v, %v", entries, err)
	}
}

func TestAddHostsLeavesWhatItDoesNotUnderstand(t *testing.T) {
	for name, old := range map[string]string{
		"in braces":         "hosts: {a: {address: a.example}}\n",
		"braces over lines": "hosts: {\n  a: {address: a.example},\n}\n",
		"there already":     "hosts:\n  10.0.3.9: {address: 10.0.3.9}\n",
		"not a sound file":  "hosts:\n  a: {adress: x}\n",
		"two sections":      "hosts:\n  a: {address: a.example}\nhosts:\n  b: {address: b.example}\n",
	} {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
			t.Fatal(err)
		}

		if err := config.AddHosts(path, freshHosts()); err == nil {
			t.Errorf("%s: no error", name)
		}

		if got, err := os.ReadFile(path); err != nil || string(got) != old {
			t.Errorf("%s: the file is now %q, %v", name, got, err)
		}

		onlyFile(t, path)
	}
}

func TestAddHostsFollowsALink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "real.yaml"), filepath.Join(dir, "link.yaml")

	if err := os.WriteFile(target, []byte("hosts: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}

	if err := config.AddHosts(link, freshHosts()); err != nil {
		t.Fatal(err)
	}

	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info.Mode(), err)
	}

	file, err := config.Load(target, true)
	if err != nil || len(file.Hosts) != 2 {
		t.Errorf("%v, %v", file.Hosts, err)
	}
}
