package assetcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// Verify checks the digest of every asset and drops those that were altered. It
// takes about a second for each GiB; assets that are asked for meanwhile are
// checked first.
func (c *Cache) Verify(ctx context.Context) {
	for _, asset := range c.snapshot() {
		if ctx.Err() != nil {
			return
		}

		if file, _, err := c.open(asset.Key); err == nil {
			_ = file.Close() // opened for reading
		}
	}
}

// errAltered is a file that is not what was stored.
var errAltered = errors.New("its file was altered")

// open returns an asset's file, complete and verified. What was altered is dropped
// and ErrUnknown, as what never was there; any other failure is ErrLocal.
func (c *Cache) open(key Key) (*os.File, Asset, error) {
	e := c.entry(key)
	if e == nil {
		c.refresh()

		if e = c.entry(key); e == nil {
			return nil, Asset{}, ErrUnknown
		}
	}

	file, err := os.Open(c.dir.path(key.name()))
	if err == nil {
		if err = errors.Join(e.verify(file.Name()), compareSize(file, e.Size)); err == nil {
			return file, e.Asset, nil
		}

		_ = file.Close() // opened for reading
	}

	if !errors.Is(err, errAltered) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EIO) {
		return nil, Asset{}, fmt.Errorf("%w: %s: %w", ErrLocal, key, err)
	}

	c.drop(e.Asset, err)

	return nil, Asset{}, ErrUnknown
}

// verify compares the digest, unless that was done before.
func (e *entry) verify(path string) error {
	e.mu.Lock()
	defer e.mu.Unlock()

	if e.verified {
		return nil
	}

	err := compareDigest(path, e.Asset)
	e.verified = err == nil

	return err
}

func (c *Cache) entry(key Key) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.assets[key]
}

func compareSize(file *os.File, want int64) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}

	if info.Size() != want {
		return fmt.Errorf("%w: it has %d of %d bytes", errAltered, info.Size(), want)
	}

	return nil
}

func compareDigest(path string, asset Asset) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}

	digest, err := digestOf(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}

	if digest != asset.SHA256 {
		return fmt.Errorf("%w: its sha256 begins with %.12s, not with %.12s", errAltered, digest, asset.SHA256)
	}

	return nil
}

func digestOf(r io.Reader) (string, error) {
	hash := sha256.New()
	_, err := io.Copy(hash, r)

	return hex.EncodeToString(hash.Sum(nil)), err
}

// drop forgets an asset whose file is not what it was. Another process may have
// done so already, or stored it anew.
func (c *Cache) drop(asset Asset, reason error) {
	err := c.change(func(x *index) (bool, error) {
		for _, a := range x.Assets {
			if a.Key == asset.Key && a.SHA256 == asset.SHA256 {
				x.removeAsset(asset.Key)

				return true, ignoreMissing(os.Remove(c.dir.path(asset.name())))
			}
		}

		return false, nil
	})

	if err != nil { // at least it is not served
		c.mu.Lock()
		delete(c.assets, asset.Key)
		c.mu.Unlock()
	}

	if !errors.Is(reason, fs.ErrNotExist) || err != nil {
		c.notice("dropped "+asset.Key.String()+" from the asset cache", errors.Join(reason, err).Error())
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	return err
}

// touch marks an asset as used now, for the choice of what makes room. Where the
// file is another user's that is not possible, and no harm.
func (c *Cache) touch(key Key) {
	now := time.Now()
	if err := os.Chtimes(c.dir.path(key.name()), now, now); err != nil {
		c.log.Debug("time of use is not kept", "file", key.String(), "error", err)
	}
}
