package hosts

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Fold writes the names as one short host list: r1n01, r1n02 and r1n03 become
// r1n[01-03]. Names fold over their last number. The list is sorted as Compare
// does, without duplicates; Expand gives the same names back.
func Fold(names []string) string {
	names = slices.Clone(names)
	slices.SortFunc(names, Compare)
	names = slices.Compact(names)

	widths := paddedWidths(names)

	var order []family

	members := map[family][]int64{}

	for _, name := range names {
		f, n := familyOf(name, widths)
		if members[f] == nil {
			order = append(order, f)
		}

		members[f] = append(members[f], n)
	}

	items := make([]string, 0, len(order))
	for _, f := range order {
		items = append(items, f.write(members[f]))
	}

	return strings.Join(items, ",")
}

// family is what names have in common that differ in one number: the text
// around it and the width it is padded to.
type family struct {
	prefix, suffix string
	width          int
	literal        bool // no number to fold over; prefix is the whole name
}

type stem struct{ prefix, suffix string }

// paddedWidths finds the widths that leading zeros prove, longest first.
func paddedWidths(names []string) map[stem][]int {
	widths := map[stem][]int{}

	for _, name := range names {
		prefix, digits, suffix := cutLastNumber(name)
		key := stem{prefix, suffix}

		if padded(digits) && !slices.Contains(widths[key], len(digits)) {
			widths[key] = append(widths[key], len(digits))
		}
	}

	for _, list := range widths {
		slices.SortFunc(list, func(a, b int) int { return cmp.Compare(b, a) })
	}

	return widths
}

// familyOf puts a number without leading zeros with the widest padding that
// would print it unchanged, so that 08, 09 and 10 stay together.
func familyOf(name string, widths map[stem][]int) (family, int64) {
	prefix, digits, suffix := cutLastNumber(name)

	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || len(digits) > maxDigits || strings.ContainsAny(name, "[]") {
		return family{prefix: name, literal: true}, 0
	}

	f := family{prefix: prefix, suffix: suffix}

	if padded(digits) {
		f.width = len(digits)

		return f, n
	}

	for _, width := range widths[stem{prefix, suffix}] {
		if width <= len(digits) {
			f.width = width

			break
		}
	}

	return f, n
}

func cutLastNumber(name string) (prefix, digits, suffix string) {
	const all = "0123456789"

	end := strings.LastIndexAny(name, all) + 1
	start := len(strings.TrimRight(name[:end], all))

	return name[:start], name[start:end], name[end:]
}

func (f family) write(numbers []int64) string {
	if f.literal {
		return f.prefix
	}

	if len(numbers) == 1 {
		return f.prefix + pad(numbers[0], f.width) + f.suffix
	}

	slices.Sort(numbers)

	var ranges []string

	for start := 0; start < len(numbers); {
		end := start
		for end+1 < len(numbers) && numbers[end+1] == numbers[end]+1 {
			end++
		}

		text := pad(numbers[start], f.width)
		if end > start {
			text += "-" + pad(numbers[end], f.width)
		}

		ranges = append(ranges, text)
		start = end + 1
	}

	return f.prefix + "[" + strings.Join(ranges, ",") + "]" + f.suffix
}

// Compare orders names as people do: r1n2 before r1n10. Names that differ only
// in leading zeros are ordered by their bytes.
func Compare(a, b string) int {
	x, y := a, b

	for x != "" && y != "" {
		cx, restX := chunk(x)
		cy, restY := chunk(y)

		if order := compareChunks(cx, cy); order != 0 {
			return order
		}

		x, y = restX, restY
	}

	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(a, b))
}

// chunk cuts the leading run of digits, or of anything else.
func chunk(s string) (string, string) {
	digits := isDigit(s[0])

	end := 1
	for end < len(s) && isDigit(s[end]) == digits {
		end++
	}

	return s[:end], s[end:]
}

func compareChunks(a, b string) int {
	if !isDigit(a[0]) || !isDigit(b[0]) {
		return cmp.Compare(a, b)
	}

	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")

	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
