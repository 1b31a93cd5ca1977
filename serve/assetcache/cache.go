// Package assetcache keeps boot assets of the Image Factory on the disk: kernels,
// initial file systems and unified kernel images, which machines then load from
// here. An asset is passed on while it is being downloaded; a download that broke
// is resumed; what is on the disk is checked against its digest before it is first
// served; and the least recently used assets make room for new ones.
//
// Processes may share a directory. Nothing here trusts what a machine asks for:
// only assets that a boot names are downloaded.
package assetcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// The kinds of failure. Each error wraps exactly one of them, or the caller's own
// context error.
var (
	// ErrOrigin: the Image Factory did not give the asset.
	ErrOrigin = errors.New("image factory did not give it")
	// ErrLocal: it cannot be kept here, for lack of room for instance.
	ErrLocal = errors.New("asset cache cannot keep it")
	// ErrBusy: another process is downloading it into the same directory.
	ErrBusy = errors.New("another process is downloading it")
	// ErrUnknown: it is not here, and no boot names it.
	ErrUnknown = errors.New("not in the asset cache, and no boot needs it")
)

// TroubleTime is for how long a failed download is not tried again.
const TroubleTime = 30 * time.Second

// Config says where the cache is and how it downloads. Zero fields mean the
// defaults named here.
type Config struct {
	// Dir is made when it is missing.
	Dir string
	// Size is how many bytes of complete assets are kept: 20 GiB.
	Size int64
	// HTTP carries the downloads; it needs no Timeout: a client of its own on Go's
	// default transport.
	HTTP *http.Client
	// Stall is how long the factory may send nothing: 30 s.
	Stall time.Duration
	// Attempts is how often in a row a download may fail without a byte: 5.
	Attempts int
	// Pause is the mean wait before another attempt, growing up to 5 s: 250 ms.
	Pause time.Duration
	// Log receives what happens; nil discards.
	Log *slog.Logger
	// Notice, unless nil, is told what people should know, and why. It must not wait.
	Notice func(text, reason string)
	// Served, unless nil, is told of each transfer to a machine.
	Served func(Transfer)
}

// Transfer is an asset sent to a machine.
type Transfer struct {
	Key
	Request  *http.Request
	Bytes    int64
	Duration time.Duration
	// Complete is false where the machine or the factory went away.
	Complete bool
}

// Cache is a directory of boot assets. All methods are safe for concurrent use.
type Cache struct {
	cfg Config
	dir directory
	log *slog.Logger

	counters counters

	ctx     context.Context //nolint:containedctx // of the downloads, which outlive requests
	cancel  context.CancelFunc
	flying  sync.WaitGroup
	mu      sync.Mutex
	closed  bool
	stamp   stamp // of the index that the following maps are of
	assets  map[Key]*entry
	boots   map[BootKey]Boot
	origins map[Key]string
	flights map[Key]*flight
	trouble map[Key]trouble
}

// entry is an asset with its verification, which happens once in a process.
type entry struct {
	Asset
	mu       sync.Mutex // held while it is verified
	verified bool
}

type trouble struct {
	err error
	at  time.Time
}

// Open opens the directory. Files that the index does not name, and entries whose
// file is missing or truncated, are dropped; an index that is damaged takes all
// assets with it, because their digests are lost. Each is told to Notice.
func Open(cfg Config) (*Cache, error) {
	cfg.Size = cmp.Or(cfg.Size, 20<<30)
	cfg.HTTP = cmp.Or(cfg.HTTP, &http.Client{})
	cfg.Stall = cmp.Or(cfg.Stall, 30*time.Second)
	cfg.Attempts = cmp.Or(cfg.Attempts, 5)
	cfg.Pause = cmp.Or(cfg.Pause, 250*time.Millisecond)

	if cfg.Notice == nil {
		cfg.Notice = func(string, string) {}
	}

	if cfg.Served == nil {
		cfg.Served = func(Transfer) {}
	}

	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("asset cache: %w", err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	c := &Cache{
		cfg: cfg, dir: directory(cfg.Dir), log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		ctx: ctx, cancel: cancel, flights: map[Key]*flight{}, trouble: map[Key]trouble{},
	}

	if err := c.recover(); err != nil {
		cancel()

		return nil, fmt.Errorf("asset cache %s: %w", cfg.Dir, err)
	}

	return c, nil
}

// recover brings directory and index together.
func (c *Cache) recover() error {
	return c.change(func(x *index) (bool, error) {
		lost, err := c.dir.sweep(*x)
		if err != nil {
			return false, err
		}

		for _, asset := range lost {
			x.removeAsset(asset.Key)
			c.notice("dropped "+asset.Key.String()+" from the asset cache", "its file is missing or truncated")
		}

		return len(lost) > 0, nil
	})
}

// Close ends downloads, which later runs resume, and waits for them.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()

	c.cancel()
	c.flying.Wait()

	return nil
}

