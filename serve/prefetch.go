package serve

import (
	"context"
	"errors"
	"log/slog"

	"github.com/bmctl/bmctl/serve/assetcache"
)

// Prefetch is what to download ahead of the first machine that needs it.
type Prefetch struct {
	// Arch is "amd64" or "arm64".
	Arch string
	// Version of Talos for a cluster; empty means agent mode.
	Version string
	// Extensions and Args are the machine's own, as Omni has them.
	Extensions, Args []string
}

// Prefetch stores the assets of one boot in the cache, as a serve of this
// configuration would for the first machine: the schematic holds the address that
// machines are told, which must therefore be the same. Report, unless nil, is told of
// the bytes of each asset.
func (c Config) Prefetch(ctx context.Context, cache *assetcache.Cache, p Prefetch, log *slog.Logger, report func(key assetcache.Key, arrived, total int64)) ([]assetcache.Asset, error) {
	a, err := c.assetsAlone(cache, log)
	if err != nil {
		return nil, err
	}

	w := a.agentWish(p.Arch, p.Args)
	if p.Version != "" {
		w = a.talosWish(p.Arch, p.Version, p.Extensions, p.Args)
	}

	b, _, err := a.expect(ctx, w)
	if err != nil {
		return nil, err
	}

	var stored []assetcache.Asset

	for _, origin := range b.Origins() {
		key, err := assetcache.KeyOf(origin)
		if err != nil {
			return stored, err
		}

		asset, err := cache.Fetch(ctx, key, func(arrived, total int64) {
			if report != nil {
				report(key, arrived, total)
			}
		})
		if err != nil {
			return stored, err
		}

		stored = append(stored, asset)
	}

	return stored, nil
}

// assetsAlone are the assets of a serve that does not run.
func (c Config) assetsAlone(cache *assetcache.Cache, log *slog.Logger) (*assets, error) {
	if c.APIPort == 0 || c.TLSEnabled && c.TLSAPIPort == 0 {
		return nil, errors.New("the port that machines are told is not known: --api-port is 0")
	}

	told, err := advertised(c.APIAdvertiseAddress)
	if err != nil {
		return nil, err
	}

	roots, err := c.roots()
	if err != nil {
		return nil, err
	}

	images, err := c.imageFactory(webClient(roots), log)
	if err != nil {
		return nil, err
	}

	s := &Server{cfg: c, log: log, advertise: told}

	return &assets{
		cfg: c, factory: images, cache: cache, log: log, at: s.machinesSee, agentAt: s.agentsDial,
		inline: func() (string, error) { return "", errors.New("there is no machine config without Omni") },
	}, nil
}
