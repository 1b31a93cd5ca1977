package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
)

// failure is an error with all that the user is told of it.
type failure struct {
	code     code
	message  string
	target   string   // the machine, if it is about one
	hint     string   // the next command, or empty
	usage    string   // the command's use line, after a usage error
	problems []string // each gets a line of its own; message sums them up
	exit     int      // when not the code's own
	err      error
}

// Error implements error.
func (f *failure) Error() string { return f.message }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.err }

func failf(kind code, hint, format string, args ...any) *failure {
	err := fmt.Errorf(format, args...)

	return &failure{code: kind, message: err.Error(), hint: hint, err: errors.Unwrap(err)}
}

// usagef is wrong use of the command line, before anything was done.
func usagef(format string, args ...any) *failure { return failf(codeUsage, "", format, args...) }

// invalid is a configuration with problems; each is told.
func invalid(problems []string) *failure {
	message := problems[0]
	if len(problems) > 1 {
		message = fmt.Sprintf("%d problems: %s", len(problems), strings.Join(problems, "; "))
	}

	return &failure{code: codeConfigInvalid, message: message, problems: problems}
}

// kindOfError ties the kinds of the packages below to codes and to what the
// user can do.
type kindOfError struct {
	err  error
	code code
	hint string
}

func knownErrors() []kindOfError {
	return []kindOfError{
		{localapi.ErrNotRunning, codeServeDown, "start it with bmctl serve, or name its socket with --socket"},
		{localapi.ErrPermission, codeServeDenied, "be in the group of the socket (bmctl serve --socket-group), or root"},
		{localapi.ErrNotFound, codeNoMatch, "bmctl machines"},
		{localapi.ErrRefused, codeRefused, ""},
		{localapi.ErrInvalid, codeUsage, ""},
		{localapi.ErrInCluster, codeRefused, ""},
		{localapi.ErrNotYet, codeNotYet, "try again in a moment"},
		{power.ErrUnreachable, codeBMCUnreachable, ""},
		{power.ErrAuth, codeBMCAuth, ""},
		{power.ErrBusy, codeBMCBusy, ""},
		{power.ErrRefused, codeBMCRefused, ""},
		{power.ErrUnsupported, codeBMCUnsupported, ""},
		{power.ErrAmbiguous, codeBMCAmbiguous, ""},
		{context.DeadlineExceeded, codeTimeout, ""},
		{context.Canceled, codeInterrupted, ""},
	}
}

// classify makes a failure of any error.
func classify(err error) *failure {
	var known *failure
	if errors.As(err, &known) {
		return known
	}

	var problems config.Problems
	if errors.As(err, &problems) {
		lines := make([]string, len(problems))
		for i, problem := range problems {
			lines[i] = problem.String()
		}

		return invalid(lines)
	}

	if f, ok := omniFailure(err); ok {
		return f
	}

	for _, kind := range knownErrors() {
		if errors.Is(err, kind.err) {
			return &failure{code: kind.code, message: err.Error(), hint: kind.hint, err: err}
		}
	}

	return &failure{code: codeInternal, message: err.Error(), err: err}
}

// finish reports the error, if any, and returns the exit code.
func (a *app) finish(ctx context.Context, args []string, err error) int {
	if err == nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, fs.ErrClosed) {
		return exitDone // a reader that went away has what it wanted
	}

	var child *childExit
	if errors.As(err, &child) {
		return child.code // it said itself what went wrong
	}

	f := classify(err)
	if f.code == codeInterrupted && !interrupted(ctx) {
		f.code = codeInternal
	}

	if interrupted(ctx) && f.code != codeSomeFailed {
		f = &failure{code: codeInterrupted, message: "interrupted"}
	}

	exit := cmp.Or(f.exit, codes()[f.code].exit)
	if a.wantsJSON(args) {
		a.reportJSON(f, exit)
	} else {
		a.report(f)
	}

	return exit
}

func (a *app) report(f *failure) {
	var text strings.Builder

	problems := f.problems
	if len(problems) == 0 {
		problems = []string{f.message}
	}

	for _, problem := range problems {
		text.WriteString("bmctl: error: " + out.Clean(problem) + "\n")
	}

	if f.usage != "" {
		text.WriteString("usage: " + f.usage + "\n")
	}

	if f.hint != "" && !a.global.quiet {
		text.WriteString("bmctl: hint: " + out.Clean(f.hint) + "\n")
	}

	fmt.Fprint(a.stderr, text.String()) //nolint:errcheck // nowhere left to say it
}

type errorDocument struct {
	Error errorBody `json:"error"`
}

type errorBody struct {
	Code      code     `json:"code"`
	Exit      int      `json:"exit"`
	Message   string   `json:"message"`
	Target    string   `json:"target"`
	Hint      string   `json:"hint"`
	Retryable bool     `json:"retryable"`
	Problems  []string `json:"problems,omitempty"`
}

func (a *app) reportJSON(f *failure, exit int) {
	document := errorDocument{errorBody{
		Code: f.code, Exit: exit, Message: f.message, Target: f.target, Hint: f.hint,
		Retryable: codes()[f.code].retryable, Problems: f.problems,
	}}

	data, err := json.Marshal(document)
	if err != nil {
		data = []byte(f.message)
	}

	fmt.Fprintln(a.stderr, string(data)) //nolint:errcheck // nowhere left to say it
}

// wantsJSON looks at the arguments themselves too: a usage error may come before
// their flags were read.
func (a *app) wantsJSON(args []string) bool {
	if a.global.output == out.JSON || a.env(config.EnvName("output")) == string(out.JSON) && a.global.output == "" {
		return true
	}

	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}

	for i, arg := range args {
		if arg == "-ojson" || arg == "-o=json" || arg == "--output=json" || i > 0 && arg == "json" && (args[i-1] == "-o" || args[i-1] == "--output") {
			return true
		}
	}

	return false
}
