package cli

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/boot/pxeclient"
	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
)

// pxeTestList is the document of pxe test.
type pxeTestList struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"` // "PXETestList"
	Items      []pxeTest `json:"items"`
}

// pxeTest is one boot. The kernel's arguments are not in it: they hold secrets.
type pxeTest struct {
	Firmware string    `json:"firmware"` // bios, uefi, http, ipxe, uboot or rpi
	Arch     string    `json:"arch"`
	MAC      string    `json:"mac"`
	UUID     string    `json:"uuid"`
	MadeUp   bool      `json:"madeUp"` // the uuid is
	Works    bool      `json:"works"`
	Outcome  string    `json:"outcome"` // kernel, disk, wait, reboot, off, stuck or failed
	Warnings int       `json:"warnings"`
	Code     string    `json:"code"` // the firmware's, of the failure; may be empty
	Error    string    `json:"error"`
	Hint     string    `json:"hint"`
	Steps    []pxeStep `json:"steps"`
}

type pxeStep struct {
	Name            string     `json:"name"`
	Verdict         string     `json:"verdict"` // ok, warn or fail
	Detail          string     `json:"detail"`
	Code            string     `json:"code"`
	Hint            string     `json:"hint"`
	Warnings        []string   `json:"warnings"`
	At              time.Time  `json:"at"`
	DurationSeconds float64    `json:"durationSeconds"`
	Offers          []pxeOffer `json:"offers,omitempty"`
	File            string     `json:"file,omitempty"`
	Bytes           int64      `json:"bytes,omitempty"` // -1: not told
	SHA256          string     `json:"sha256,omitempty"`
}

type pxeOffer struct {
	From         string  `json:"from"`
	Kind         string  `json:"kind"`
	Won          bool    `json:"won"`
	Verdict      string  `json:"verdict"`
	Why          string  `json:"why"`
	Address      string  `json:"address"`
	Server       string  `json:"server"`
	File         string  `json:"file"`
	AfterSeconds float64 `json:"afterSeconds"`
}

// pxeReport collects what tests came to; for people it also writes each step when
// it has ended.
type pxeReport struct {
	app     *app
	live    bool
	loaders map[string][]string // bmctl's own, by digest
	list    pxeTestList
	pending *pxeStep // failed, and it is not known yet whether the boot goes on
	ipxe    bool     // the loader has taken over from the firmware
	failed  error    // to write
}

func (a *app) newPXEReport() (*pxeReport, error) {
	loaders, err := boot.LoaderDigests()

	return &pxeReport{
		app: a, live: !a.global.output.Machine(), loaders: loaders,
		list: pxeTestList{APIVersion: localapi.APIVersion, Kind: "PXETestList", Items: []pxeTest{}},
	}, err
}

func (r *pxeReport) current() *pxeTest { return &r.list.Items[len(r.list.Items)-1] }

func (r *pxeReport) begin(word string, c pxeclient.Client, madeUp bool) {
	r.list.Items = append(r.list.Items, pxeTest{Firmware: word, Arch: c.Arch, MAC: c.MAC, UUID: c.UUID, MadeUp: madeUp, Steps: []pxeStep{}})
	r.pending, r.ipxe = nil, c.Firmware == pxeclient.IPXE

	if len(r.list.Items) > 1 {
		r.write("")
	}

	note := ""
	if madeUp {
		note = "  (made up; never registered)"
	}

	r.write(fmt.Sprintf("%-4s %s   mac %s   uuid %s%s", word, c.Arch, c.MAC, c.UUID, note))
}

// step takes a step over. One that failed is a failure only if nothing comes after
// it: a script may have another way.
func (r *pxeReport) step(s pxeclient.Step) {
	r.settle("warn")

	step := pxeStep{
		Name: r.nameOf(s), Verdict: "ok", Detail: r.detailOf(s), Code: s.Code, Hint: s.Hint, Warnings: append([]string{}, s.Warnings...),
		At: s.At.UTC().Round(time.Millisecond), DurationSeconds: s.Duration.Seconds(), File: s.File, Bytes: s.Bytes, SHA256: s.SHA256,
	}

	for _, o := range s.Offers {
		step.Offers = append(step.Offers, offerDocument(o))
	}

	r.ipxe = r.ipxe || s.OK && (s.Name == "tftp" || s.Name == "http")

	if !s.OK {
		step.Verdict = "fail"
		step.SHA256, step.Bytes = "", -1
		r.pending = &step

		return
	}

	r.add(step)
}

