package serve

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/assetcache"
	"github.com/bmctl/bmctl/serve/localapi"
)

// ErrConfig: a file that the configuration names is not what it has to be.
var ErrConfig = errors.New("configuration")

// OpenCache opens the asset cache that the configuration names, for commands that
// work on it beside a running serve. Notice may be nil.
func OpenCache(cfg Config, log *slog.Logger, notice func(text, reason string)) (*assetcache.Cache, error) {
	roots, err := cfg.roots()
	if err != nil {
		return nil, fmt.Errorf("%w: --extra-ca-file: %w", ErrConfig, err)
	}

	return openCache(cfg, roots, log, notice, nil)
}

func openCache(
	cfg Config, roots *x509.CertPool, log *slog.Logger, notice func(text, reason string), served func(assetcache.Transfer),
) (*assetcache.Cache, error) {
	return assetcache.Open(assetcache.Config{
		Dir: cfg.AssetCacheDir, Size: cfg.AssetCacheSize, Log: log, Notice: notice, Served: served, HTTP: webClient(roots),
	})
}

// newCache opens serve's own asset cache; nil without --asset-cache-dir.
func (s *Server) newCache(served func(assetcache.Transfer)) (*assetcache.Cache, error) {
	if s.cfg.AssetCacheDir == "" {
		return nil, nil //nolint:nilnil // no cache is no failure
	}

	notice := func(text, reason string) {
		s.events.add(localapi.Event{At: time.Now(), Type: string(boot.EventAsset), Text: text, Reason: reason})
	}

	return openCache(s.cfg, s.roots, s.log.With("component", "assets"), notice, served)
}

// keepCache begins to verify what is in the cache, and returns what closes it.
func (s *Server) keepCache() (end func()) {
	if s.cache == nil {
		return func() {}
	}

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})

	go func() {
		defer close(done)

		s.cache.Verify(ctx)
	}()

	return func() {
		cancel()

		if err := s.cache.Close(); err != nil {
			s.log.Warn("asset cache closed with a failure", "error", err)
		}

		<-done
	}
}

// assetServed is a step of the boot of the machine that its script names.
func (s *Server) assetServed(t assetcache.Transfer, from string) {
	asker := bootAsker(t.Request)
	reason := from

	if !t.Complete {
		reason += ", broke off"
	}

	s.log.Info("file sent", "component", "assets", "filename", t.File, "bytes", t.Bytes, "source", t.Request.RemoteAddr, "uuid", asker.UUID, "complete", t.Complete)

	asker.Type, asker.Time, asker.File = boot.EventType(assetStage(t.File)), time.Now(), t.File
	asker.Arch = assetArch(t.File)
	asker.Bytes, asker.Duration, asker.Reason = t.Bytes, t.Duration, reason
	s.sawBoot(asker)
}

// fromCache has machines load from us. What is here already needs no factory; what
// is not is downloaded when the first machine asks. Where the cache is at fault,
// machines go to the factory; where the factory is, they wait, and are told why.
func (a *assets) fromCache(ctx context.Context, w wish) (boot.Decision, error) {
	b, id, err := a.expect(ctx, w)

	switch {
	case errors.Is(err, errPrivate):
		return a.direct(ctx, id, w)
	case errors.Is(err, assetcache.ErrLocal):
		return a.around(b, err)
	case err != nil:
		return boot.Decision{}, err
	}

	for _, origin := range b.Origins() {
		key, err := assetcache.KeyOf(origin)
		if err == nil {
			err = a.cache.Trouble(key)
		}

		switch {
		case errors.Is(err, assetcache.ErrOrigin):
			return boot.Decision{}, err
		case err != nil:
			return a.around(b, err)
		}
	}

	return a.withSecrets(boot.Decision{Kernel: a.ours(b.Kernel), Initrd: a.ours(b.Initrd), Args: slices.Clone(b.Args)})
}

// around has machines load from the factory because the cache cannot serve them.
func (a *assets) around(b assetcache.Boot, why error) (boot.Decision, error) {
	a.log.Warn("machine loads from the image factory", "reason", why)

	return a.withSecrets(boot.Decision{Kernel: b.Kernel, Initrd: b.Initrd, Args: slices.Clone(b.Args)})
}

// errPrivate is a script that must not be kept.
var errPrivate = errors.New("boot script's URLs carry credentials or a token")

// expect returns the boot of the wish, which is in the cache or may be asked of it
// from now on. The id is the schematic's at the factory where that was asked.
func (a *assets) expect(ctx context.Context, w wish) (b assetcache.Boot, id string, err error) {
	local, err := w.schematic.ID()
	if err != nil {
		return b, "", err
	}

	key := assetcache.BootKey{
		Wish: local, Version: "v" + strings.TrimPrefix(w.version, "v"), Arch: w.arch, SecureBoot: a.cfg.SecureBootEnabled,
	}

	if b, ready, _ := a.cache.Boot(key); ready {
		return b, "", nil
	}

	if id, err = a.factory.EnsureSchematic(ctx, w.schematic); err != nil {
		return b, "", err
	}

	script, err := a.factory.Script(ctx, id, w.version, w.arch, a.cfg.SecureBootEnabled)
	if err != nil {
		return b, id, err
	}

	if script.Private {
		return b, id, errPrivate
	}

	b = assetcache.Boot{BootKey: key, Kernel: script.Kernel, Initrd: script.Initrd, Args: script.Args}

	return b, id, a.cache.Expect(b)
}

// askerQuery is what iPXE fills in, for our events.
const askerQuery = "?uuid=${uuid}&mac=${netX/mac:hexhyp}"

// ours is where we serve the asset of the factory's URL. What has no key stays where it is: Expect let none pass.
func (a *assets) ours(origin string) string {
	key, err := assetcache.KeyOf(origin)
	if err != nil {
		return origin
	}

	return "http://" + a.at().String() + key.Path() + askerQuery
}

// bootAsker is who asks for a file; uuid and MAC are the machine's own words.
func bootAsker(r *http.Request) boot.Event {
	id, err := uuid.Parse(r.URL.Query().Get("uuid"))
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // of a TCP connection it is one
	asker := boot.Event{Addr: from.Addr().Unmap()}

	if err == nil {
		asker.UUID = id.String()
	}

	if mac, err := net.ParseMAC(r.URL.Query().Get("mac")); err == nil {
		asker.MAC = mac.String()
	}

	return asker
}
