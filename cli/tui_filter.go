package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/bmctl/bmctl/tui"
)

// Filter implements tui.Source. Terms are separated by spaces and all must hold:
// a word stands anywhere in the machine's texts; age>1h and latency<50ms compare
// times; everything else is a selector, where columns count as labels.
func (s *tuiSource) Filter(expr string) (func(tui.Row) bool, error) {
	var terms []func(*tui.Row) bool

	for _, text := range splitTerms(expr) {
		term, err := parseTerm(text)
		if err != nil {
			return nil, err
		}

		terms = append(terms, term)
	}

	return func(r tui.Row) bool {
		for _, term := range terms {
			if !term(&r) {
				return false
			}
		}

		return true
	}, nil
}

// splitTerms splits at spaces outside of parentheses: status in (ready, running)
// stays together when it is written without spaces around in: it may not be, so
// the words in and notin bind their neighbours.
func splitTerms(expr string) []string {
	depth := 0
	words := strings.FieldsFunc(expr, func(r rune) bool {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}

		return depth <= 0 && unicode.IsSpace(r)
	})

	var terms []string

	for i := 0; i < len(words); i++ {
		if i+2 < len(words) && (words[i+1] == "in" || words[i+1] == "notin") && strings.HasPrefix(words[i+2], "(") {
			terms = append(terms, strings.Join(words[i:i+3], " "))
			i += 2

			continue
		}

		terms = append(terms, words[i])
	}

	return terms
}

func parseTerm(text string) (func(*tui.Row) bool, error) {
	if term, ok, err := parseTimeTerm(text); ok {
		return term, err
	}

	if !strings.ContainsAny(text, "=!<>,(") {
		word := strings.ToLower(text)

		return func(r *tui.Row) bool { return mentions(r, word) }, nil
	}

	selector, err := labels.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}

	return func(r *tui.Row) bool { return selector.Matches(rowLabels{r}) }, nil
}

// parseTimeTerm reads age>1h and latency<50ms.
func parseTimeTerm(text string) (term func(*tui.Row) bool, ok bool, err error) {
	at := strings.IndexAny(text, "<>")
	if at < 0 {
		return nil, false, nil
	}

	var value func(*tui.Row) (time.Duration, bool)

	switch text[:at] {
	case "age":
		value = func(r *tui.Row) (time.Duration, bool) { return time.Since(r.LastEventAt), !r.LastEventAt.IsZero() }
	case "latency":
		value = func(r *tui.Row) (time.Duration, bool) { return r.BMC.Latency, r.BMC.Latency > 0 }
	default:
		return nil, false, nil
	}

	limit, err := parseAge(text[at+1:])
	if err != nil {
		return nil, true, fmt.Errorf("%q: want a duration such as 30s, 1h or 12d", text)
	}

	more := text[at] == '>'

	return func(r *tui.Row) bool {
		d, known := value(r)

		return known && d != limit && (d > limit) == more
	}, true, nil
}

// parseAge is a Go duration, or days as the table writes them.
func parseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		d, err := time.ParseDuration(days + "h")

		return 24 * d, err
	}

	return time.ParseDuration(text)
}

// mentions tells whether any text of the machine has the word, which is in lower
// case.
func mentions(r *tui.Row, word string) bool {
	for _, text := range [...]string{
		r.Name, r.ID, r.Power, r.Stage, r.Status, r.Cluster, r.Talos, r.BMC.Protocol, r.BMC.Address, r.LastEvent, r.Reason, r.MAC, r.Address, r.Serial,
	} {
		if strings.Contains(strings.ToLower(text), word) {
			return true
		}
	}

	for key, value := range r.Labels {
		if strings.Contains(strings.ToLower(key+"="+value), word) {
			return true
		}
	}

	return false
}

// rowLabels are a machine's labels and, behind them, its columns.
type rowLabels struct{ *tui.Row }

var _ labels.Labels = rowLabels{}

// Has implements labels.Labels.
func (r rowLabels) Has(key string) bool {
	_, ok := r.Lookup(key)

	return ok
}

// Get implements labels.Labels.
func (r rowLabels) Get(key string) string {
	value, _ := r.Lookup(key)

	return value
}

// Lookup implements labels.Labels. A column that is empty is not there.
func (r rowLabels) Lookup(key string) (string, bool) {
	if value, ok := r.Labels[key]; ok {
		return value, true
	}

	value := map[bool]string{true: "true", false: "false"}

	var column string

	switch key {
	case "machine", "name":
		column = r.Name
	case "id":
		column = r.ID
	case "power":
		column = r.Power
	case "stage":
		column = r.Stage
	case "status":
		column = r.Status
	case "cluster":
		column = r.Cluster
	case "talos":
		column = r.Talos
	case "bmc", "protocol":
		column = r.BMC.Protocol
	case "serial":
		column = r.Serial
	case "accepted":
		column = value[r.Accepted]
	case "installed":
		column = value[r.Installed]
	case "cordoned":
		column = value[r.Cordoned]
	}

	return column, column != ""
}
