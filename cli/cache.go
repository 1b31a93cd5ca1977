package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve"
	"github.com/bmctl/bmctl/serve/assetcache"
	"github.com/bmctl/bmctl/serve/factory"
)

// cacheSettings are serve's flags, of which the cache commands show a few; the rest
// comes from where serve's comes from, so that both mean the same directory and the
// same boot assets.
type cacheSettings struct {
	cfg   serve.Config
	flags *pflag.FlagSet
}

func newCacheSettings() *cacheSettings {
	s := &cacheSettings{cfg: serve.DefaultConfig(), flags: pflag.NewFlagSet("serve", pflag.ContinueOnError)}
	serveFlags(s.flags, &s.cfg)

	return s
}

// show makes flags of serve ones of the command.
func (s *cacheSettings) show(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		flags.AddFlag(s.flags.Lookup(name))
	}
}

func (a *app) cacheCommand() *cobra.Command {
	s := newCacheSettings()
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "List, fetch ahead and carry the boot assets that serve keeps on the disk",
		Long: `The boot assets of the Image Factory that serve keeps in --asset-cache-dir, which
the machines then load from serve. These commands read the section serve: of the
configuration file and BMCTL_<FLAG>, as serve does, and may run beside it.`,
	}
	group(cmd)
	s.show(cmd.PersistentFlags(), "asset-cache-dir", "asset-cache-size", extraCAFlag)
	cmd.AddCommand(a.cacheListCommand(s), a.cachePrefetchCommand(s), a.cacheExportCommand(s), a.cacheImportCommand(s))

	return cmd
}

// openCache opens the directory; one that is to be read only must be there.
func (a *app) openCache(s *cacheSettings, reading bool) (*assetcache.Cache, error) {
	if _, problems := a.resolveServe(s.flags); len(problems) > 0 {
		return nil, problems
	}

	if s.cfg.AssetCacheDir == "" {
		return nil, failf(codeUsage, "give the one of bmctl serve: --asset-cache-dir DIR, or asset-cache-dir in the file's section serve:",
			"there is no asset cache: --asset-cache-dir is not set")
	}

	if reading {
		if _, err := os.Stat(s.cfg.AssetCacheDir); err != nil {
			return nil, failf(codeNoMatch, "", "asset cache: %w", err)
		}
	}

	cache, err := serve.OpenCache(s.cfg, a.logger(slog.LevelError+1), func(text, reason string) { a.warn("%s: %s", text, reason) })

	if errors.Is(err, serve.ErrConfig) {
		return nil, invalid([]string{oneLine(err.Error())})
	}

	return cache, err
}

func (a *app) cacheListCommand(s *cacheSettings) *cobra.Command {
	var verify bool

	cmd := &cobra.Command{
		Use: "list", Short: "List the boot assets with sizes and digests", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := a.openCache(s, true)
			if err != nil {
				return err
			}
			defer cache.Close() //nolint:errcheck // nothing is being downloaded

			if verify {
				cache.Verify(cmd.Context())
			}

			return a.printer().Print(cacheView(cache.List(), time.Now()))
		},
	}
	cmd.Flags().BoolVar(&verify, "verify", false, "read all of them and drop those that were altered")

	return cmd
}

// assetList is the document of the cache commands.
type assetList struct {
	APIVersion string              `json:"apiVersion"`
	Kind       string              `json:"kind"` // "AssetList"
	Items      []assetcache.Listed `json:"items"`
}

func cacheView(assets []assetcache.Listed, now time.Time) out.View {
	view := out.View{
		Columns: []out.Column{{Head: "FILE"}, {Head: "VERSION"}, {Head: "SCHEMATIC"}, {Head: "SIZE"}, {Head: "USED"}, {Head: "SHA256", Wide: true}},
	}

	for _, asset := range assets {
		view.Rows = append(view.Rows, out.Text(asset.File, asset.Version, fmt.Sprintf("%.12s", asset.Schematic),
			humanize.IBytes(uint64(max(0, asset.Size))), out.Age(now.Sub(asset.Used)), asset.SHA256))
		view.Names = append(view.Names, asset.Path())
	}

	if assets == nil {
		assets = []assetcache.Listed{}
	}

	view.Document = assetList{APIVersion: "bmctl/v1", Kind: "AssetList", Items: assets}

	return view
}

// printStored shows those of the cache's assets that a command dealt with.
func (a *app) printStored(cache *assetcache.Cache, stored []assetcache.Asset) error {
	keys := map[assetcache.Key]bool{}
	for _, asset := range stored {
		keys[asset.Key] = true
	}

	list := slices.DeleteFunc(cache.List(), func(l assetcache.Listed) bool { return !keys[l.Key] })

	return a.printer().Print(cacheView(list, time.Now()))
}

func (a *app) cachePrefetchCommand(s *cacheSettings) *cobra.Command {
	var want serve.Prefetch

	cmd := &cobra.Command{
		Use:   "prefetch [VERSION...]",
		Short: "Download boot assets ahead of the first machine that needs them",
		Long: `Download what machines boot: agent mode, or Talos of the VERSIONs for clusters with
the given extensions and kernel arguments.

The address that machines are told is part of what the Image Factory makes for them:
--api-advertise-address, --api-port and the like must be those of the serve that
will use it.`,
		Example: "  bmctl cache prefetch --arch amd64\n  bmctl cache prefetch v1.13.8 --extension siderolabs/zfs",
		RunE: func(cmd *cobra.Command, versions []string) error {
			return a.cachePrefetch(cmd.Context(), s, want, versions)
		},
	}

	flags := cmd.Flags()
	choiceVar(flags, &want.Arch, "arch", "ARCH", "architecture of the machines", "amd64", "arm64")
	flags.StringSliceVar(&want.Extensions, "extension", nil, "official `EXTENSION` of the machines, as Omni has them")
	flags.StringArrayVar(&want.Args, "kernel-arg", nil, "further kernel `ARGUMENT` of the machines")
	s.show(flags, "api-advertise-address", "api-port", "agent-mode-talos-version", "image-factory-base-url", "image-factory-pxe-base-url",
		"secure-boot-enabled", "tls-enabled", "tls-api-port")

	return cmd
}

func (a *app) cachePrefetch(ctx context.Context, s *cacheSettings, want serve.Prefetch, versions []string) error {
	cache, err := a.openCache(s, false)
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // a download that broke off is kept as far as it came

	if len(versions) == 0 {
		versions = []string{""}
	}

	var stored []assetcache.Asset

	for _, want.Version = range versions {
		a.note("fetching %s for %s", cmp.Or(want.Version, "agent mode "+s.cfg.AgentModeTalosVersion), want.Arch)

		assets, err := s.cfg.Prefetch(ctx, cache, want, a.logger(slog.LevelError), nil)
		if err != nil {
			return cacheFailure(err)
		}

		stored = append(stored, assets...)
	}

	return a.printStored(cache, stored)
}

// cacheFailure tells the Image Factory's failures from those of this host.
func cacheFailure(err error) error {
	for _, kind := range []error{assetcache.ErrOrigin, assetcache.ErrBusy, factory.ErrUnavailable, factory.ErrRejected} {
		if errors.Is(err, kind) && !errors.Is(err, context.Canceled) {
			return failf(codeFactoryFailed, "", "%w", err)
		}
	}

	return err
}