func (c *Cache) notice(text, reason string) {
	c.log.Warn(text, "reason", reason)
	c.cfg.Notice(text, reason)
}

// change applies fn to the index as it is on the disk, and stores it if fn says so.
// A damaged index is replaced by an empty one.
func (c *Cache) change(fn func(*index) (bool, error)) error {
	unlock, err := c.dir.lock()
	if err != nil {
		return err
	}
	defer unlock()

	x, err := c.dir.read()
	damaged := errors.Is(err, errDamaged)

	if damaged {
		c.notice("all assets are dropped from the asset cache", err.Error())

		x, err = index{Format: format}, nil
	}

	if err != nil {
		return err
	}

	changed, err := fn(&x)
	if err == nil && (changed || damaged) {
		err = c.dir.write(x)
	}

	if err != nil {
		return err
	}

	c.adopt(x, c.dir.stamp())

	return nil
}

// refresh takes over what other processes changed.
func (c *Cache) refresh() {
	c.mu.Lock()
	known := c.stamp
	c.mu.Unlock()

	now := c.dir.stamp()
	if now == known {
		return
	}

	x, err := c.dir.read()
	if err != nil {
		c.log.Warn("asset cache is not read again", "error", err)

		return
	}

	c.adopt(x, now)
}

// adopt makes the index the one in memory. Assets that were verified stay so.
func (c *Cache) adopt(x index, s stamp) {
	c.mu.Lock()
	defer c.mu.Unlock()

	before := c.assets
	c.stamp, c.assets, c.boots, c.origins = s, map[Key]*entry{}, map[BootKey]Boot{}, map[Key]string{}

	for _, a := range x.Assets {
		if e := before[a.Key]; e != nil && e.Asset.SHA256 == a.SHA256 {
			c.assets[a.Key] = e
		} else {
			c.assets[a.Key] = &entry{Asset: a}
		}
	}

	for _, b := range x.Boots {
		c.boots[b.BootKey] = b

		for _, origin := range b.Origins() {
			if key, err := KeyOf(origin); err == nil {
				c.origins[key] = origin
			}
		}
	}
}

// Listed is an asset as people are shown it.
type Listed struct {
	Asset
	Used time.Time `json:"used"` // when it was last served or stored
}

// List returns the complete assets, sorted by key.
func (c *Cache) List() []Listed {
	c.refresh()

	var all []Listed

	for _, a := range c.snapshot() {
		all = append(all, Listed{Asset: a, Used: c.used(a.Key)})
	}

	return all
}

func (c *Cache) snapshot() []Asset {
	c.mu.Lock()
	defer c.mu.Unlock()

	return slices.SortedFunc(func(yield func(Asset) bool) {
		for e := range maps.Values(c.assets) {
			if !yield(e.Asset) {
				return
			}
		}
	}, func(a, b Asset) int { return a.compare(b.Key) })
}

// used is the file's time of modification, which is set when it is served.
func (c *Cache) used(key Key) time.Time {
	info, err := os.Stat(c.dir.path(key.name()))
	if err != nil {
		return time.Time{}
	}

	return info.ModTime()
}

// Boot returns the boot, and whether all its assets are here.
func (c *Cache) Boot(key BootKey) (boot Boot, ready, found bool) {
	c.refresh()

	c.mu.Lock()
	defer c.mu.Unlock()

	boot, found = c.boots[key]

	return boot, found && boot.held(func(asset Key) bool { return c.assets[asset] != nil }), found
}

// Expect remembers a boot: its assets may be asked for from now on.
func (c *Cache) Expect(boot Boot) error {
	if err := boot.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrLocal, err)
	}

	c.mu.Lock()
	known, found := c.boots[boot.BootKey]
	c.mu.Unlock()

	if found && known.Kernel == boot.Kernel && known.Initrd == boot.Initrd && slices.Equal(known.Args, boot.Args) {
		return nil
	}

	err := c.change(func(x *index) (bool, error) {
		x.putBoot(boot)

		return true, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLocal, err)
	}

	return nil
}

// Trouble is why the asset's download failed in the last TroubleTime; nil if it did
// not, or if the asset is here meanwhile.
func (c *Cache) Trouble(key Key) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	t, found := c.trouble[key]
	if !found || c.assets[key] != nil || time.Since(t.at) > TroubleTime {
		return nil
	}

	return t.err
}
