package hosts

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxDigits keeps every number of a range within an int64.
const maxDigits = 18

// split cuts at the commas outside brackets.
func split(list string) ([]string, error) {
	var items []string

	start, depth := 0, 0

	for i, r := range list {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case r == ',' && depth == 0:
			items = append(items, list[start:i])
			start = i + 1
		}

		if depth < 0 || depth > 1 {
			return nil, fmt.Errorf("unexpected %q", r)
		}
	}

	if depth != 0 {
		return nil, errors.New("[ without ]")
	}

	return append(items, list[start:]), nil
}

// pattern is an item in pieces: literal text, each but the last followed by
// ranges.
type pattern []piece

type piece struct {
	text   string
	ranges []span // empty in the last piece
}

// span is a closed range of numbers, printed with at least width digits.
type span struct {
	low, high int64
	width     int
}

func parse(item string) (pattern, error) {
	if strings.HasPrefix(item, "[") && strings.Contains(item[:strings.Index(item, "]")], ":") {
		return literalAddress(item)
	}

	var p pattern

	for {
		text, rest, more := strings.Cut(item, "[")
		if text != "" && !Valid(text) {
			return nil, fmt.Errorf("unexpected character in %q", text)
		}

		if !more {
			p = append(p, piece{text: text})

			break
		}

		inside, after, _ := strings.Cut(rest, "]") // split saw that they match

		ranges, err := spans(inside)
		if err != nil {
			return nil, err
		}

		p = append(p, piece{text: text, ranges: ranges})
		item = after
	}

	if len(p) == 1 && p[0].text == "" {
		return nil, errors.New("empty item")
	}

	return p, nil
}

// literalAddress accepts [fd00::1] and [fd00::1]:623.
func literalAddress(item string) (pattern, error) {
	address, port, _ := strings.Cut(strings.TrimPrefix(item, "["), "]")
	if _, err := netip.ParseAddr(address); err != nil {
		return nil, fmt.Errorf("%q is not an address", address)
	}

	if port != "" {
		number, ok := strings.CutPrefix(port, ":")
		if _, err := strconv.ParseUint(number, 10, 16); !ok || err != nil {
			return nil, fmt.Errorf("%q is not a port", port)
		}
	}

	return pattern{{text: item}}, nil
}

func spans(list string) ([]span, error) {
	var ranges []span

	for part := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}

		s, err := newSpan(low, high)
		if err != nil {
			return nil, fmt.Errorf("range [%s]: %w", part, err)
		}

		ranges = append(ranges, s)
	}

	return ranges, nil
}

func newSpan(low, high string) (span, error) {
	first, err := number(low)
	if err != nil {
		return span{}, err
	}

	last, err := number(high)
	if err != nil {
		return span{}, err
	}

	if last < first {
		return span{}, errors.New("its end is before its start")
	}

	width := 0
	if padded(low) {
		width = len(low)
	}

	if padded(high) && len(high) != width {
		return span{}, errors.New("its ends have different leading zeros")
	}

	return span{low: first, high: last, width: width}, nil
}

func padded(digits string) bool { return len(digits) > 1 && digits[0] == '0' }

func number(digits string) (int64, error) {
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a number", digits)
	}

	if len(digits) > maxDigits {
		return 0, fmt.Errorf("a number of more than %d digits", maxDigits)
	}

	return strconv.ParseInt(digits, 10, 64)
}

// count is how many names the pattern stands for; -1 when there are more than
// 2^31.
func (p pattern) count() int {
	const most = int64(1) << 31

	total := int64(1)

	for _, piece := range p {
		if len(piece.ranges) == 0 {
			continue
		}

		var choices int64

		for _, s := range piece.ranges {
			choices += s.high - s.low + 1
			if choices > most {
				return -1
			}
		}

		if total *= choices; total > most {
			return -1
		}
	}

	return int(total)
}

func (p pattern) each(prefix string, yield func(string)) {
	prefix += p[0].text

	if len(p) == 1 {
		yield(prefix)

		return
	}

	for _, s := range p[0].ranges {
		for n := s.low; n <= s.high; n++ {
			p[1:].each(prefix+pad(n, s.width), yield)
		}
	}
}

func pad(n int64, width int) string { return fmt.Sprintf("%0*d", width, n) }
