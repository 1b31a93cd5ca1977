package bmctl_test

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
)

// undocumented finds packages without a package comment, and exported
// declarations without one of their own or of their group.
func undocumented(folders ...string) func(house) []string {
	return func(h house) (breaches []string) {
		described := map[string]bool{}

		for _, f := range h.files {
			described[path.Dir(f.path)] = described[path.Dir(f.path)] || f.ast.Doc != nil && !f.test
		}

		for _, f := range h.files {
			if f.test || !within(f.path, folders...) {
				continue
			}

			if !described[path.Dir(f.path)] {
				breaches = append(breaches, f.path+": its package has no comment")
			}

			for _, decl := range f.ast.Decls {
				for _, name := range bare(decl) {
					breaches = append(breaches, fmt.Sprintf("%s: %s has no docstring", f.at(name), name.Name))
				}
			}
		}

		return breaches
	}
}

// bare returns the exported names that a declaration leaves undocumented.
func bare(decl ast.Decl) (names []*ast.Ident) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Doc == nil && decl.Name.IsExported() && receiverExported(decl) {
			names = append(names, decl.Name)
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if decl.Doc == nil && spec.Doc == nil && spec.Name.IsExported() {
					names = append(names, spec.Name)
				}
			case *ast.ValueSpec:
				if decl.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					names = append(names, slices.DeleteFunc(slices.Clone(spec.Names), func(id *ast.Ident) bool { return !id.IsExported() })...)
				}
			}
		}
	}

	return names
}

// receiverExported tells whether fn is a function or a method of an exported type.
func receiverExported(fn *ast.FuncDecl) bool {
	if fn.Recv == nil {
		return true
	}

	switch t := fn.Recv.List[0].Type.(type) {
	case *ast.StarExpr:
		return ast.IsExported(baseName(t.X))
	default:
		return ast.IsExported(baseName(t))
	}
}

// baseName is the name of a receiver's type without its type parameters.
func baseName(expr ast.Expr) string {
	switch t := expr.(type) {
	case *ast.IndexExpr:
		return baseName(t.X)
	case *ast.IndexListExpr:
		return baseName(t.X)
	case *ast.Ident:
		return t.Name
	default:
		return ""
	}
}
