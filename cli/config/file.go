// Package config reads bmctl's configuration: one strict YAML file, the
// environment and the flags, where each value knows the place it came from.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFile bounds what is read as configuration: an inventory of 100,000 hosts.
const maxFile = 64 << 20

// File is a configuration file that was read and found sound.
type File struct {
	// Path is empty when there is no file.
	Path string
	// Hosts are the inventory, by name.
	Hosts map[string]Host
	// Groups are host list expressions (package power/hosts), by name without @.
	Groups map[string]string
	// Credentials are how BMC passwords are found, by name.
	Credentials map[string]Credential
	// Machines are exceptions for machines that serve decides on.
	Machines []Machine
	// Settings are the global flags' values at the top level, by flag name.
	Settings map[string]Value
	// Serve are the values of serve's flags, by flag name.
	Serve map[string]Value
}

// Host is a machine of the inventory, by its BMC.
type Host struct {
	Address     string            `yaml:"address"`     // of the BMC: IP address or host name
	Protocol    string            `yaml:"protocol"`    // auto (default), redfish or ipmi
	Port        int               `yaml:"port"`        // 0: the protocol's own
	ID          string            `yaml:"id"`          // SMBIOS UUID, Omni's machine id
	Pin         string            `yaml:"pin"`         // sha256:<hex> of the BMC's certificate
	Credentials string            `yaml:"credentials"` // name of an entry; empty: default
	Labels      map[string]string `yaml:"labels"`      // for --selector
}

// Credential says whom to log in as and where the password is. Exactly one of
// the three places is given; the file never holds the password itself.
type Credential struct {
	Username        string   `yaml:"username"`
	PasswordFile    string   `yaml:"password-file"`
	PasswordCommand []string `yaml:"password-command"` // argv, no shell; %h is the host
	Credential      string   `yaml:"credential"`       // systemd LoadCredential= name
}

// Machine is an exception for the machine that Match finds.
type Machine struct {
	Match              Match  `yaml:"match"`
	BootFromDiskMethod string `yaml:"boot-from-disk-method"`
}

// Match finds a machine; exactly one field is given.
type Match struct {
	ID     string `yaml:"id"`
	Serial string `yaml:"serial"`
	MAC    string `yaml:"mac"`
}

// Value is a flag's value as it stands in the file. A list becomes its items
// separated by commas.
type Value struct {
	Text         string
	Line, Column int
}

// Problem is one thing wrong with the configuration.
type Problem struct {
	// Path is the file; empty when the problem is in the environment.
	Path string
	// Line and Column start at 1; 0 is unknown.
	Line, Column int
	Text         string
}

// String returns "path:line:column: text".
func (p Problem) String() string {
	switch {
	case p.Path == "":
		return p.Text
	case p.Line == 0:
		return p.Path + ": " + p.Text
	default:
		return fmt.Sprintf("%s:%d:%d: %s", p.Path, p.Line, p.Column, p.Text)
	}
}

// Problems are all things wrong, in the order of the file.
type Problems []Problem

// Error returns one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}

	return strings.Join(lines, "\n")
}

func (p Problems) sort() {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Text, b.Text))
	})
}

// Path returns the file that is used when no flag names one: $BMCTL_CONFIG is
// named too, so given is true and the file must exist; otherwise the first of
// the person's and the system's that exists, or the person's.
func Path(env func(string) string) (path string, given bool) {
	if path := env("BMCTL_CONFIG"); path != "" {
		return path, true
	}

	own := ownPath(env)
	for _, candidate := range []string{own, systemPath} {
		if candidate == "" {
			continue
		}

		if _, err := os.Stat(candidate); !errors.Is(err, os.ErrNotExist) {
			return candidate, false
		}
	}

	return cmp.Or(own, systemPath), false
}

const systemPath = "/etc/bmctl/config.yaml"

// ownPath follows the XDG base directory specification: relative paths in the
// variable are ignored.
func ownPath(env func(string) string) string {
	if dir := env("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "bmctl", "config.yaml")
	}

	if home := env("HOME"); home != "" {
		return filepath.Join(home, ".config", "bmctl", "config.yaml")
	}

	return ""
}

// Load reads and checks the file at path. A file that is missing is an empty
// one unless it was given. The error is a Problems with everything that is
// wrong.
func Load(path string, given bool) (File, error) {
	data, err := read(path)
	if errors.Is(err, os.ErrNotExist) && !given {
		return File{}, nil
	}

	if err != nil {
		return File{}, Problems{{Path: path, Text: err.Error()}}
	}

	return Parse(path, data)
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			return nil, pathErr.Err // the path is named by the problem
		}

		return nil, err
	}

	defer file.Close() //nolint:errcheck // read only

	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}

	return data, err
}
