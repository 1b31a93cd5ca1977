package assetcache

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// makeRoom drops the least recently used assets until so many bytes fit in beside
// the rest and what other downloads will need. Machines that load a dropped asset
// in this moment get all of it.
func (c *Cache) makeRoom(key Key, size int64) error {
	if size > c.cfg.Size {
		return fmt.Errorf("%w: %s has %d bytes, the cache may have %d", ErrLocal, key, size, c.cfg.Size)
	}

	coming := size + c.coming(key)

	var dropped []string

	err := c.change(func(x *index) (bool, error) {
		held := int64(0)
		for _, a := range x.Assets {
			held += a.Size
		}

		for _, a := range c.byUse(x.Assets) {
			if held+coming <= c.cfg.Size {
				break
			}

			if err := ignoreMissing(os.Remove(c.dir.path(a.name()))); err != nil {
				return false, err
			}

			x.removeAsset(a.Key)

			held -= a.Size
			dropped = append(dropped, a.Key.String())
		}

		return len(dropped) > 0, nil
	})
	if err != nil {
		return errors.Join(ErrLocal, err)
	}

	if len(dropped) > 0 {
		c.counters.evicted.Add(int64(len(dropped)))
		c.notice("dropped "+strings.Join(dropped, ", ")+" from the asset cache", "least recently used, to make room for "+key.String())
	}

	return nil
}

// coming is how many bytes the other downloads of this process will store.
func (c *Cache) coming(but Key) (bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()

	for key, f := range c.flights {
		if key != but {
			bytes += max(0, f.progress().total)
		}
	}

	return bytes
}

// byUse sorts assets by their last use, the longest ago first.
func (c *Cache) byUse(assets []Asset) []Asset {
	type aged struct {
		Asset
		at int64
	}

	all := make([]aged, len(assets))
	for i, a := range assets {
		all[i] = aged{a, c.used(a.Key).UnixNano()}
	}

	slices.SortStableFunc(all, func(a, b aged) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		default:
			return a.compare(b.Key)
		}
	})

	sorted := make([]Asset, len(all))
	for i, a := range all {
		sorted[i] = a.Asset
	}

	return sorted
}
