package cli

import (
	"fmt"
	"io"
)

// progress counts on the terminal while rows are gathered that are shown folded
// at the end. It is erased then.
type progress struct {
	w           io.Writer // nil: nobody looks
	done, total int
}

// progress shows one where the rows of that many targets are folded and somebody
// looks at a terminal that can erase.
func (a *app) progress(targets int, noFold bool) *progress {
	p := &progress{total: targets}
	if a.folds(targets, noFold) && terminal(a.stderr) && !a.global.quiet && a.env("TERM") != "dumb" {
		p.w = a.stderr
	}

	return p
}

func (p *progress) step() {
	p.done++

	if p.w != nil {
		fmt.Fprintf(p.w, "\r\x1b[K%d of %d", p.done, p.total) //nolint:errcheck // nothing is lost without
	}
}

func (p *progress) end() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K") //nolint:errcheck // ECMA-48: erase the line
	}
}
