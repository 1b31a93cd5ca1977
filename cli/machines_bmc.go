package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/operator"
)

// bmcFlags are the flags of bmc set, rotate and test.
type bmcFlags struct {
	act         actFlags
	login       loginFlags
	address     string
	port        int
	redfishPort int
	protocol    string
	timeout     time.Duration
}

// bmcVerb is what is done about a machine's BMC access.
type bmcVerb string

const (
	bmcSet    bmcVerb = "set"
	bmcRotate bmcVerb = "rotate"
	bmcTest   bmcVerb = "test"
)

const bmcSecrets = `
The password comes from --password-file, $BMCTL_BMC_PASSWORD, --password-command,
the host's credentials in the configuration file, or is asked for, in this order.`

func (a *app) bmcCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bmc", Short: "Say how a machine's BMC is logged in to, after a login that proves it"}

	group(cmd)
	cmd.AddCommand(
		a.bmcVerbCommand(bmcSet, "Give serve a BMC's address and login, once they are proven", `Give serve the address and login of a machine's BMC. It logs in first, reads the power
state and compares the machine's id; only then Omni is told. serve uses it in place
of what it had as soon as the machine is accepted, and needs no agent for it.
`+bmcSecrets),
		a.bmcVerbCommand(bmcRotate, "Give serve the new password of a BMC, once it is proven", `Give serve the new password of a BMC whose login was set with bmctl machines bmc set:
address and user name stay. Change the password on the BMC first; this logs in with
the new one, and tells Omni only then.
`+bmcSecrets),
		a.bmcVerbCommand(bmcTest, "Log in to a machine's BMC and read its power state; nothing is changed", `Log in to a machine's BMC, read its power state and compare the machine's id. Without
flags the login is the one that bmctl machines bmc set gave to Omni, else that of the
configuration file.
`+bmcSecrets))

	return cmd
}

func (a *app) bmcVerbCommand(verb bmcVerb, short, long string) *cobra.Command {
	var f bmcFlags

	cmd := &cobra.Command{
		Use: string(verb) + " MACHINE", Short: short, Long: long + "\n" + needsOperator,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one machine")
			}

			return nil
		},
		ValidArgsFunction: a.completeMachines,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.bmc(cmd.Context(), verb, args[0], f) },
	}

	f.add(cmd.Flags(), verb)

	return cmd
}

func (f *bmcFlags) add(flags *pflag.FlagSet, verb bmcVerb) {
	f.act.omni.add(flags)

	if verb != bmcTest {
		flags.BoolVar(&f.act.dryRun, "dry-run", false, "test the login, and change nothing")
	}

	if verb != bmcRotate {
		flags.StringVar(&f.address, "address", "", "`IP` or host name of the BMC (default that of the inventory, else the one serve knows)")
		flags.IntVar(&f.port, "port", 0, "IPMI port (default 623)")
	}

	flags.IntVar(&f.redfishPort, "redfish-port", 0, "Redfish port, which is serve's --redfish-port (default 443)")
	choiceVar(flags, &f.protocol, "protocol", "NAME", "how the login is tested", "auto", "redfish", "ipmi")
	flags.DurationVar(&f.timeout, "timeout", power.DefaultTimeout, "how long the BMC may take")
	f.login.add(flags)
}

func (f bmcFlags) check() error {
	for name, port := range map[string]int{"port": f.port, "redfish-port": f.redfishPort} {
		if port < 0 || port > 65535 {
			return usagef("--%s: %d is not a port", name, port)
		}
	}

	return nil
}

// bmcResult is the document of bmc set, rotate and test.
type bmcResult struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // "BMCResult"
	ID         string `json:"id"`
	Name       string `json:"name"`
	Result     string `json:"result"` // ok, set, would-set or unchanged
	Address    string `json:"address"`
	Protocol   string `json:"protocol"`
	Version    string `json:"version"` // of the protocol
	Vendor     string `json:"vendor"`
	Model      string `json:"model"`
	Power      string `json:"power"`
}

func (a *app) bmc(ctx context.Context, verb bmcVerb, target string, f bmcFlags) error {
	if err := f.check(); err != nil {
		return err
	}

	targets, err := a.targets([]string{target})
	if err != nil {
		return err
	}

	omni, err := a.connectOmni(ctx, f.act.omni)
	if err != nil {
		return err
	}

	defer omni.Close() //nolint:errcheck // nothing is lost with it

	all, err := a.candidates(ctx, omni)
	if err != nil {
		return err
	}

	chosen, err := pick(targets, all)
	if err != nil {
		return err
	}

	if len(chosen) != 1 {
		return usagef("%s stands for %d machines: name one", target, len(chosen))
	}

	return a.bmcOf(ctx, omni, verb, chosen[0], f)
}

