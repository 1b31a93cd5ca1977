package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/hosts"
	"github.com/bmctl/bmctl/serve/localapi"
)

// probeList is the document of bmctl probe.
type probeList struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"` // "ProbeList"
	Items      []probeItem `json:"items"`
}

type probeItem struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	Answered string `json:"answered"` // host:port
	Protocol string `json:"protocol"` // redfish, ipmi or empty: nothing answered
	Version  string `json:"version"`
	IPMI     bool   `json:"ipmi"`
	Redfish  bool   `json:"redfish"`
	Suites   []int  `json:"suites"`
	Suite    int    `json:"suite,omitempty"`
	// Certificate is as the inventory's pin: "sha256:" and digits.
	Certificate string   `json:"certificate,omitempty"`
	Vendor      string   `json:"vendor"`
	Model       string   `json:"model"`
	Firmware    string   `json:"firmware"`
	Serial      string   `json:"serial"`
	UUID        string   `json:"uuid"`
	LoggedIn    bool     `json:"loggedIn"`
	Power       string   `json:"power"`   // on, off, unknown
	Boot        string   `json:"boot"`    // yes, no, ?
	Console     string   `json:"console"` // yes, no, ?
	Health      string   `json:"health"`
	Seconds     float64  `json:"seconds"`
	Verdict     string   `json:"verdict"`
	Layer       string   `json:"layer"` // of the failure
	Notes       []string `json:"notes"`
	Error       string   `json:"error,omitempty"`
	Code        code     `json:"code,omitempty"`
}

func (p probed) item() probeItem {
	item := probeItem{
		Name: p.bmc.Name, Address: p.bmc.Address, Answered: p.Address, Protocol: string(p.Protocol), Version: p.Version, IPMI: p.IPMI, Redfish: p.Redfish,
		Suites: append([]int{}, p.Suites...), Suite: p.Suite, Certificate: p.Certificate, Vendor: p.Vendor, Model: p.Model, Firmware: p.Firmware, Serial: p.Serial, UUID: p.UUID,
		LoggedIn: p.LoggedIn, Power: p.Power.String(), Boot: p.Boot.String(), Console: p.Console.String(), Health: string(p.Health),
		Seconds: p.Took.Round(time.Millisecond).Seconds(), Verdict: p.verdict(), Layer: string(p.Layer), Notes: append([]string{}, p.Notes...),
	}

	if p.err != nil {
		item.Error, item.Code = oneLine(p.err.Error()), classify(p.err).code
	}

	return item
}

// printProbed writes the table with its notes and the summary.
func (a *app) printProbed(results []probed, f probeFlags) error {
	list := probeList{APIVersion: localapi.APIVersion, Kind: "ProbeList", Items: []probeItem{}}
	view := out.View{Columns: []out.Column{
		{Head: "ADDRESS"}, {Head: "NAME", Wide: true}, {Head: "PROTOCOL"}, {Head: "SUITES", Wide: true}, {Head: "VENDOR"}, {Head: "MODEL"},
		{Head: "FIRMWARE", Wide: true}, {Head: "UUID", Wide: true}, {Head: "POWER"}, {Head: "BOOT"}, {Head: "CONSOLE"}, {Head: "HEALTH", Wide: true},
		{Head: "TIME"}, {},
	}}

	marks := footnotes(results)
	shown, dark := foldDark(results, f.noFold || a.global.output != out.Table)

	for _, p := range results {
		list.Items = append(list.Items, p.item())

		if p.err == nil && len(f.lacks(p)) == 0 {
			view.Names = append(view.Names, p.bmc.Name)
		}
	}

	for _, p := range shown {
		view.Rows = append(view.Rows, p.row(marks))
	}

	if dark != nil {
		view.Rows = append(view.Rows, dark)
	}

	view.Document = list

	if err := a.printer().Print(view); err != nil {
		return err
	}

	return a.belowTable(marks, summaryText(results))
}

// belowTable writes the notes and the summary: on a terminal below the table,
// otherwise on stderr, where they are in nobody's way.
func (a *app) belowTable(marks []string, summary string) error {
	if a.global.output.Machine() {
		return nil
	}

	var text strings.Builder
	for i, note := range marks {
		text.WriteString(strings.Repeat("*", i+1) + " " + out.Clean(note) + "\n")
	}

	text.WriteString(out.Clean(summary) + "\n")

	if terminal(a.stdout) && !a.global.quiet {
		_, err := fmt.Fprint(a.stdout, text.String())

		return err
	}

	if !a.global.quiet {
		fmt.Fprint(a.stderr, text.String()) //nolint:errcheck // nowhere left to say it
	}

	return nil
}

