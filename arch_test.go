package bmctl_test

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// rules are the rules of the house. Each has its reason, and a breach of it that
// the check must find: a rule that cannot fail keeps nothing.
var rules = []struct {
	name   string
	reason string
	check  func(house) []string
	breach house
}{
	{
		"power and boot stand alone",
		"they build and test in seconds; Omni's client alone costs 60 MB and minutes",
		both(
			dependsNot(true, []string{"power"}, append(heads, "boot")...),
			dependsNot(true, []string{"boot"}, append(heads, "power")...),
		),
		imports("power/bmctest", "go.uber.org/zap"),
	},
	{
		"boot/pxeclient knows nothing of boot",
		"it is an independent witness: a shared constant would hide a shared mistake",
		dependsNot(false, []string{"boot/pxeclient"}, "boot"),
		imports("boot/pxeclient", "boot"),
	},
	{
		"serve/policy imports the standard library alone",
		"the whole policy is one table that can be read and tested without anything else",
		importsOnly("serve/policy"),
		imports("serve/policy", "power"),
	},
	{
		"serve knows no face",
		"the daemon must run without its command line, and the lab and tests drive it as a library",
		dependsNot(false, []string{"serve"}, "cli", "tui", "github.com/spf13/cobra", "github.com/charmbracelet/bubbletea"),
		imports("serve/lab", "cli/config"),
	},
	{
		"tui imports its toolkit and the standard library",
		"it shows a Source; cli adapts whatever there is to it",
		importsOnly("tui", "tui", "github.com/charmbracelet", "github.com/muesli", "github.com/lucasb-eyer/go-colorful"),
		imports("tui", "serve/localapi"),
	},
	{
		"simulators are imported by tests and serve/lab only",
		"nothing that is told to a machine or to Omni may come from make-believe",
		onlyFor(simulator, "serve/lab", "serve/e2e"),
		imports("serve", "power/bmcsim"),
	},
	{
		"only cli reads flags, environment and standard streams",
		"every setting knows its origin, and nothing but data reaches standard output",
		uses(outside("cli"), "os.Args", "os.Stdin", "os.Stdout", "os.Stderr", "os.Getenv", "os.LookupEnv", "os.Environ",
			"os.ExpandEnv", "flag.", "fmt.Print", "fmt.Println", "fmt.Printf"),
		source("serve/serve.go", `package serve; import "os"; var home = os.Getenv("HOME")`),
	},
	{
		"only main exits",
		"whoever else ends the process takes drains, locks and error lines with it",
		uses(func(f file) bool { return f.ast.Name.Name != "main" }, "os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", "syscall.Exit"),
		source("cli/main.go", `package cli; import sys "os"; func F() { sys.Exit(1) }`),
	},
	{
		"nobody logs to a global logger",
		"the logger that was passed in knows component and machine; the global one writes over the terminal",
		uses(anywhere, "slog.Default", "slog.SetDefault", "slog.Debug", "slog.Info", "slog.Warn", "slog.Error", "slog.Log",
			"slog.DebugContext", "slog.InfoContext", "slog.WarnContext", "slog.ErrorContext", "log.Print", "log.Printf", "log.Println"),
		source("power/ipmi.go", `package power; import "log/slog"; func f() { slog.Info("x") }`),
	},
	{
		"public identifiers of power, boot and serve have docstrings",
		"they are the seams: what is promised must be written down",
		undocumented("power", "boot", "serve"),
		source("boot/dhcp.go", `package boot; func Serve() {}`),
	},
	{
		"no function is longer than 80 lines",
		"what does not fit on a page is not read as a whole",
		longFunctions(80),
		source("boot/tftp.go", "package boot\nfunc f() {"+strings.Repeat("\n", 80)+"}"),
	},
	{
		"no package or file is called util, common, helpers or manager",
		"such a name says nothing of what belongs there, so everything ends up there",
		vagueNames("util", "utils", "common", "helper", "helpers", "manager", "misc"),
		source("serve/common/x.go", `package common`),
	},
	{
		"main.go is at most 15 lines",
		"what stands in main cannot be tested",
		longMain(15),
		source("cmd/bmctl/main.go", "package main\n"+strings.Repeat("\n", 15)),
	},
	{
		"docs/design/dependencies.md has a line for every direct dependency",
		"each must be worth what it costs to build, read and update",
		undescribed,
		house{modules: []string{"example.com/nobody/knows/why"}},
	},
	{
		"the folders at the top are the ones in docs/design/architecture.md",
		"a new one is a new part of the house, not an afterthought",
		onlyFolders("cmd", "cli", "tui", "serve", "power", "boot", "docs"),
		source("internal/x.go", `package internal`),
	},
}

// heads is what the hands, power and boot, never reach for.
var heads = []string{
	"serve", "cli", "tui", "github.com/siderolabs/omni", "github.com/cosi-project",
	"github.com/spf13/cobra", "github.com/charmbracelet/bubbletea", "go.uber.org/zap",
}

