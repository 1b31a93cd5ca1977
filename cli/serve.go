package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/cli/collector"
	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve"
)

func (a *app) serveCommand() *cobra.Command {
	cfg := serve.DefaultConfig()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the provider until SIGTERM",
		Long: `Run the bare-metal infrastructure provider of Omni until SIGTERM.

Every flag is also read from BMCTL_<FLAG>, and from the section serve: of the
configuration file, without its dashes. The flags of the existing provider have
their names and defaults. The provider's key comes in OMNI_SERVICE_ACCOUNT_KEY, or
as systemd's credential omni-service-account-key.

--check looks whether it could run here. --dry-run prints what it would do to each
machine now, and why; it is safe beside a provider that runs.`,
		Example: "  bmctl serve --check\n  bmctl serve --dry-run -o wide",
		Args:    cobra.NoArgs,

		Annotations: map[string]string{resident: "true"},
	}

	var (
		unread []string
		trial  trialFlags
	)

	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	serveFlags(flags, &cfg)
	deferErrors(flags, &unread)
	cmd.Flags().AddFlagSet(flags)
	trial.add(cmd.Flags())
	cmd.SetUsageFunc(groupedUsage)

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		reportAtOnce(flags)

		if problems := append(unread, a.completeServe(flags, &cfg)...); len(problems) > 0 {
			return invalid(problems)
		}

		return a.serveOrTry(cmd.Context(), cfg, trial)
	}

	return cmd
}

// deferred is a flag whose wrong value is remembered instead of ending the
// parse, so that all that is wrong can be told at once.
type deferred struct {
	pflag.Value
	name     string
	problems *[]string
}

// Set implements pflag.Value.
func (d *deferred) Set(text string) error {
	if err := d.Value.Set(text); err != nil {
		*d.problems = append(*d.problems, fmt.Sprintf("--%s: %q: %v", d.name, text, err))
	}

	return nil
}

func deferErrors(flags *pflag.FlagSet, problems *[]string) {
	flags.VisitAll(func(flag *pflag.Flag) { flag.Value = &deferred{flag.Value, flag.Name, problems} })
}

// reportAtOnce ends deferErrors: what the environment and the file hold is told
// with the place where it stands.
func reportAtOnce(flags *pflag.FlagSet) {
	flags.VisitAll(func(flag *pflag.Flag) {
		if d, ok := flag.Value.(*deferred); ok {
			flag.Value = d.Value
		}
	})
}

// completeServe adds the environment, the file and the inventory to the
// configuration, and returns everything that is wrong with it.
func (a *app) completeServe(flags *pflag.FlagSet, cfg *serve.Config) []string {
	origins, problems := a.resolveServe(flags)

	var lines []string
	for _, problem := range problems {
		lines = append(lines, problem.String())
	}

	key, err := a.providerKey()
	if err != nil {
		lines = append(lines, oneLine(err.Error()))
	}

	cfg.OmniServiceAccountKey = key
	cfg.StateDirGiven = origins.Given("state-dir")
	cfg.MetricsAddressGiven = origins.Given("metrics-address")
	cfg.SocketPath, cfg.SocketGiven = a.global.socket, a.origins.Given("socket")
	cfg.StateDir = firstDir(cfg.StateDir)
	cfg.Version = buildVersion()
	cfg.NamesByID, cfg.NamesByAddress = a.file.NamesByID(), a.file.NamesByAddress()

	for _, m := range a.file.Machines {
		cfg.Machines = append(cfg.Machines, serve.MachineConfig{
			UUID: m.Match.ID, Serial: m.Match.Serial, MAC: m.Match.MAC, BootFromDiskMethod: boot.DiskMethod(m.BootFromDiskMethod),
		})
	}

	for _, problem := range cfg.Validate() {
		lines = append(lines, problem.String()+whence(origins[problem.Flag]))
	}

	return lines
}

// keyCredential is the provider's key among systemd's credentials.
const keyCredential = "omni-service-account-key"

// providerKey is the environment's, else that of systemd (systemd.exec(5),
// LoadCredential=). No key at all is for the validation to tell.
func (a *app) providerKey() (power.Secret, error) {
	dir := a.env("CREDENTIALS_DIRECTORY")
	if key := a.env("OMNI_SERVICE_ACCOUNT_KEY"); key != "" || dir == "" {
		return power.NewSecret(key), nil
	}

	key, err := os.ReadFile(filepath.Join(dir, keyCredential))
	if errors.Is(err, os.ErrNotExist) {
		return power.Secret{}, nil // the credentials are those of BMCs
	} else if err != nil {
		return power.Secret{}, fmt.Errorf("the provider's key: %w", err)
	}

	return power.NewSecret(strings.TrimSpace(string(key))), nil
}

// whence says where a value stands that is not on the command line.
func whence(origin string) string {
	if origin == "" || origin == config.OriginFlag || origin == config.OriginDefault {
		return ""
	}

	return " (from " + origin + ")"
}

// firstDir takes the first of the directories that systemd lists in
// STATE_DIRECTORY (systemd.exec(5)).
func firstDir(list string) string {
	if dirs := filepath.SplitList(list); len(dirs) > 0 {
		return dirs[0]
	}

	return list
}

func (a *app) serve(ctx context.Context, cfg serve.Config) error {
	collector.Frugal()

	level := slog.LevelInfo
	if cfg.Debug {
		level = slog.LevelDebug
	}

	server, err := serve.New(cfg, a.logger(level))
	if err != nil {
		return invalid([]string{oneLine(err.Error())})
	}

	err = server.Run(ctx)

	switch {
	case err == nil:
		return nil
	case errors.Is(err, serve.ErrCredentials):
		return refusedKey(err)
	default:
		return failf(codeServeFailed, "bmctl serve --check", "%w", err)
	}
}
