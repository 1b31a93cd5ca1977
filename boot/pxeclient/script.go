package pxeclient

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// maxScript is more than any script in the field.
	maxScript = 1 << 20
	// maxCommands bounds the commands between two sleeps: a script that runs in
	// circles never ends.
	maxCommands = 20000
	// maxDepth bounds scripts that chain scripts without --replace.
	maxDepth = 16

	magic = "#!ipxe"
)

// interpreter runs iPXE scripts: the commands and settings that boot scripts
// use, with iPXE's own ideas of words, failure and goto (core/exec.c and
// image/script.c of iPXE).
type interpreter struct {
	*boot
	settings *settings
	builtins map[string]command
	at       *url.URL // of the running script, for relative URLs
	kernel   image
	initrds  []string
	commands int
	depth    int
	menu     []string      // the keys of its items
	slept    time.Duration // in sleeps that were skipped
}

// image is a kernel that was loaded.
type image struct {
	url  string
	args []string
}

// What ends a script without being a failure of a command.
type (
	jump    struct{ label string }
	leave   struct{ code int64 }
	replace struct {
		text string
		at   *url.URL
	}
	ended  struct{ outcome Outcome }
	halted struct{ error } // no "||" goes on from it
)

func (j jump) Error() string  { return "goto " + j.label }
func (l leave) Error() string { return fmt.Sprintf("exit %d", l.code) }
func (replace) Error() string { return "chain --replace" }
func (e ended) Error() string { return string(e.outcome) }

// control says whether an error is one of those.
func control(err error) bool {
	switch err.(type) {
	case jump, leave, replace, ended, halted:
		return true
	default:
		return false
	}
}

// ipxe is what iPXE does with its offer: it runs the script that is named there.
func (b *boot) ipxe(ctx context.Context, offer Offer) error {
	i := &interpreter{boot: b, builtins: builtins(), settings: b.settings(offer), at: &url.URL{Scheme: "tftp", Host: offer.Server.String(), Path: "/"}}
	started := time.Now()
	if offer.File == b.result.Loader && b.result.Loader != "" {
		return i.report(Step{Name: "script", At: started, File: offer.File, Bytes: -1}, &Error{
			Step: "script", Err: fmt.Errorf("%s offers %s again: iPXE would load itself for ever", offer.From.Addr(), offer.File),
			Hint: fmt.Sprintf("to iPXE, which has the user class (option 77) %s, the DHCP server must name a script in place of the loader", b.ipxeIdentity().userClass),
		})
	}
	text, at, err := i.script(ctx, offer.File)
	if err != nil {
		return i.scriptFailed(started, offer.File, err)
	}
	_ = i.scriptLoaded(started, at)
	err = i.run(ctx, text, at)
	var end ended
	var code leave
	switch {
	case errors.As(err, &end):
		b.result.Outcome = end.outcome
	case err == nil || errors.As(err, &code):
		b.result.Outcome = OutcomeDisk
		_ = b.step(time.Now(), "disk", "iPXE leaves for the next boot option", nil)
	default:
		return b.step(started, "script", "", &Error{Step: "script", Err: err})
	}
	return nil
}

func (i *interpreter) scriptLoaded(started time.Time, at *url.URL) error {
	return i.report(Step{Name: "script", Detail: shown(at), At: started, File: shown(at), Bytes: -1}, nil)
}

func (i *interpreter) scriptFailed(started time.Time, ref string, err error) error {
	name := ref
	if u, parsed := url.Parse(ref); parsed == nil {
		name = shown(u)
	}
	failure := &Error{Step: "script", Err: fmt.Errorf("%s: %w", name, err), Hint: webHint(err)}
	return i.report(Step{Name: "script", At: started, File: name, Bytes: -1}, failure)
}

// script fetches a URL that must be a script.
func (i *interpreter) script(ctx context.Context, ref string) (string, *url.URL, error) {
	text, at, err := i.fetch(ctx, ref)
	if err == nil && !isScript(text) {
		err = fmt.Errorf("not an iPXE script: it does not begin with %q", magic)
	}
	return text, at, err
}

func isScript(text string) bool {
	rest, found := strings.CutPrefix(text, magic)
	return found && (rest == "" || strings.TrimLeft(rest[:1], " \t\r\n") == "")
}