func TestRulesOfTheHouse(t *testing.T) {
	whole := loadHouse(t)

	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			if len(rule.check(rule.breach)) == 0 {
				t.Errorf("the rule does not find its own example of a breach")
			}

			for _, breach := range rule.check(whole) {
				t.Errorf("%s (why not: %s)", breach, rule.reason)
			}
		})
	}
}

// dependsNot forbids packages in the folders to reach the banned ones, directly
// or not; tests of these packages too where withTests is set.
func dependsNot(withTests bool, folders []string, banned ...string) func(house) []string {
	return func(h house) (breaches []string) {
		for _, p := range h.own {
			if !within(p.name, folders...) {
				continue
			}

			for _, dep := range h.reach(p, withTests) {
				if within(dep, banned...) && !within(dep, folders...) {
					breaches = append(breaches, fmt.Sprintf("%s depends on %s", p.name, dep))
				}
			}
		}

		return breaches
	}
}

// importsOnly allows the folder's packages, tests aside, the standard library
// and the allowed trees.
func importsOnly(folder string, allowed ...string) func(house) []string {
	return func(h house) (breaches []string) {
		for _, p := range h.own {
			for _, name := range p.Imports {
				if within(p.name, folder) && !h.standard[name] && !within(short(name), allowed...) {
					breaches = append(breaches, fmt.Sprintf("%s imports %s", p.name, short(name)))
				}
			}
		}

		return breaches
	}
}

func simulator(name string) bool {
	return within(name, "serve", "power") && (strings.HasSuffix(name, "sim") || strings.HasSuffix(name, "test"))
}

// onlyFor forbids code that is no test to import packages that match, unless it
// matches itself or stands in one of the folders.
func onlyFor(match func(string) bool, folders ...string) func(house) []string {
	return func(h house) (breaches []string) {
		for _, p := range h.own {
			for _, name := range p.Imports {
				if match(short(name)) && !match(p.name) && !within(p.name, folders...) {
					breaches = append(breaches, fmt.Sprintf("%s imports %s", p.name, short(name)))
				}
			}
		}

		return breaches
	}
}

func anywhere(file) bool { return true }

// outside matches files that are neither in the folder nor a program's main
// package.
func outside(folder string) func(file) bool {
	return func(f file) bool { return !within(f.path, folder) && f.ast.Name.Name != "main" }
}

// uses forbids the names, "package.Name" or "package." for all of it, in files
// that match and are no tests.
func uses(match func(file) bool, names ...string) func(house) []string {
	return func(h house) (breaches []string) {
		for _, f := range h.files {
			if f.test || !match(f) {
				continue
			}

			ast.Inspect(f.ast, func(node ast.Node) bool {
				name := f.qualified(node)
				if name != "" && (slices.Contains(names, name) || slices.Contains(names, name[:strings.Index(name, ".")+1])) {
					breaches = append(breaches, fmt.Sprintf("%s uses %s", f.at(node), name))
				}

				return true
			})
		}

		return breaches
	}
}

func longFunctions(limit int) func(house) []string {
	return func(h house) (breaches []string) {
		for _, f := range h.files {
			for _, decl := range f.ast.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && f.lines(fn) > limit {
					breaches = append(breaches, fmt.Sprintf("%s: %s has %d lines", f.at(fn), fn.Name.Name, f.lines(fn)))
				}
			}
		}

		return breaches
	}
}

func vagueNames(banned ...string) func(house) []string {
	return func(h house) (breaches []string) {
		for _, f := range h.files {
			stem := strings.TrimSuffix(strings.TrimSuffix(path.Base(f.path), ".go"), "_test")
			if slices.Contains(banned, stem) || slices.Contains(banned, f.ast.Name.Name) {
				breaches = append(breaches, fmt.Sprintf("%s of package %s", f.path, f.ast.Name.Name))
			}
		}

		return breaches
	}
}

func longMain(limit int) func(house) []string {
	return func(h house) (breaches []string) {
		for _, f := range h.files {
			if f.path == "cmd/bmctl/main.go" && f.fset.File(f.ast.FileStart).LineCount() > limit {
				breaches = append(breaches, f.path+" is longer")
			}
		}

		return breaches
	}
}

func onlyFolders(allowed ...string) func(house) []string {
	return func(h house) (breaches []string) {
		for _, f := range h.files {
			if top, _, inside := strings.Cut(f.path, "/"); inside && !slices.Contains(allowed, top) {
				breaches = append(breaches, f.path+" stands in "+top)
			}
		}

		return breaches
	}
}

// undescribed finds the direct dependencies that the design page does not name.
func undescribed(h house) (breaches []string) {
	for _, name := range h.modules {
		if !strings.Contains(h.dependencies, "| "+name+" | ") {
			breaches = append(breaches, name+" is missing")
		}
	}

	return breaches
}
