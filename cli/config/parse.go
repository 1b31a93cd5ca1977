package config

import (
	"encoding/csv"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Parse reads a configuration; path stands in the problems only. The error is a
// Problems with everything that is wrong.
func Parse(path string, data []byte) (File, error) {
	p := parsing{file: File{Path: path}, sections: map[string]ast.Node{}}
	p.document(data)

	if len(p.problems) == 0 {
		p.validate()
	}

	if len(p.problems) > 0 {
		p.problems.sort()

		return File{}, p.problems
	}

	return p.file, nil
}

type parsing struct {
	file     File
	sections map[string]ast.Node // by top-level key, for positions
	problems Problems
}

func (p *parsing) add(node ast.Node, format string, args ...any) {
	problem := Problem{Path: p.file.Path, Text: fmt.Sprintf(format, args...)}

	problem.Line, problem.Column = place(node)
	p.problems = append(p.problems, problem)
}

// place is where a node begins. The token of a block mapping is the colon
// behind its first key.
func place(node ast.Node) (line, column int) {
	if mapping, ok := node.(*ast.MappingNode); ok && !mapping.IsFlowStyle && len(mapping.Values) > 0 {
		node = mapping.Values[0].Key
	}

	if node == nil || node.GetToken() == nil {
		return 0, 0
	}

	return node.GetToken().Position.Line, node.GetToken().Position.Column
}

// fail records an error of the YAML library by its position and message; its
// own text is an excerpt of several lines.
func (p *parsing) fail(err error) {
	problem := Problem{Path: p.file.Path, Text: err.Error()}

	var yamlErr yaml.Error
	if errors.As(err, &yamlErr) {
		problem.Text = yamlErr.GetMessage()

		var typeErr *yaml.TypeError
		if errors.As(err, &typeErr) {
			problem.Text = fmt.Sprintf("expected %s, found %s", typeErr.DstType, typeErr.SrcType)
		}

		if token := yamlErr.GetToken(); token != nil {
			problem.Line, problem.Column = token.Position.Line, token.Position.Column
		}
	}

	problem.Text, _, _ = strings.Cut(problem.Text, "\n")
	p.problems = append(p.problems, problem)
}

func (p *parsing) document(data []byte) {
	parsed, err := parser.ParseBytes(data, 0)
	if err != nil {
		p.fail(err)

		return
	}

	if len(parsed.Docs) > 1 {
		p.add(parsed.Docs[1].Body, "a second document: the configuration is one")
	}

	if len(parsed.Docs) == 0 || parsed.Docs[0].Body == nil {
		return
	}

	top, ok := parsed.Docs[0].Body.(ast.MapNode)
	if !ok {
		if _, empty := parsed.Docs[0].Body.(*ast.CommentGroupNode); !empty {
			p.add(parsed.Docs[0].Body, "expected a mapping with hosts, groups, credentials, machines and serve")
		}

		return
	}

	p.file.Settings, p.file.Serve = map[string]Value{}, map[string]Value{}

	for entries := top.MapRange(); entries.Next(); {
		p.section(key(entries.Key()), entries.Key(), entries.Value())
	}
}

func (p *parsing) section(name string, at, node ast.Node) {
	p.sections[name] = node

	if node.Type() == ast.NullType {
		return // "hosts:" with nothing below
	}

	switch name {
	case "hosts":
		decodeMap(p, node, &p.file.Hosts)
	case "groups":
		decodeMap(p, node, &p.file.Groups)
	case "credentials":
		decodeMap(p, node, &p.file.Credentials)
	case "machines":
		p.decode(node, &p.file.Machines)
	case "serve":
		p.serve(node)
	default:
		value, ok := p.value(node)
		if !ok {
			p.add(at, "unknown section %q", name)

			return
		}

		value.Line, value.Column = place(at)
		p.file.Settings[name] = value
	}
}

func (p *parsing) decode(node ast.Node, into any) {
	if err := yaml.NodeToValue(node, into, yaml.Strict()); err != nil {
		p.fail(err)
	}
}

// decodeMap decodes a whole section at once, so that aliases within it work.
// When that fails it goes entry by entry, to tell all that is wrong.
func decodeMap[T any](p *parsing, node ast.Node, into *map[string]T) {
	whole := yaml.NodeToValue(node, into, yaml.Strict())
	if whole == nil {
		return
	}

	entries, ok := node.(ast.MapNode)
	if !ok {
		p.fail(whole)

		return
	}

	before := len(p.problems)

	for each := entries.MapRange(); each.Next(); {
		var entry T

		p.decode(each.Value(), &entry)
	}

	if len(p.problems) == before {
		p.fail(whole)
	}
}

func (p *parsing) serve(node ast.Node) {
	entries, ok := node.(ast.MapNode)
	if !ok {
		p.add(node, "serve: expected a mapping of flags without dashes")

		return
	}

	for each := entries.MapRange(); each.Next(); {
		value, ok := p.value(each.Value())
		if !ok {
			p.add(each.Key(), "serve: %s: expected one value or a list of them", key(each.Key()))

			continue
		}

		value.Line, value.Column = place(each.Key())
		p.file.Serve[key(each.Key())] = value
	}
}

// value reads a scalar, or a list of scalars as flags take it.
func (p *parsing) value(node ast.Node) (Value, bool) {
	list, isList := node.(*ast.SequenceNode)
	if !isList {
		text, ok := scalar(node)

		return Value{Text: text}, ok
	}

	items := make([]string, 0, len(list.Values))

	for _, item := range list.Values {
		text, ok := scalar(item)
		if !ok {
			return Value{}, false
		}

		items = append(items, text)
	}

	var text strings.Builder

	writer := csv.NewWriter(&text)
	if err := writer.Write(items); err != nil {
		return Value{}, false
	}

	writer.Flush()

	return Value{Text: strings.TrimSuffix(text.String(), "\n")}, true
}

// scalar returns the text as it is written, so that a duration, a number and a
// version all reach their flag unchanged.
func scalar(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.TagNode, *ast.AnchorNode, *ast.AliasNode, *ast.NullNode:
		return "", false
	case ast.ScalarNode:
		return n.GetToken().Value, true
	default:
		return "", false
	}
}

func key(node ast.MapKeyNode) string {
	if text, ok := node.(*ast.StringNode); ok {
		return text.Value
	}

	return node.GetToken().Value
}

// at returns the node that the keys lead to below a section, or the last one
// that exists on the way.
func (p *parsing) at(section string, keys ...string) ast.Node {
	node := p.sections[section]

	for _, wanted := range keys {
		entries, ok := node.(ast.MapNode)
		if !ok {
			return node
		}

		var found ast.Node

		for each := entries.MapRange(); each.Next(); {
			if key(each.Key()) == wanted {
				found = each.Value()
			}
		}

		if found == nil {
			return node
		}

		node = found
	}

	return node
}