// footnotes are the notes on all targets, each once.
func footnotes(results []probed) []string {
	var notes []string
	for _, p := range results {
		notes = append(notes, p.Notes...)
	}

	slices.Sort(notes)

	return slices.Compact(notes)
}

// manyDark is from how many silent addresses on they get one row.
const manyDark = 9

// foldDark takes the silent addresses out where they are many, and gives the row
// that stands for them.
func foldDark(results []probed, noFold bool) (shown []probed, dark []out.Cell) {
	var names []string

	longest := time.Duration(0)

	for _, p := range results {
		if p.Layer == power.LayerSilent {
			names, longest = append(names, p.bmc.Address), max(longest, p.Took)
		} else {
			shown = append(shown, p)
		}
	}

	if noFold || len(names) < manyDark {
		return results, nil
	}

	last := fmt.Sprintf("%d silent: no answer%s", len(names), ports(results[0].bmc))

	return shown, out.Text(hosts.Fold(names), "-", "-", "-", "-", "-", "-", "-", "?", "?", "?", "-", took(longest), last)
}

func (p probed) row(notes []string) []out.Cell {
	boot, remark := p.Boot.String(), p.remark()
	if p.Boot == power.SupportYes {
		boot = "ok"
	}

	for i, note := range notes {
		if !slices.Contains(p.Notes, note) {
			continue
		}

		if mark := strings.Repeat("*", i+1); strings.Contains(note, "boot override") {
			boot += mark
		} else {
			remark = strings.TrimSpace(remark + " " + mark)
		}
	}

	style := out.Plain
	if p.err != nil {
		style = out.Bad
	}

	return []out.Cell{
		{Text: p.bmc.Address}, {Text: p.bmc.Name}, {Text: p.protocolText()}, cell(suitesText(p.Suites)), cell(p.Vendor), cell(p.Model), cell(p.Firmware),
		cell(p.UUID), powerCell(p.Power.String()), {Text: boot}, {Text: p.consoleText()}, healthCell(string(p.Health)), {Text: took(p.Took)},
		{Text: remark, Style: style},
	}
}

// protocolText is "redfish 1.15" or "ipmi 2.0 (17)", with the cipher suite.
func (p probed) protocolText() string {
	if p.Protocol == "" {
		return "-"
	}

	version := strings.SplitN(p.Version, ".", 3)
	text := words(string(p.Protocol), strings.Join(version[:min(2, len(version))], "."))

	if p.Suite != 0 {
		text += fmt.Sprintf(" (%d)", p.Suite)
	}

	return text
}

func (p probed) consoleText() string {
	switch p.Console {
	case power.SupportYes:
		return "sol"
	case power.SupportNo:
		return "-"
	default:
		return "?"
	}
}

func suitesText(suites []int) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(suites)), ","), "[]")
}

// remark says in a few words what is wrong.
func (p probed) remark() string {
	switch verdict := p.verdict(); verdict {
	case verdictReady:
		return ""
	case verdictAnswered:
		return "not logged in"
	case verdictLogin:
		return verdict
	case verdictSilent:
		return "no answer" + ports(p.bmc)
	default:
		return cmp.Or(string(p.Layer), verdict) + ": " + faultDetail(p.bmc, p.cause())
	}
}

// cause is the error below what the command line adds to it.
func (p probed) cause() error {
	if f := classify(p.err); f.err != nil {
		return f.err
	}

	return p.err
}

// ports are the places that were asked.
func ports(bmc chosenBMC) string {
	ipmi, redfish := cmp.Or(bmc.Port, 623), cmp.Or(bmc.RedfishPort, 443)

	switch bmc.Protocol {
	case power.ProtocolIPMI:
		return fmt.Sprintf(" (udp %d)", ipmi)
	case power.ProtocolRedfish:
		return fmt.Sprintf(" (tcp %d)", redfish)
	default:
		return fmt.Sprintf(" (udp %d, tcp %d)", ipmi, redfish)
	}
}
