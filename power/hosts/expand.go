// Package hosts reads and writes lists of hosts the way pdsh and ClusterShell
// do: r1n[01-16] stands for sixteen names.
package hosts

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// The kinds of failure of Expand.
var (
	// ErrSyntax: the expression cannot be read.
	ErrSyntax = errors.New("bad host list")
	// ErrTooMany: the expression stands for more hosts than the limit.
	ErrTooMany = errors.New("too many hosts")
	// ErrGroup: a group is unknown, or contains itself.
	ErrGroup = errors.New("bad group")
)

// DefaultLimit is how many hosts an expansion may have unless told otherwise:
// a /16 network.
const DefaultLimit = 1 << 16

// Options say what an expression may contain.
type Options struct {
	// Group returns the expression that @name stands for. Nil refuses groups.
	Group func(name string) (string, error)
	// Prefixes permits networks (10.0.3.0/26): all their addresses, without the
	// network's own and the broadcast address of an IPv4 network up to /30.
	Prefixes bool
	// Limit bounds the number of hosts, before exclusions; 0 is DefaultLimit.
	Limit int
}

// Expand returns the hosts that the expressions stand for, each once, in the
// order of their first mention.
//
// An expression is a list of items separated by commas:
//
//	r1n07             itself
//	r[1-2]n[01-16,20] every combination; the lower bound's leading zeros give the width
//	[fd00::1]:623     itself: brackets around a colon are an IPv6 address
//	@rack1            what Options.Group says
//	10.0.3.0/26       its addresses, with Options.Prefixes
//	^item             none of the item's hosts, wherever it stands
//
// A ^ at the start of an expression holds for all of that expression. Nothing
// is expanded before it is counted, so no expression costs more than the limit.
func Expand(exprs []string, options Options) ([]string, error) {
	if options.Limit == 0 {
		options.Limit = DefaultLimit
	}

	e := expander{options: options, include: newSet(), exclude: newSet(), open: map[string]bool{}}

	for _, expr := range exprs {
		if err := e.expr(expr); err != nil {
			return nil, err
		}
	}

	names := make([]string, 0, len(e.include.order))

	for _, name := range e.include.order {
		if !e.exclude.has[name] {
			names = append(names, name)
		}
	}

	return names, nil
}

// Valid tells whether name can stand in a host list as itself.
func Valid(name string) bool {
	for _, r := range name {
		if !nameRune(r) {
			return false
		}
	}

	return name != ""
}

func nameRune(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("._-:%", r)
}

type set struct {
	order []string
	has   map[string]bool
}

func newSet() *set { return &set{has: map[string]bool{}} }

func (s *set) add(name string) {
	if !s.has[name] {
		s.has[name] = true
		s.order = append(s.order, name)
	}
}

type expander struct {
	options          Options
	include, exclude *set
	open             map[string]bool // groups that are being expanded
	count            int
}

// expr expands a whole expression; a leading ^ excludes all of it.
func (e *expander) expr(expr string) error {
	rest, excluded := strings.CutPrefix(expr, "^")

	return e.list(expr, rest, excluded)
}

func (e *expander) list(expr, rest string, excluded bool) error {
	items, err := split(rest)
	if err != nil {
		return fmt.Errorf("%w %q: %w", ErrSyntax, expr, err)
	}

	for _, item := range items {
		item, minus := strings.CutPrefix(item, "^")
		if err := e.item(expr, item, excluded || minus); err != nil {
			return err
		}
	}

	return nil
}

func (e *expander) item(expr, item string, excluded bool) error {
	if name, ok := strings.CutPrefix(item, "@"); ok {
		return e.group(name, excluded)
	}

	if strings.Contains(item, "/") {
		return e.prefix(item, excluded)
	}

	parts, err := parse(item)
	if err != nil {
		return fmt.Errorf("%w %q: %w", ErrSyntax, expr, err)
	}

	if err := e.admit(expr, parts.count()); err != nil {
		return err
	}

	into := e.target(excluded)
	parts.each("", into.add)

	return nil
}

func (e *expander) target(excluded bool) *set {
	if excluded {
		return e.exclude
	}

	return e.include
}

// admit counts the hosts before they are made. An expression with more than an
// int holds counts as that many.
func (e *expander) admit(expr string, more int) error {
	if more < 0 || more > e.options.Limit-e.count {
		return fmt.Errorf("%w: %q goes beyond the limit of %d", ErrTooMany, expr, e.options.Limit)
	}

	e.count += more

	return nil
}

func (e *expander) group(name string, excluded bool) error {
	if e.options.Group == nil {
		return fmt.Errorf("%w @%s: groups have no meaning here", ErrGroup, name)
	}

	if e.open[name] {
		return fmt.Errorf("%w @%s: it contains itself", ErrGroup, name)
	}

	expr, err := e.options.Group(name)
	if err != nil {
		return fmt.Errorf("%w @%s: %w", ErrGroup, name, err)
	}

	e.open[name] = true
	defer delete(e.open, name)

	if !excluded {
		// Its own exclusions stay inside: "@a,^@b" takes b away from everything,
		// but a group "r[1-4],^r3" must not take r3 from its neighbours.
		return e.isolated(expr)
	}

	return e.list(expr, expr, true)
}

func (e *expander) isolated(expr string) error {
	inner := expander{options: e.options, include: newSet(), exclude: newSet(), open: e.open, count: e.count}
	if err := inner.expr(expr); err != nil {
		return err
	}

	e.count = inner.count

	for _, name := range inner.include.order {
		if !inner.exclude.has[name] {
			e.include.add(name)
		}
	}

	return nil
}

func (e *expander) prefix(item string, excluded bool) error {
	if !e.options.Prefixes {
		return fmt.Errorf("%w %q: networks can only be probed", ErrSyntax, item)
	}

	prefix, err := netip.ParsePrefix(item)
	if err != nil {
		return fmt.Errorf("%w %q: not a network like 10.0.3.0/26", ErrSyntax, item)
	}

	prefix = prefix.Masked()
	bits := prefix.Addr().BitLen() - prefix.Bits()

	count := -1
	if bits < 31 {
		count = 1 << bits
	}

	if err := e.admit(item, count); err != nil {
		return err
	}

	into := e.target(excluded)
	addr := prefix.Addr()

	for i := range count {
		edge := addr.Is4() && bits >= 2 && (i == 0 || i == count-1)
		if !edge {
			into.add(addr.String())
		}

		addr = addr.Next()
	}

	return nil
}
