package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bmctl/bmctl/power/hosts"
)

// AddHosts writes further hosts into the file at path and leaves every other
// character of it as it is, comments too; a file that is not there is made, for
// its owner alone. The file is replaced as a whole, and only by one that reads
// back as the old one with these hosts; otherwise it stays and the error says
// what to do by hand.
func AddHosts(path string, fresh map[string]Host) error {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}

	old, mode := "", fs.FileMode(0o600)

	switch data, err := read(path); {
	case err == nil:
		old = string(data)

		if info, err := os.Stat(path); err == nil {
			mode = info.Mode().Perm()
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", path, err)
	}

	text, err := withHosts(path, old, fresh)
	if err != nil {
		return err
	}

	return replace(path, text, mode)
}

// withHosts is the file's text with the further hosts.
func withHosts(path, old string, fresh map[string]Host) (string, error) {
	before, err := Parse(path, []byte(old))
	if err != nil {
		return "", err
	}

	text := insertHosts(old, fresh)

	wanted := maps.Clone(before.Hosts)
	if wanted == nil {
		wanted = map[string]Host{}
	}

	for name, host := range fresh {
		if _, taken := wanted[name]; taken {
			return "", fmt.Errorf("%s: there is a host %s already", path, name)
		}

		wanted[name] = host
	}

	after, err := Parse(path, []byte(text))
	if err != nil || !sameHosts(after.Hosts, wanted) {
		return "", fmt.Errorf("%s: its section hosts is not one that lines can be added to; add them by hand:\n%s", path, hostLines(fresh, "  "))
	}

	return text, nil
}

func sameHosts(a, b map[string]Host) bool {
	return maps.EqualFunc(a, b, func(x, y Host) bool { return reflect.DeepEqual(x, y) })
}

var (
	// hostsHead is the section's first line, with nothing or an empty mapping
	// behind it.
	hostsHead = regexp.MustCompile(`^(hosts|"hosts"|'hosts')\s*:\s*(\{\s*\}|~|null)?\s*(#.*)?$`)
	// entry is a line that begins with something, not a comment.
	entry = regexp.MustCompile(`^(\s*)[^\s#]`)
)

// insertHosts puts the lines behind the last one of the section hosts, or makes
// that section at the end.
func insertHosts(old string, fresh map[string]Host) string {
	lines := strings.SplitAfter(old, "\n")

	head := slices.IndexFunc(lines, func(line string) bool { return hostsHead.MatchString(strings.TrimRight(line, "\r\n")) })
	if head < 0 {
		if old != "" && !strings.HasSuffix(old, "\n") {
			old += "\n"
		}

		return old + "hosts:\n" + hostLines(fresh, "  ")
	}

	last, indent := head, "  "

	for i := head + 1; i < len(lines); i++ {
		found := entry.FindStringSubmatch(lines[i])
		if found == nil {
			continue
		}

		if found[1] == "" {
			break // the next section
		}

		if last == head {
			indent = found[1]
		}

		last = i
	}

	if last == head {
		lines[head] = regexp.MustCompile(`:\s*(\{\s*\}|~|null)`).ReplaceAllString(lines[head], ":")
	}

	if !strings.HasSuffix(lines[last], "\n") {
		lines[last] += "\n"
	}

	return strings.Join(slices.Insert(lines, last+1, hostLines(fresh, indent)), "")
}

// hostLines are the hosts as lines of the file, in people's order.
func hostLines(fresh map[string]Host, indent string) string {
	var text strings.Builder

	for _, name := range slices.SortedFunc(maps.Keys(fresh), hosts.Compare) {
		host := fresh[name]
		fields := []string{"address: " + quoted(host.Address)}

		for _, field := range [][2]string{{"protocol", host.Protocol}, {"id", host.ID}, {"pin", host.Pin}, {"credentials", host.Credentials}} {
			if field[1] != "" {
				fields = append(fields, field[0]+": "+quoted(field[1]))
			}
		}

		if host.Port != 0 {
			fields = append(fields, "port: "+strconv.Itoa(host.Port))
		}

		fmt.Fprintf(&text, "%s%s: {%s}\n", indent, quoted(name), strings.Join(fields, ", "))
	}

	return text.String()
}

// quoted is the text as YAML reads it as text: names of digits, or with colons,
// would be something else.
func quoted(text string) string {
	if regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`).MatchString(text) && !slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(text)) {
		return text
	}

	return strconv.Quote(text)
}

// replace writes the file anew beside the old one and puts it in its place.
func replace(path, text string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}

	fresh, err := os.CreateTemp(filepath.Dir(path), ".bmctl-*")
	if err != nil {
		return err
	}

	_, err = fresh.WriteString(text)
	err = errors.Join(err, fresh.Chmod(mode), fresh.Sync(), fresh.Close())

	if err == nil {
		err = os.Rename(fresh.Name(), path)
	}

	if err != nil {
		return errors.Join(err, os.Remove(fresh.Name()))
	}

	return nil
}
