package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve"
	"github.com/bmctl/bmctl/serve/controllers"
	"github.com/bmctl/bmctl/serve/localapi"
)

// trialFlags are what serve can do instead of serving. They are flags alone: in
// a file or a variable they would keep a service from running.
type trialFlags struct {
	check  bool
	dryRun bool
}

func (f *trialFlags) add(flags *pflag.FlagSet) {
	for name, flag := range map[string]struct {
		value *bool
		usage string
	}{
		"check":   {&f.check, "look at the configuration, Omni, the interface, the ports and the Image Factory, and stop"},
		"dry-run": {&f.dryRun, "say what would be done to each machine and why, and stop; nothing is written or switched"},
	} {
		flags.BoolVar(flag.value, name, false, flag.usage)
		flags.Lookup(name).Annotations = map[string][]string{flagGroup: {groupTrial}}
	}
}

func (a *app) serveOrTry(ctx context.Context, cfg serve.Config, trial trialFlags) error {
	switch {
	case trial.check && trial.dryRun:
		return usagef("--check or --dry-run, one at a time")
	case trial.check:
		return a.serveCheck(ctx, cfg)
	case trial.dryRun:
		return a.serveDryRun(ctx, cfg)
	default:
		return a.serve(ctx, cfg)
	}
}

// checkList is the document of serve --check.
type checkList struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"` // "CheckList"
	Items      []checkResult `json:"items"`
}

type checkResult struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Error  string `json:"error"`
	Hint   string `json:"hint"`
}

func (a *app) serveCheck(ctx context.Context, cfg serve.Config) error {
	results, err := serve.Check(ctx, cfg)
	if err != nil {
		return invalid([]string{oneLine(err.Error())})
	}

	results = slices.Insert(results, 0, a.checkedConfig())

	printer := a.printer()
	printer.NoHeaders = true

	if err := printer.Print(checkView(results)); err != nil {
		return err
	}

	return checkFailure(results)
}

// checkedConfig is a check that was passed already: a configuration with
// problems ends the command before.
func (a *app) checkedConfig() serve.CheckResult {
	if a.file.Path == "" {
		return serve.CheckResult{Name: "config", Detail: "no file: flags and environment alone"}
	}

	return serve.CheckResult{Name: "config", Detail: a.file.Path}
}

func checkView(results []serve.CheckResult) out.View {
	list := checkList{APIVersion: localapi.APIVersion, Kind: "CheckList", Items: []checkResult{}}
	view := out.View{Columns: make([]out.Column, 3)}

	for _, r := range results {
		item := checkResult{Name: r.Name, OK: r.Err == nil, Detail: r.Detail, Hint: r.Hint}
		verdict, detail := out.Cell{Text: "ok", Style: out.Good}, r.Detail

		if r.Err != nil {
			item.Error = oneLine(r.Err.Error())
			verdict, detail = out.Cell{Text: "FAIL", Style: out.Bad}, strings.TrimPrefix(r.Detail+": "+item.Error, ": ")
		}

		list.Items = append(list.Items, item)
		view.Rows = append(view.Rows, []out.Cell{verdict, {Text: r.Name}, {Text: detail}})
		view.Names = append(view.Names, r.Name)
	}

	view.Document = list

	return view
}

// checkFailure is the failure of a check as a whole, with the hint of the first
// part that failed. A refused key is one of its own.
func checkFailure(results []serve.CheckResult) error {
	failed, kind, hint := 0, codeServeFailed, ""

	for _, r := range results {
		if r.Err == nil {
			continue
		}

		failed++

		if hint == "" {
			hint = r.Hint
		}

		if errors.Is(r.Err, serve.ErrCredentials) || controllers.NotRegistered(r.Err) {
			kind = codeOmniAuth
		}
	}

	if failed == 0 {
		return nil
	}

	return failf(kind, hint, "%d of %d checks failed", failed, len(results))
}

// planList is the document of serve --dry-run.
type planList struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // "PlanList"
	Items      []plan `json:"items"`
}

type plan struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Power      string `json:"power"`
	Status     string `json:"status"`
	Cluster    string `json:"cluster"`
	Allocated  bool   `json:"allocated"`
	Act        string `json:"act"` // empty: none
	Reason     string `json:"reason"`
	Boot       string `json:"boot"` // agent, talos, disk or wait
	BootReason string `json:"bootReason"`
	Disrupts   bool   `json:"disrupts"`
	BMCError   string `json:"bmcError"`
}

func (a *app) serveDryRun(ctx context.Context, cfg serve.Config) error {
	previews, err := serve.DryRun(ctx, cfg, a.logger(slog.LevelWarn))

	switch {
	case errors.Is(err, serve.ErrCredentials), controllers.NotRegistered(err):
		return refusedKey(err)
	case err != nil:
		return failf(codeOmniUnreachable, "bmctl serve --check", "dry run: %w", err)
	}

	if err := a.printer().Print(planView(previews)); err != nil {
		return err
	}

	return a.planVerdict(previews)
}

func refusedKey(err error) error {
	return failf(codeOmniAuth, "check OMNI_SERVICE_ACCOUNT_KEY: it must be the key of this infra provider", "%w", err)
}

func planView(previews []controllers.Preview) out.View {
	list := planList{APIVersion: localapi.APIVersion, Kind: "PlanList", Items: []plan{}}
	view := out.View{Columns: []out.Column{
		{Head: "MACHINE"}, {Head: "ID", Wide: true}, {Head: "POWER"}, {Head: "CLUSTER"}, {Head: "PLAN"}, {Head: "BOOT ANSWER"}, {Head: "REASON"},
		{Head: "BOOT REASON", Wide: true}, {Head: "BMC ERROR", Wide: true},
	}}

	for _, p := range previews {
		m := p.Machine
		list.Items = append(list.Items, plan{
			ID: m.ID, Name: m.Name, Power: m.Power, Status: m.Status, Cluster: m.Cluster, Allocated: p.Allocated, Act: p.Act, Reason: p.Reason,
			Boot: p.Boot, BootReason: p.BootReason, Disrupts: p.Disrupts, BMCError: m.BMC.Error,
		})

		act := cell(p.Act)
		if p.Disrupts {
			act = out.Cell{Text: strings.ToUpper(p.Act), Style: out.Bad} // it hits a machine that is in use
		}

		view.Rows = append(view.Rows, []out.Cell{
			{Text: m.Name}, {Text: m.ID}, powerCell(m.Power), cell(m.Cluster), act, cell(p.Boot), cell(p.Reason), cell(p.BootReason), cell(m.BMC.Error),
		})
		view.Names = append(view.Names, m.ID)
	}

	view.Document = list

	return view
}

// planVerdict sums the plans up; machines of clusters that would be disrupted
// are a failure.
func (a *app) planVerdict(previews []controllers.Preview) error {
	acts := 0

	var disrupted []string

	for _, p := range previews {
		if p.Act != "" {
			acts++
		}

		if p.Disrupts {
			disrupted = append(disrupted, p.Machine.Name)
		}
	}

	if !a.global.output.Machine() {
		a.note("%s", fmt.Sprintf("%d machines, %d with something to do, %d of them in use", len(previews), acts, len(disrupted)))
	}

	if len(disrupted) == 0 {
		return nil
	}

	return failf(codeWouldDisrupt, "find out why before serve runs; bmctl machines cordon "+strings.Join(disrupted, " ")+" keeps its hands off",
		"serve would disrupt %d machines that are in a cluster: %s", len(disrupted), strings.Join(disrupted, ", "))
}