// run runs a script to its end; what it returns is nil, a failure, leave or ended.
func (i *interpreter) run(ctx context.Context, text string, at *url.URL) error {
	outer := i.at
	defer func() { i.at = outer }()
	i.at = at
	lines := splitLines(text)
	for pc := 0; pc < len(lines); pc++ {
		err := i.line(ctx, lines[pc])
		switch e := err.(type) {
		case nil:
		case jump:
			if pc = find(lines, e.label); pc < 0 {
				return fmt.Errorf("%s: no label %q", shown(at), e.label)
			}
		case replace:
			i.at, at, lines, pc = e.at, e.at, splitLines(e.text), -1
		case leave, ended:
			return err
		default:
			return fmt.Errorf("%s: line %q: %w", shown(at), beginning(lines[pc]), err)
		}
	}
	return nil
}

// beginning is a line fit to be shown: the arguments of a kernel hold secrets.
func beginning(line string) string {
	words := strings.Fields(line)
	for n, word := range words {
		if slices.Contains([]string{"kernel", "imgselect", "imgargs", "boot", "imgexec", "chain", "initrd", "module", "imgfetch", "set"}, word) && n+1 < len(words) {
			return strings.Join(words[:n+1], " ") + " ..."
		}
	}
	return line
}

// splitLines joins continued lines.
func splitLines(text string) []string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	return strings.Split(strings.ReplaceAll(text, "\\\n", ""), "\n")
}

func find(lines []string, label string) int {
	for n, line := range lines {
		words := strings.Fields(line)
		if len(words) > 0 && words[0] == ":"+label {
			return n
		}
	}
	return -1
}

// line runs commands joined by &&, || and ;. Words are split before variables
// are expanded: the value of a variable is never more than a word.
func (i *interpreter) line(ctx context.Context, line string) error {
	if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' || trimmed[0] == ':' {
		return nil
	}
	var status error
	var words []string
	operator := ";"
	for _, word := range append(uncommented(line), ";") {
		if word != "||" && word != "&&" && word != ";" {
			words = append(words, word)
			continue
		}
		if operator == ";" || (operator == "&&") == (status == nil) {
			status = i.command(ctx, words)
			if status != nil && control(status) {
				return status
			}
		}
		operator, words = word, nil
	}
	return status
}

// uncommented returns a line's words up to one that begins with #.
func uncommented(line string) []string {
	words := strings.Fields(line)
	if n := slices.IndexFunc(words, func(word string) bool { return word[0] == '#' }); n >= 0 {
		return words[:n]
	}
	return words
}

// command expands and runs one command; none is a success.
func (i *interpreter) command(ctx context.Context, words []string) error {
	if err := ctx.Err(); err != nil {
		return halted{err}
	}
	if i.commands++; i.commands > maxCommands {
		return halted{fmt.Errorf("%d commands without a sleep: the script runs in circles", maxCommands)}
	}
	if len(words) == 0 {
		return nil
	}
	args := make([]string, len(words))
	for n, word := range words {
		args[n] = i.settings.expand(word)
	}
	run, known := i.builtins[args[0]]
	if !known {
		return fmt.Errorf("%s: command not found", args[0])
	}
	return run(i, ctx, args[1:])
}

// resolve makes a URL of a reference, relative to the running script.
func (i *interpreter) resolve(ref string) (*url.URL, error) {
	u, err := url.Parse(ref)
	if err != nil {
		return nil, fmt.Errorf("malformed URL: %w", withoutSecrets(err))
	}
	u = i.at.ResolveReference(u)
	if u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "tftp" {
		return nil, fmt.Errorf("%s: scheme %q is not supported", shown(u), u.Scheme)
	}
	return u, nil
}

// fetch reads the beginning of a URL, and all of it if it is a script.
func (i *interpreter) fetch(ctx context.Context, ref string) (string, *url.URL, error) {
	u, err := i.resolve(ref)
	if err != nil {
		return "", nil, err
	}
	if u.Scheme != "tftp" {
		text, final, err := i.peek(ctx, u.String())
		if err != nil {
			return "", nil, err
		}
		at, err := url.Parse(final)
		return text, at, err
	}
	content, _, err := i.readURL(ctx, u, false)
	return string(content), u, err
}

// readURL reads a file over TFTP, or with probe asks for its size.
func (i *interpreter) readURL(ctx context.Context, u *url.URL, probe bool) ([]byte, int64, error) {
	server, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil, 0, fmt.Errorf("TFTP server: %w", err)
	}
	return i.readTFTP(ctx, netip.AddrPortFrom(server, uint16(i.TFTPPort)), strings.TrimPrefix(u.Path, "/"), probe)
}
