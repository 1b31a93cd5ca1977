package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/cli/config"
)

const inventory = `# rack one
hosts:
  r1n01: {address: 10.0.3.1, id: 4C4C4544-0042-3510-8052-B4C04F4E4D31, pin: "sha256:9f2c00000000000000000000000000000000000000000000000000000000beef", labels: {rack: r1}}
  r1n02:
    address: fd00::2
    protocol: ipmi
    port: 1623
    credentials: old
groups:
  rack1: "r1n[01-02]"
  all: "@rack1,spare"
credentials:
  default: {username: admin, password-file: /run/secrets/bmc}
  old: {username: root, password-command: [pass, show, bmc/%h]}
machines:
  - {match: {serial: A1234567}, boot-from-disk-method: ipxe-sanboot}
serve:
  id: rack-metal
  min-reboot-interval: 5m
  api-port: 0050042
  machine-labels: [rack=r1, "note=a,b"]
  tls-enabled: yes
output: wide
`

func TestParse(t *testing.T) {
	got, err := config.Parse("c.yaml", []byte(inventory))
	if err != nil {
		t.Fatal(err)
	}

	want := config.File{
		Path: "c.yaml",
		Hosts: map[string]config.Host{
			"r1n01": {
				Address: "10.0.3.1", ID: "4C4C4544-0042-3510-8052-B4C04F4E4D31",
				Pin: "sha256:9f2c00000000000000000000000000000000000000000000000000000000beef", Labels: map[string]string{"rack": "r1"},
			},
			"r1n02": {Address: "fd00::2", Protocol: "ipmi", Port: 1623, Credentials: "old"},
		},
		Groups: map[string]string{"rack1": "r1n[01-02]", "all": "@rack1,spare"},
		Credentials: map[string]config.Credential{
			"default": {Username: "admin", PasswordFile: "/run/secrets/bmc"},
			"old":     {Username: "root", PasswordCommand: []string{"pass", "show", "bmc/%h"}},
		},
		Machines: []config.Machine{{Match: config.Match{Serial: "A1234567"}, BootFromDiskMethod: "ipxe-sanboot"}},
		Serve: map[string]config.Value{
			"id":                  {Text: "rack-metal", Line: 18, Column: 3},
			"min-reboot-interval": {Text: "5m", Line: 19, Column: 3},
			"api-port":            {Text: "0050042", Line: 20, Column: 3},
			"machine-labels":      {Text: `rack=r1,"note=a,b"`, Line: 21, Column: 3},
			"tls-enabled":         {Text: "yes", Line: 22, Column: 3},
		},
		Settings: map[string]config.Value{"output": {Text: "wide", Line: 23, Column: 1}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	names, err := got.Expand([]string{"@all", "^r1n01"})
	if diff := cmp.Diff([]string{"r1n02", "spare"}, names); diff != "" || err != nil {
		t.Errorf("@all without r1n01: %v\n%s", err, diff)
	}

	if diff := cmp.Diff(map[string]string{"4c4c4544-0042-3510-8052-b4c04f4e4d31": "r1n01"}, got.NamesByID()); diff != "" {
		t.Error(diff)
	}

	if diff := cmp.Diff(map[string]string{"10.0.3.1": "r1n01", "fd00::2": "r1n02"}, got.NamesByAddress()); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyFilesAreEmpty(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "hosts:\ngroups:\n", "{}\n"} {
		if _, err := config.Parse("c.yaml", []byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestEveryProblemHasItsPlace(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"unknown section":     {"hosts: {}\nhots: {}\n", `c.yaml:2:1: unknown section "hots"`},
		"unknown fields":      {"hosts:\n  a: {adress: x}\n  b:\n    address: y\n    prot: 1\n", "c.yaml:2:7: unknown field \"adress\"\nc.yaml:5:5: unknown field \"prot\""},
		"wrong type":          {"hosts:\n  a: {address: b, port: many}\n", "c.yaml:2:25: expected int, found string"},
		"list for a map":      {"hosts: [a, b]\n", "c.yaml:1:8: sequence was used where mapping is expected"},
		"scalar at the top":   {"hello\n", "c.yaml:1:1: expected a mapping with hosts, groups, credentials, machines and serve"},
		"not YAML":            {"hosts:\n  a: {address: x\n", "c.yaml:2:6: could not find flow mapping end token '}'"},
		"tab":                 {"hosts:\n\ta: {}\n", "c.yaml:2:1: found character '\t' that cannot start any token"},
		"twice":               {"groups: {a: b}\ngroups: {c: d}\n", `c.yaml:2:1: mapping key "groups" already defined at [1:1]`},
		"two documents":       {"hosts: {}\n---\ngroups: {}\n", "c.yaml:3:1: a second document: the configuration is one"},
		"serve is a list":     {"serve: [a]\n", "c.yaml:1:8: serve: expected a mapping of flags without dashes"},
		"serve has a map":     {"serve:\n  id: {a: b}\n", "c.yaml:2:3: serve: id: expected one value or a list of them"},
		"no address":          {"hosts:\n  a: {protocol: ipmi}\n", `c.yaml:2:6: host a: "" is not an address`},
		"group syntax":        {"groups:\n  g: r1n[9-1]\n", `c.yaml:2:6: group g: bad host list "r1n[9-1]": range [9-1]: its end is before its start`},
		"group loop":          {"groups:\n  g: '@g'\n", "c.yaml:2:6: group g: bad group @g: it contains itself"},
		"credentials":         {"hosts:\n  a: {address: x, credentials: nope}\n", `c.yaml:2:32: host a: there are no credentials "nope"`},
		"password in file":    {"credentials:\n  d: {username: a, password: b}\n", `c.yaml:2:20: unknown field "password"`},
		"two password places": {"credentials:\n  d: {password-file: a, credential: b}\n", "c.yaml:2:6: credentials d: give exactly one of password-file, password-command and credential"},
		"two matches": {"machines:\n  - {match: {serial: a, mac: 'zz'}, boot-from-disk-method: floppy}\n", `c.yaml:2:5: machines[0]: boot-from-disk-method "floppy": want ipxe-exit, http-404, ipxe-sanboot
c.yaml:2:5: machines[0]: match: "zz" is not a MAC address
c.yaml:2:5: machines[0]: match: give exactly one of id, serial and mac`},
		"host": {"hosts:\n  'a b':\n    address: 'x y'\n    protocol: telnet\n    port: 70000\n    id: '1'\n    pin: md5\n", `c.yaml:3:5: host a b: the name has characters that a host list cannot hold
c.yaml:3:14: host a b: "x y" is not an address
c.yaml:4:15: host a b: protocol "telnet": want auto, redfish or ipmi
c.yaml:5:11: host a b: 70000 is not a port
c.yaml:6:9: host a b: "1" is not a UUID
c.yaml:7:10: host a b: "md5": want sha256: and 64 hexadecimal digits`},
		"same id": {"hosts:\n  a: {address: x, id: 4c4c4544-0042-3510-8052-b4c04f4e4d31}\n  b: {address: y, id: 4C4C4544-0042-3510-8052-b4c04f4e4d31}\n", "c.yaml:3:23: host b: a has the same id"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("c.yaml", []byte(test.text))

			var problems config.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("error %v is no Problems", err)
			}

			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.yaml")

	if file, err := config.Load(missing, false); err != nil || file.Path != "" {
		t.Errorf("a default file that is missing: %v, %v", file, err)
	}

	for path, want := range map[string]string{missing: "none.yaml: no such file", dir: "is a directory"} {
		if _, err := config.Load(path, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%s): %v, want %q", path, err, want)
		}
	}
}

func TestPath(t *testing.T) {
	home := t.TempDir()

	env := func(vars map[string]string) func(string) string {
		return func(name string) string { return vars[name] }
	}
	check := func(vars map[string]string, want string, wantGiven bool) {
		t.Helper()

		if path, given := config.Path(env(vars)); path != want || given != wantGiven {
			t.Errorf("%v: %s, %v; want %s, %v", vars, path, given, want, wantGiven)
		}
	}

	own := filepath.Join(home, ".config", "bmctl", "config.yaml")
	xdg := filepath.Join(home, "xdg")

	check(map[string]string{"BMCTL_CONFIG": "/x", "HOME": home}, "/x", true)
	check(map[string]string{"HOME": home}, own, false)
	check(map[string]string{"HOME": home, "XDG_CONFIG_HOME": xdg}, filepath.Join(xdg, "bmctl", "config.yaml"), false)
	check(map[string]string{"HOME": home, "XDG_CONFIG_HOME": "relative"}, own, false)
	check(nil, "/etc/bmctl/config.yaml", false)
}

func flags() (*pflag.FlagSet, map[string]any) {
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)

	return set, map[string]any{
		"id": set.String("id", "bare-metal", ""), "api-port": set.Int("api-port", 50042, ""),
		"interval": set.Duration("interval", time.Minute, ""), "labels": set.StringSlice("labels", nil, ""),
		"dry": set.Bool("dry", false, ""), "state-dir": set.String("state-dir", "/var/lib/bmctl", ""),
	}
}

func TestPrecedenceAndOrigin(t *testing.T) {
	set, values := flags()
	if err := set.Parse([]string{"--id", "from-flag"}); err != nil {
		t.Fatal(err)
	}

	env := map[string]string{"BMCTL_ID": "from-env", "BMCTL_API_PORT": "2", "BMCTL_DRY": "true", "STATE_DIRECTORY": "/run/state", "BMCTL_INTERVAL": ""}
	origins, problems := config.Resolve(set, config.Source{
		Env:      func(name string) string { return env[name] },
		Fallback: map[string]string{"state-dir": "STATE_DIRECTORY", "id": "OTHER_ID"},
		Path:     "/etc/c.yaml",
		Values: map[string]config.Value{
			"id": {Text: "from-file", Line: 1, Column: 1}, "api-port": {Text: "3", Line: 2, Column: 1},
			"interval": {Text: "5m", Line: 3, Column: 3}, "labels": {Text: `a,"b,c"`, Line: 4, Column: 3},
		},
	})

	if len(problems) > 0 {
		t.Fatal(problems)
	}

	got := map[string]string{}
	for name := range values {
		got[name] = set.Lookup(name).Value.String() + " | " + origins[name]
	}

	want := map[string]string{
		"id": "from-flag | flag", "api-port": "2 | env BMCTL_API_PORT", "interval": "5m0s | /etc/c.yaml:3:3",
		"labels": `[a,"b,c"] | /etc/c.yaml:4:3`, "dry": "true | env BMCTL_DRY", "state-dir": "/run/state | env STATE_DIRECTORY",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	if !origins.Given("state-dir") || origins.Given("nothing") {
		t.Error("Given: want true for a value from the environment, false for a default")
	}
}

func TestResolveTellsAllProblems(t *testing.T) {
	set, _ := flags()
	env := map[string]string{"BMCTL_API_PORT": "many"}

	_, problems := config.Resolve(set, config.Source{
		Env: func(name string) string { return env[name] }, Path: "c.yaml",
		Values: map[string]config.Value{"interval": {Text: "soon", Line: 3, Column: 3}, "idd": {Text: "x", Line: 2, Column: 3}},
	})

	want := `BMCTL_API_PORT="many": strconv.ParseInt: parsing "many": invalid syntax
c.yaml:2:3: unknown key "idd"
c.yaml:3:3: interval: "soon": time: invalid duration "soon"`
	if diff := cmp.Diff(want, problems.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTemplateIsSound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "config.yaml")
	if err := config.Init(path); err != nil {
		t.Fatal(err)
	}

	if _, err := config.Load(path, true); err != nil {
		t.Error(err)
	}

	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info, err)
	}

	if err := config.Init(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("over an existing file: %v, want ErrExist", err)
	}

	uncommented := strings.NewReplacer("# ", "", "#", "").Replace(config.Template[strings.Index(config.Template, "# hosts:"):])
	if _, err := config.Parse("template", []byte(uncommented)); err != nil {
		t.Errorf("the template with its examples uncommented: %v\n%s", err, uncommented)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(inventory)
	f.Add("hosts: {a: &x {address: b}, c: *x}\n")
	f.Add("serve: {<<: {a: b}}\n")
	f.Add("? [a]\n: b\n")

	f.Fuzz(func(t *testing.T, text string) {
		_, err := config.Parse("c.yaml", []byte(text))

		var problems config.Problems
		if err != nil && (!errors.As(err, &problems) || len(problems) == 0) {
			t.Errorf("%q: %v is no list of problems", text, err)
		}
	})
}
