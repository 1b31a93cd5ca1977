package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"strings"

	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/operator"
	"github.com/bmctl/bmctl/serve/trust"
)

// omniFlags choose which Omni, and as whom.
type omniFlags struct {
	omniconfig string
	context    string
	insecure   bool
	shared     *pflag.FlagSet // those whose value, left out, is serve's
}

func (f *omniFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.omniconfig, "omniconfig", "", "omnictl's configuration `FILE`, when $OMNI_SERVICE_ACCOUNT_KEY is not set (default omnictl's own)")
	flags.StringVar(&f.context, "context", "", "`NAME` of the context in it (default the current one)")
	flags.BoolVar(&f.insecure, "insecure-skip-tls-verify", false, "accept any certificate of Omni")

	f.shared = sharedWithServe()
	flags.AddFlagSet(f.shared)
}

// extraCAFlag is serve's flag, of the people's commands too.
const extraCAFlag = "extra-ca-file"

func sharedWithServe() *pflag.FlagSet {
	flags := pflag.NewFlagSet("shared with serve", pflag.ContinueOnError)
	flags.String(extraCAFlag, "", "`FILE` of CA certificates to trust besides the system's (default that of serve)")

	return flags
}

// roots are whom to trust: the file is the flag's, else the one that serve would
// take from the environment or the configuration file.
func (a *app) roots(f omniFlags) (*x509.CertPool, error) {
	flags := f.shared
	if flags == nil {
		flags = sharedWithServe()
	}

	values := maps.Clone(a.file.Serve)
	maps.DeleteFunc(values, func(name string, _ config.Value) bool { return name != extraCAFlag })

	if _, problems := config.Resolve(flags, config.Source{Env: a.env, Path: a.file.Path, Values: values}); len(problems) > 0 {
		return nil, problems
	}

	roots, err := trust.Roots(flags.Lookup(extraCAFlag).Value.String())
	if err != nil {
		return nil, invalid([]string{oneLine("--" + extraCAFlag + ": " + err.Error())})
	}

	return roots, nil
}

func (a *app) connectOmni(ctx context.Context, f omniFlags) (*operator.Client, error) {
	roots, err := a.roots(f)
	if err != nil {
		return nil, err
	}

	return operator.Connect(ctx, operator.Config{
		Endpoint:              a.env("OMNI_ENDPOINT"),
		ServiceAccountKey:     power.NewSecret(a.env("OMNI_SERVICE_ACCOUNT_KEY")),
		File:                  f.omniconfig,
		Context:               f.context,
		Roots:                 roots,
		InsecureSkipTLSVerify: f.insecure,
	})
}

// omniFailure makes a failure of what operator returned: its kind decides, not
// what its cause may wrap.
func omniFailure(err error) (*failure, bool) {
	var omni *operator.Error
	if !errors.As(err, &omni) {
		return nil, false
	}

	f := &failure{code: codeOmniFailed, message: oneLine(omni.Error()), target: omni.Machine, hint: omni.Hint, err: err}

	for _, kind := range []kindOfError{
		{operator.ErrConfig, codeConfigInvalid, "set OMNI_ENDPOINT and OMNI_SERVICE_ACCOUNT_KEY, or choose an omniconfig context with --context"},
		{operator.ErrAuth, codeOmniAuth, "check OMNI_SERVICE_ACCOUNT_KEY, or log in with omnictl"},
		{operator.ErrPermission, codeOmniAuth, ""},
		{operator.ErrUnreachable, codeOmniUnreachable, "check OMNI_ENDPOINT"},
		{operator.ErrNotFound, codeNoMatch, "bmctl machines"},
		{operator.ErrRefused, codeRefused, ""},
		{operator.ErrPending, codeTimeout, ""},
		{operator.ErrCanceled, codeInterrupted, ""},
	} {
		if errors.Is(omni.Kind, kind.err) {
			f.code = kind.code
			if f.hint == "" {
				f.hint = kind.hint
			}
		}
	}

	return f, true
}

// oneLine keeps an error, which may be another program's, on its line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
