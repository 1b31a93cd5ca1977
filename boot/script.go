package boot

import (
	"embed"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"text/template"
	"time"
)

// The scripts. Three facts of iPXE shape them.
//
// It cannot tell a script why a download failed. Where boot.ipxe is refused
// (HTTP 4xx), init.ipxe asks for refused.ipxe, which says what to do then.
//
// ipxedust's embedded script, which its BIOS build keeps, takes a success of
// ours for a reason to load us again and an error for one to leave. Everywhere
// else a success ends iPXE at once, and an error makes it try another interface.
// Therefore disk.ipxe ends in the one or the other.
//
// Old builds for EFI, of 2019 for one, give a kernel its initramfs only as the
// file that its command line names (initrd=). Newer ones, and BIOS, ignore that.
//
//go:embed scripts/*.ipxe
var scriptFiles embed.FS

var scripts = template.Must(template.New("").Funcs(template.FuncMap{"query": bootQuery}).ParseFS(scriptFiles, "scripts/*.ipxe"))

// defaultRetry is Decision.RetryAfter where it is zero.
const defaultRetry = 15 * time.Second

// bootQuery is what a machine tells of itself when it asks over an interface.
// iPXE expands it: nothing that a machine says is ever written into a script.
func bootQuery(nic string) string {
	return "uuid=${uuid}&mac=${" + nic + "/mac:hexhyp}&serial=${serial:uristring}&manufacturer=${manufacturer:uristring}&product=${product:uristring}&hostname=${hostname:uristring}&arch=${buildarch}"
}

// scriptData is what the scripts are made of.
type scriptData struct {
	Decision
	Base    string // where the machine reaches us, "http://10.0.2.5:50042"
	Seconds int    // until it asks again
}

// render fills a script in. Writing into memory does not fail, and the scripts'
// fields are those of scriptData: an error is a mistake in the scripts.
func render(name string, data scriptData) (string, error) {
	var text strings.Builder
	if err := scripts.ExecuteTemplate(&text, name+".ipxe", data); err != nil {
		return "", fmt.Errorf("script %s: %w", name, err)
	}
	return text.String(), nil
}

// errNoScript is the disk method that works by not answering.
var errNoScript = errors.New("the script is refused, so that the machine goes on to its disk")

// scriptFor says a decision, which must have been checked, in iPXE's words to a
// machine that reaches us at the base URL.
func scriptFor(d Decision, base string) (string, error) {
	if d.Kind == Disk && d.Method == DiskHTTP404 {
		return "", errNoScript
	}
	if d.RetryAfter <= 0 {
		d.RetryAfter = defaultRetry
	}
	d.Reason = console(d.Reason)
	seconds := max(1, int(d.RetryAfter.Round(time.Second)/time.Second))
	return render(scriptName(d), scriptData{Decision: d, Base: base, Seconds: seconds})
}

func scriptName(d Decision) string {
	switch {
	case d.Kind == Disk && d.Method == DiskSanboot:
		return "sanboot"
	case d.Kind == Disk:
		return "disk"
	case d.Kind == Wait:
		return "wait"
	case d.Chain != "":
		return "chain"
	default:
		return "talos"
	}
}

// check says why a decision cannot be said in a script.
func (d Decision) check() error {
	if d.Reason == "" {
		return errors.New("the decision has no reason")
	}
	if d.Kind == Disk && !knownMethod(d.Method) {
		return fmt.Errorf("unknown method %q to boot from the disk", d.Method)
	}
	if d.Kind != Agent && d.Kind != Talos {
		return nil
	}
	if d.Chain != "" {
		return checkURL("script", d.Chain)
	}
	errs := []error{checkURL("kernel", d.Kernel)}
	if d.Initrd != "" || !unified(d.Kernel) {
		errs = append(errs, checkURL("initramfs", d.Initrd))
	}
	for _, arg := range d.Args {
		// Its value may be a secret, and the error is shown.
		if key, _, _ := strings.Cut(arg, "="); checkWord("", arg) != nil {
			errs = append(errs, fmt.Errorf("kernel argument %q cannot be said in a script", key))
		}
	}
	return errors.Join(errs...)
}

// unified tells whether the URL names a unified kernel image, which needs no
// initramfs beside it.
func unified(kernel string) bool {
	u, err := url.Parse(kernel)
	return err == nil && strings.HasSuffix(u.Path, "-uki.efi")
}

func checkURL(what, text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s %q is not an http or https URL", what, text)
	}
	return checkWord(what, text)
}

// checkWord refuses what iPXE, which knows no quoting, would take for something
// else than one word of a command.
func checkWord(what, word string) error {
	for _, r := range word {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("%s %q: iPXE cannot take the character %q", what, word, r)
		}
	}
	if word == "" || separator(word) || word[0] == '#' {
		return fmt.Errorf("%s %q means something else to iPXE", what, word)
	}
	return nil
}

func separator(word string) bool { return word == "||" || word == "&&" || word == ";" }

// console makes words from anywhere safe to be echoed: one line, printable
// ASCII, no variable that iPXE would expand, no word that would end the command
// or begin a comment or an option.
func console(text string) string {
	ascii := strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case r < ' ' || r > '~':
			return '?'
		default:
			return r
		}
	}, strings.ToValidUTF8(text, "?"))
	words := strings.Fields(strings.ReplaceAll(ascii, "${", "("))
	kept := words[:0]
	for _, word := range words {
		if word = strings.TrimLeft(word, "#-"); word != "" && !separator(word) {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}

func knownMethod(m DiskMethod) bool {
	return m == DiskExit || m == DiskSanboot || m == DiskHTTP404
}
