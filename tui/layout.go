package tui

// The smallest screen on which there is anything to see.
const (
	minWidth  = 60
	minHeight = 15
)

// rect is a part of the screen: whole lines from Y on.
type rect struct{ Y, H int }

// rects are the parts of the screen, from top to bottom; those without lines are
// not shown.
type rects struct {
	Header, Notice, Filter, Heads, Table, Title, Pane, Status, Footer rect
}

// showing is what the model would like to show.
type showing struct {
	notice, filter bool
	// open is the machine's pane in place of the table.
	open bool
	// rows is how many lines the table would fill; the pane gets what is left.
	rows int
}

// headsAndGap are the lines around the table: the heads, a blank line and one
// more, and the pane's title.
const headsAndGap = 4

// fewest are the lines that the table has at least.
const fewest = 6

// The pane stands below the table where at least so many lines are left for
// both.
const (
	splitWidth  = 100
	splitHeight = 26
)

// layout divides a screen of w columns and h lines. On one that is too small
// there is one line, the header.
func layout(w, h int, what showing) rects {
	if w < minWidth || h < minHeight {
		return rects{Header: rect{0, min(1, max(0, h))}}
	}

	var r rects

	y := 0
	take := func(lines int) rect {
		part := rect{y, lines}
		y += lines

		return part
	}

	r.Header = take(1)
	r.Notice = take(one(what.notice))
	r.Filter = take(one(what.filter))

	const below = 2 // status and footer

	free := h - y - below
	pane := 0

	switch {
	case what.open:
		pane = free - 1
	case w >= splitWidth && h >= splitHeight:
		pane = max(10, free*2/5, free-max(what.rows, fewest)-headsAndGap)
	}

	if !what.open {
		r.Heads = take(1)
		free--

		if pane > 0 {
			free -= pane + 2 // a blank line and the title
		}

		r.Table = take(free)
	}

	if pane > 0 {
		y += one(!what.open) // the blank line
		r.Title = take(1)
		r.Pane = take(pane)
	}

	r.Status, r.Footer = take(1), take(1)

	return r
}

func one(yes bool) int {
	if yes {
		return 1
	}

	return 0
}