func (a *app) bmcOf(ctx context.Context, omni *operator.Client, verb bmcVerb, c candidate, f bmcFlags) error {
	stored, err := omni.BMC(ctx, c.ID)
	if err != nil && !errors.Is(err, operator.ErrNotFound) {
		return err
	}

	if verb == bmcRotate && stored.Username == "" {
		f := failf(codeRefused, "bmctl machines bmc set "+c.name, "%s: no login was set in Omni, so there is none to change", c.name)
		f.target = c.ID

		return f
	}

	login, err := a.bmcLogin(ctx, a.bmcSources(verb, c, stored, f))
	if err != nil {
		return err
	}

	result, err := tryLogin(ctx, login, f.timeout)
	if err != nil {
		return blameBMC(c, verb, err)
	}

	result.ID, result.Name, result.Result = c.ID, c.name, "ok"

	if verb != bmcTest {
		if result.Result, err = a.storeLogin(ctx, omni, c, stored, login, f, result); err != nil {
			return err
		}
	}

	return a.bmcReport(result)
}

// storeLogin tells Omni of a login that was proven, unless it knows it already.
func (a *app) storeLogin(
	ctx context.Context, omni *operator.Client, c candidate, stored operator.BMC, login power.Target, f bmcFlags, proven bmcResult,
) (string, error) {
	wanted := operator.BMC{
		Address: login.Address, Port: uint16(login.Port), Username: login.Username, Password: login.Password, //nolint:gosec // checked
	}

	a.note("login ok  %s", proven.line())

	switch {
	case wanted == stored:
		return "unchanged", nil
	case f.act.dryRun:
		return "would-set", nil
	default:
		return "set", omni.SetBMC(ctx, c.ID, wanted)
	}
}

// tryLogin logs in, reads the power state and makes sure that the machine behind
// the BMC is the one that is meant. It changes nothing.
func tryLogin(ctx context.Context, target power.Target, timeout time.Duration) (bmcResult, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	bmc, err := power.NewDialer(power.Options{}).Open(ctx, target)
	if err != nil {
		return bmcResult{}, err
	}

	defer bmc.Close() //nolint:errcheck // the session ends by itself at the latest

	state, err := bmc.State(ctx)
	if err != nil {
		return bmcResult{}, err
	}

	info, err := bmc.Info(ctx)
	if err != nil {
		return bmcResult{}, err
	}

	if info.UUID != "" && !strings.EqualFold(info.UUID, target.UUID) {
		return bmcResult{}, fmt.Errorf("%s: %w: the BMC at %s is that of the machine %s", target.Label(), power.ErrAmbiguous, info.AddressInUse, info.UUID)
	}

	return bmcResult{
		APIVersion: localapi.APIVersion, Kind: "BMCResult", Address: info.AddressInUse, Protocol: string(info.Protocol),
		Version: info.Version, Vendor: info.Vendor, Model: info.Model, Power: state.String(),
	}, nil
}

func blameBMC(c candidate, verb bmcVerb, err error) error {
	f := *classify(err)
	f.target = c.ID

	switch {
	case errors.Is(err, power.ErrAuth):
		f.hint = "check --username and the password; Omni was told nothing"
	case errors.Is(err, power.ErrAmbiguous):
		f.hint = "check --address: acting through this BMC would hit another machine"
	case errors.Is(err, power.ErrUnreachable) && verb != bmcRotate:
		f.hint = "check --address, --port and --redfish-port, and the way from here to the BMC"
	}

	return &f
}

func (r bmcResult) line() string {
	what := strings.Join(strings.Fields(r.Vendor+" "+r.Model), " ")

	return fmt.Sprintf("%s: %s %s at %s, %s, power %s", r.Name, r.Protocol, r.Version, r.Address, cmp.Or(what, "model unknown"), r.Power)
}

func (a *app) bmcReport(r bmcResult) error {
	if a.global.output.Machine() {
		return a.printer().Print(out.View{Document: r, Names: []string{r.ID}})
	}

	line := fmt.Sprintf("%-8s  %s", r.Result, r.Name)
	if r.Result == "ok" {
		line = fmt.Sprintf("%-8s  %s", r.Result, r.line())
	}

	_, err := fmt.Fprintln(a.stdout, out.Clean(line))

	return err
}