// settle decides on the step that failed.
func (r *pxeReport) settle(verdict string) {
	if r.pending == nil {
		return
	}

	step := *r.pending
	r.pending = nil
	step.Verdict = verdict
	r.add(step)
}

func (r *pxeReport) add(step pxeStep) {
	test := r.current()
	test.Steps = append(test.Steps, step)
	test.Warnings += len(step.Warnings)

	if step.Verdict == "warn" {
		test.Warnings++
	}

	for _, line := range stepLines(step) {
		r.write(line.render(r.app.printer()))
	}
}

func (r *pxeReport) end(result pxeclient.Result, err error) {
	goesOn := err == nil && (result.Outcome == pxeclient.OutcomeKernel || result.Outcome == pxeclient.OutcomeDisk || result.Outcome == pxeclient.OutcomeWait)
	if goesOn {
		r.settle("warn")
	} else {
		r.settle("fail")
	}

	test := r.current()
	test.Outcome = string(result.Outcome)
	test.Works = goesOn && !(result.Outcome == pxeclient.OutcomeWait && lostItsWay(test.Steps))

	if !test.Works {
		test.Error = "the script does not boot the machine: " + endings()[result.Outcome]
	}

	var failure *pxeclient.Error
	if errors.As(err, &failure) {
		test.Code, test.Error, test.Hint = failure.Code, failure.Err.Error(), failure.Hint
	} else if err != nil {
		test.Error = err.Error()
	}

	r.write(summary(*test))
}

// lostItsWay says that a script waits because something failed, not because it was
// told to.
func lostItsWay(steps []pxeStep) bool {
	lost := false

	for _, step := range steps {
		switch {
		case step.Verdict == "warn":
			lost = true
		case step.Name == "ipxe script":
			lost = false
		}
	}

	return lost
}

func endings() map[pxeclient.Outcome]string {
	return map[pxeclient.Outcome]string{
		pxeclient.OutcomeKernel: "the kernel would start",
		pxeclient.OutcomeDisk:   "it boots from its disk",
		pxeclient.OutcomeWait:   "it is told to wait",
		pxeclient.OutcomeReboot: "it is rebooted",
		pxeclient.OutcomeOff:    "it is switched off",
		pxeclient.OutcomeStuck:  "it stops in iPXE's shell",
	}
}

func summary(test pxeTest) string {
	warnings := ""

	switch test.Warnings {
	case 0:
	case 1:
		warnings = ", 1 warning"
	default:
		warnings = fmt.Sprintf(", %d warnings", test.Warnings)
	}

	if !test.Works {
		return strings.TrimRight("does not boot "+test.Code, " ") + warnings
	}

	return "works: " + endings()[pxeclient.Outcome(test.Outcome)] + warnings
}

func (r *pxeReport) nameOf(s pxeclient.Step) string {
	names := map[string]string{"request": "pxe request", "script": "ipxe script", "initrd": "initramfs", "http": "http boot", "sleep": "wait"}

	name := cmp.Or(names[s.Name], s.Name)
	if r.ipxe && (s.Name == "dhcp" || s.Name == "request") {
		name = "ipxe " + s.Name
	}

	return name
}

func (r *pxeReport) detailOf(s pxeclient.Step) string {
	if !s.OK {
		return s.Detail
	}

	switch s.Name {
	case "tftp", "http":
		own := ""
		if names := r.loaders[s.SHA256]; len(names) > 0 {
			own = "  matches bmctl's own"
		}

		return fmt.Sprintf("%s %s  sha256 %.12s...%s", s.File, humanize.IBytes(uint64(max(0, s.Bytes))), s.SHA256, own)
	case "kernel", "initrd":
		if s.Bytes < 0 {
			return s.File
		}

		return s.File + " " + humanize.IBytes(uint64(s.Bytes))
	default:
		return s.Detail
	}
}

