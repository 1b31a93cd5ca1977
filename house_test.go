package bmctl_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/bmctl/bmctl"

// house is what the rules are checked on.
type house struct {
	own      []pkg               // the module's packages
	deps     map[string][]string // of any package: all that it reaches
	standard map[string]bool     // the standard library's packages
	files    []file              // the module's source, generated files aside

	modules      []string // the modules that go.mod requires directly
	dependencies string   // the page that says why
}

// pkg is what the Go tool tells of a package.
type pkg struct {
	ImportPath                               string
	Standard                                 bool
	Imports, TestImports, XTestImports, Deps []string

	name string // path within the module, or the import path
}

// file is one parsed source file.
type file struct {
	path string // within the module
	test bool
	fset *token.FileSet
	ast  *ast.File
}

// loadHouse asks the Go tool for the packages, test dependencies and files with
// the tag e2e included, and parses every source file.
func loadHouse(t *testing.T) house {
	t.Helper()

	output, err := exec.Command("go", "list", "-e", "-deps", "-test", "-tags=e2e",
		"-json=ImportPath,Standard,Imports,TestImports,XTestImports,Deps", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}

	h := house{deps: map[string][]string{}, standard: map[string]bool{}, files: parseAll(t)}

	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}

		h.add(p)
	}

	h.modules = requirements(t)

	page, err := os.ReadFile("docs/design/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}

	h.dependencies = string(page)

	return h
}

// requirements returns the modules that go.mod requires directly.
func requirements(t *testing.T) (direct []string) {
	t.Helper()

	output, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatalf("go mod edit: %v", err)
	}

	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(output, &mod); err != nil {
		t.Fatal(err)
	}

	for _, required := range mod.Require {
		if !required.Indirect {
			direct = append(direct, required.Path)
		}
	}

	return direct
}

// add takes a package in; the variants that the Go tool builds for tests, with
// names such as "p [p.test]" and "p.test", repeat what is known.
func (h *house) add(p pkg) {
	if strings.HasSuffix(p.ImportPath, ".test") || strings.Contains(p.ImportPath, " ") {
		return
	}

	p.name = short(p.ImportPath)
	h.deps[p.name] = p.Deps
	h.standard[p.ImportPath] = p.Standard

	if strings.HasPrefix(p.ImportPath, module) {
		h.own = append(h.own, p)
	}
}

// reach returns every package that p, and its tests where asked for, depend on.
func (h house) reach(p pkg, withTests bool) []string {
	seen := map[string]bool{}
	direct := append([]string(nil), p.Imports...)

	if withTests {
		direct = append(append(direct, p.TestImports...), p.XTestImports...)
	}

	var all []string

	for _, name := range direct {
		for _, dep := range append([]string{name}, h.deps[short(name)]...) {
			if dep = short(dep); !seen[dep] {
				seen[dep] = true
				all = append(all, dep)
			}
		}
	}

	return all
}

func parseAll(t *testing.T) (files []file) {
	t.Helper()

	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		hidden := strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "bin"

		switch {
		case err != nil:
			return err
		case entry.IsDir() && hidden && name != ".":
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
			return nil
		}

		f, err := parse(filepath.ToSlash(name), nil)
		if err == nil && !ast.IsGenerated(f.ast) {
			files = append(files, f)
		}

		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	return files
}

func parse(name string, text any) (file, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)

	return file{path: name, test: strings.HasSuffix(name, "_test.go"), fset: fset, ast: tree}, err
}

// source is a house of one file.
func source(name, text string) house {
	f, err := parse(name, text)
	if err != nil {
		panic(err)
	}

	return house{files: []file{f}}
}

// imports is a house in which one package imports another.
func imports(name, imported string) house {
	if !strings.Contains(imported, ".") {
		imported = module + "/" + imported
	}

	return house{own: []pkg{{name: name, Imports: []string{imported}}}}
}

func both(checks ...func(house) []string) func(house) []string {
	return func(h house) (breaches []string) {
		for _, check := range checks {
			breaches = append(breaches, check(h)...)
		}

		return breaches
	}
}

// short drops the module's own path from an import path.
func short(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

// within tells whether name is one of the trees or stands in one.
func within(name string, trees ...string) bool {
	for _, tree := range trees {
		if name == tree || strings.HasPrefix(name, tree+"/") {
			return true
		}
	}

	return false
}

// qualified returns "package.Name" for a use of another package's name, with
// the package as it is called in its own source, and "" for any other node.
func (f file) qualified(node ast.Node) string {
	selector, ok := node.(*ast.SelectorExpr)
	if !ok {
		return ""
	}

	id, ok := selector.X.(*ast.Ident)
	if !ok {
		return ""
	}

	for _, spec := range f.ast.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}

		local := path.Base(imported)
		if spec.Name != nil {
			local = spec.Name.Name
		}

		if local == id.Name {
			return path.Base(imported) + "." + selector.Sel.Name
		}
	}

	return ""
}

func (f file) at(node ast.Node) string {
	position := f.fset.Position(node.Pos())

	return f.path + ":" + strconv.Itoa(position.Line)
}

func (f file) lines(node ast.Node) int {
	return f.fset.Position(node.End()).Line - f.fset.Position(node.Pos()).Line + 1
}
