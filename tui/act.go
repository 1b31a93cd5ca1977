package tui

import (
	"errors"
	"fmt"
	"iter"
	"os/exec"
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// actKey begins an act: with a menu, a confirmation, or why it cannot be.
func actKey(m Model, msg tea.KeyMsg) (Model, tea.Cmd, bool) {
	targets := m.targets()

	switch {
	case key.Matches(msg, m.keys.Power):
		m.openMenu("power", powerVerbs())
	case key.Matches(msg, m.keys.Boot):
		m.openMenu("boot", bootVerbs())
	case key.Matches(msg, m.keys.Accept):
		m.confirm(Accept, targets)
	case key.Matches(msg, m.keys.Reject):
		m.confirm(Reject, targets)
	case key.Matches(msg, m.keys.Cordon):
		m.confirm(cordonVerb(targets), targets)
	case key.Matches(msg, m.keys.Console):
		next, cmd := m.console()

		return next, cmd, true
	default:
		return m, nil, false
	}

	return m, nil, true
}

// openMenu offers the verbs. Where none of them can be had it says why, and is
// there nevertheless: the next key belongs to it.
func (m *Model) openMenu(title string, verbs []Verb) {
	targets := m.targets()
	if len(targets) > 0 {
		m.modal = menu{title, verbs}
	}

	if !slices.ContainsFunc(verbs, func(verb Verb) bool { return m.blocked(verb, targets) == "" }) {
		m.say(warn, title+": "+m.blocked(verbs[0], targets))
	}
}

// confirm asks before the verb is carried out, or says why it cannot be.
func (m *Model) confirm(verb Verb, targets []*row) {
	if why := m.blocked(verb, targets); why != "" {
		m.modal = nil
		m.say(warn, string(verb)+": "+why)

		return
	}

	order(targets, byMachine, false)

	can, why := m.able(verb, targets)
	m.modal = newConfirm(verb, can, why)
}

// do carries the verb out. Only a confirmation calls it.
func (m Model) do(verb Verb, ids []string, what string) (Model, tea.Cmd) {
	command := m.src.Equivalent(verb, ids...)
	if command == "" {
		command = what
	}

	m.record(strong, command)

	return m.begin(what, len(ids), func() iter.Seq[Result] { return m.src.Do(m.ctx, verb, ids...) })
}

// begin starts a job whose results come one by one.
func (m Model) begin(what string, total int, start func() iter.Seq[Result]) (Model, tea.Cmd) {
	m.jobSeq++
	id := m.jobSeq
	m.jobs = append(slices.Clone(m.jobs), job{id: id, what: clean(what), total: total})

	return m, func() tea.Msg {
		next, stop := iter.Pull(start())

		return pull(id, next, stop)()
	}
}

// pull waits for one result; its message carries the wait for the next.
func pull(id int, next func() (Result, bool), stop func()) tea.Cmd {
	return func() tea.Msg {
		result, ok := next()
		if !ok {
			stop()

			return doneMsg{id}
		}

		return resultMsg{id, result, pull(id, next, stop)}
	}
}

func (m Model) onResult(msg resultMsg) (Model, tea.Cmd) {
	r, text := plain, msg.result.Text
	failed := msg.result.Err != nil

	if failed {
		r, text = bad, strings.TrimSpace(text+" "+msg.result.Err.Error())
	}

	if msg.result.ID != "" || failed {
		text = oneLine(text)
	}

	if msg.result.ID != "" {
		text = m.nameOf(msg.result.ID) + "  " + text
	}

	m.record(r, strings.ReplaceAll(text, "\t", "    ")) // a command's columns stay

	if msg.result.ID != "" || failed || msg.job == 0 {
		m.say(r, oneLine(text)) // the others are in the log, which is open
	}

	m.jobs = slices.Clone(m.jobs)

	for i := range m.jobs {
		if m.jobs[i].id == msg.job {
			m.jobs[i].done++
			m.jobs[i].failed += one(failed)
		}
	}

	return m, msg.next
}

// onDone ends a job. One line of it is shown already; of several, the sum.
func (m Model) onDone(msg doneMsg) Model {
	i := slices.IndexFunc(m.jobs, func(j job) bool { return j.id == msg.job })
	if i < 0 {
		return m
	}

	j := m.jobs[i]
	m.jobs = slices.Delete(slices.Clone(m.jobs), i, i+1)

	if j.done > 1 && j.total > 0 {
		text, r := fmt.Sprintf("%s: %d done", j.what, j.done), good
		if j.failed > 0 {
			text, r = fmt.Sprintf("%s: %d of %d failed; L shows which", j.what, j.failed, j.done), bad
		}

		m.say(r, text)
		m.record(r, text)
	}

	return m
}

func (m *Model) nameOf(id string) string {
	if i, ok := m.byID[id]; ok {
		return m.rows[i].name()
	}

	return clean(firstBlock(id))
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// console hands the terminal over to the machine's console.
func (m Model) console() (Model, tea.Cmd) {
	targets := m.targets()
	if why := m.blocked(Console, targets); why != "" {
		m.say(warn, "console: "+why)

		return m, nil
	}

	cmd := m.src.Console(targets[0].raw)
	if cmd == nil {
		m.say(warn, "console: there is none for "+targets[0].name())

		return m, nil
	}

	m.record(strong, "console of "+targets[0].name())

	return m, tea.ExecProcess(cmd, func(err error) tea.Msg {
		result := Result{Text: "console closed"}
		if err != nil {
			result = Result{Text: "console:", Err: lastWords(cmd, err)}
		}

		return resultMsg{result: result}
	})
}

// lastWords is why a program failed: the last line that it said, if that is
// known.
func lastWords(cmd *exec.Cmd, err error) error {
	said, ok := cmd.Stderr.(fmt.Stringer)
	if !ok {
		return err
	}

	lines := strings.FieldsFunc(said.String(), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return err
	}

	return errors.New(lines[0])
}

// copyID puts the machine's id into the clipboard.
func (m Model) copyID() (Model, tea.Cmd) {
	r := m.at()
	if r == nil || m.opts.Copy == nil {
		m.say(warn, "there is nothing to copy, or nowhere to")

		return m, nil
	}

	id := r.raw
	m.say(plain, "copied "+r.ID)

	return m, func() tea.Msg {
		if err := m.opts.Copy(id); err != nil {
			return resultMsg{result: Result{Text: "copy:", Err: err}}
		}

		return nil
	}
}