func offerDocument(o pxeclient.Offer) pxeOffer {
	document := pxeOffer{
		From: o.From.Addr().String(), Kind: string(o.Kind), Won: o.Won, Verdict: o.Verdict, Why: o.Why, File: o.File, AfterSeconds: o.After.Seconds(),
	}

	if o.Address.IsValid() {
		document.Address = o.Address.String()
	}

	if o.Server.IsValid() {
		document.Server = o.Server.String()
	}

	return document
}

// print writes the document for programs.
func (r *pxeReport) print(p out.Printer) error {
	if r.live {
		return r.failed
	}

	view := out.View{Document: r.list}

	for _, test := range r.list.Items {
		if test.Works {
			view.Names = append(view.Names, test.Firmware)
		}
	}

	return p.Print(view)
}

// outcome is the failure of the test as a whole. People were told the hints
// beside the steps.
func (r *pxeReport) outcome() error {
	err := pxeFailure(r.list.Items)

	var f *failure
	if r.live && errors.As(err, &f) {
		f.hint = ""
	}

	return err
}

func (r *pxeReport) write(line string) {
	if !r.live || r.failed != nil {
		return
	}

	_, r.failed = fmt.Fprintln(r.app.stdout, line)
}

// pxeLine is one line for people.
type pxeLine struct {
	verdict, name, detail, took string
}

// stepLines are the lines of a step: one for each offer, one for the step, and one
// for each warning and hint.
func stepLines(s pxeStep) (lines []pxeLine) {
	second := strings.HasPrefix(s.Name, "ipxe ") // the servers were named already

	for _, o := range s.Offers {
		if !second || o.Won || s.Verdict != "ok" {
			lines = append(lines, offerLine(o, second))
		}
	}

	if len(s.Offers) == 0 || s.Verdict != "ok" {
		detail := s.Detail
		if s.Code != "" {
			detail = s.Code + ": " + detail
		}

		line := pxeLine{s.Verdict, s.Name, detail, milliseconds(s.DurationSeconds)}
		if s.Name == "console" {
			line.took = ""
		}

		lines = append(lines, line)
	}

	for _, warning := range s.Warnings {
		lines = append(lines, pxeLine{"warn", s.Name, warning, ""})
	}

	if s.Hint != "" && s.Verdict != "ok" {
		lines = append(lines, pxeLine{"hint", "", s.Hint, ""})
	}

	return lines
}

func offerLine(o pxeOffer, second bool) pxeLine {
	line := pxeLine{verdict: "ok", name: "dhcp", took: milliseconds(o.AfterSeconds)}

	if o.Kind == string(pxeclient.Useless) {
		line.verdict = "warn"
	}

	var given []string

	if o.Address != "" {
		given = append(given, o.Address)
	} else {
		line.name = "proxydhcp"
	}

	if second {
		line.name = "ipxe dhcp"
	}

	switch {
	case o.File != "" && strings.Contains(o.File, "://"):
		given = append(given, o.File)
	case o.File != "":
		given = append(given, o.File+" from "+cmp.Or(o.Server, "nowhere"))
	default:
		given = append(given, "no boot file")
	}

	line.detail = o.From + " offered " + strings.Join(given, ", ") + "; " + o.Verdict

	return line
}

func milliseconds(seconds float64) string {
	if seconds < 0.001 {
		return "<1 ms"
	}

	return fmt.Sprintf("%.0f ms", seconds*1000)
}

func (l pxeLine) render(p out.Printer) string {
	style := map[string]out.Style{"ok": out.Good, "warn": out.Warn, "fail": out.Bad, "hint": out.Faint}[l.verdict]

	word := l.verdict
	if word == "fail" {
		word = "FAIL"
	}

	took := ""
	if l.took != "" {
		took = "  " + l.took
	}

	padding := strings.Repeat(" ", max(0, 4-len(word)))

	return "  " + p.Paint(word, style) + padding + "  " + strings.TrimRight(fmt.Sprintf("%-12s %-56s%8s", l.name, out.Clean(l.detail), took), " ")
}
