package assetcache

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"
)

// Export writes the assets that want chooses (nil: all), and the boots that need no
// others, as a tar archive: first the index, then each asset under its name in it.
// Each is verified before; one that was altered is dropped and fails the export.
func (c *Cache) Export(ctx context.Context, w io.Writer, want func(Key) bool) ([]Asset, error) {
	c.refresh()

	x := c.chosen(want)

	data, err := x.encode()
	if err != nil {
		return nil, err
	}

	archive := tar.NewWriter(w)
	header := tar.Header{Name: indexFile, Mode: 0o644, Size: int64(len(data)), ModTime: time.Now().Truncate(time.Second)}

	if err = archive.WriteHeader(&header); err == nil {
		_, err = archive.Write(data)
	}

	for _, asset := range x.Assets {
		if err == nil {
			err = ctx.Err()
		}

		if err != nil {
			break
		}

		err = c.pack(archive, asset)
	}

	if err = errors.Join(err, archive.Close()); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}

	return x.Assets, nil
}

// chosen is an index of what is to be exported.
func (c *Cache) chosen(want func(Key) bool) index {
	x := index{Format: format}

	for _, asset := range c.snapshot() {
		if want == nil || want(asset.Key) {
			x.Assets = append(x.Assets, asset)
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	for _, boot := range c.boots {
		if boot.held(x.has) {
			x.Boots = append(x.Boots, boot)
		}
	}

	return x
}

func (c *Cache) pack(archive *tar.Writer, asset Asset) error {
	file, _, err := c.open(asset.Key)
	if err != nil {
		return fmt.Errorf("%s: %w", asset.Key, err)
	}
	defer file.Close() //nolint:errcheck // opened for reading

	header := tar.Header{Name: asset.name(), Mode: 0o644, Size: asset.Size, ModTime: asset.Added}
	if err := archive.WriteHeader(&header); err != nil {
		return err
	}

	_, err = io.Copy(archive, file)

	return err
}

// Import stores the assets of an archive that Export wrote. Each is compared with
// its digest before it gets its name here. Those that are right are kept, and
// returned, also when another one, or the archive's end, is not.
func (c *Cache) Import(ctx context.Context, r io.Reader) ([]Asset, error) {
	archive := tar.NewReader(r)

	x, err := c.readArchiveIndex(archive)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}

	stored, failures := c.unpackAll(ctx, archive, x)

	if err := errors.Join(append(failures, c.addBoots(x.Boots))...); err != nil {
		return stored, fmt.Errorf("import: %w", err)
	}

	return stored, nil
}

// unpackAll stores what follows the archive's index, and tells what it could not.
func (c *Cache) unpackAll(ctx context.Context, archive *tar.Reader, x index) (stored []Asset, failures []error) {
	waiting := map[string]Asset{}
	for _, asset := range x.Assets {
		waiting[asset.name()] = asset
	}

	for {
		header, err := archive.Next()
		if err = errors.Join(err, ctx.Err()); errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			return stored, append(failures, fmt.Errorf("archive is not read to its end: %w", err))
		}

		asset, found := waiting[header.Name]
		delete(waiting, header.Name)

		if !found {
			failures = append(failures, fmt.Errorf("archive holds %.200q, which its index does not name", header.Name))
		} else if err := c.unpack(archive, asset); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", asset.Key, err))
		} else {
			stored = append(stored, asset)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(waiting)) {
		failures = append(failures, fmt.Errorf("%s: missing from the archive", waiting[name].Key))
	}

	return stored, failures
}

// readArchiveIndex reads the archive's first file, and refuses more than the cache
// may hold before anything makes room.
func (c *Cache) readArchiveIndex(archive *tar.Reader) (index, error) {
	header, err := archive.Next()
	if err != nil {
		return index{}, fmt.Errorf("not an archive of the asset cache: %w", err)
	}

	if header.Name != indexFile || header.Size > maxIndex {
		return index{}, fmt.Errorf("not an archive of the asset cache: it begins with %.200q", header.Name)
	}

	data, err := io.ReadAll(io.LimitReader(archive, maxIndex))
	if err != nil {
		return index{}, err
	}

	x, err := parseIndex(data)
	if err != nil {
		return index{}, err
	}

	need := int64(0)
	for _, asset := range x.Assets {
		if need += asset.Size; need > c.cfg.Size || need < 0 {
			return index{}, fmt.Errorf("%w: the archive needs more than the %d bytes that the cache may have", ErrLocal, c.cfg.Size)
		}
	}

	return x, nil
}

// unpack stores one asset.
func (c *Cache) unpack(r io.Reader, asset Asset) error {
	if e := c.entry(asset.Key); e != nil && e.SHA256 == asset.SHA256 {
		if file, _, err := c.open(asset.Key); err == nil { // here already, and right
			return file.Close()
		}
	}

	if err := c.makeRoom(asset.Key, asset.Size); err != nil {
		return err
	}

	file, err := c.dir.claim(asset.name() + ".import" + partSuffix)
	if err != nil {
		return errors.Join(ErrLocal, err)
	}
	defer file.Close() //nolint:errcheck // synced before it counts

	digest, err := copyDigest(file, r, asset.Size)

	switch {
	case err != nil:
	case digest != asset.SHA256:
		err = fmt.Errorf("%w on the way: its sha256 begins with %.12s, not with %.12s", errAltered, digest, asset.SHA256)
	default:
		err = c.publish(file, asset)
	}

	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(file.Name())))
	}

	c.touch(asset.Key)

	return nil
}

// copyDigest replaces the file's content by size bytes, and returns their digest.
func copyDigest(file *os.File, r io.Reader, size int64) (string, error) {
	if err := file.Truncate(0); err != nil {
		return "", err
	}

	hashed := io.LimitReader(r, size+1)

	n, err := io.Copy(file, hashed)
	if err != nil {
		return "", err
	}

	if n != size {
		return "", fmt.Errorf("%w on the way: it has another size than %d bytes", errAltered, size)
	}

	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}

	return digestOf(file)
}

// addBoots takes over the boots whose assets are all here.
func (c *Cache) addBoots(boots []Boot) error {
	return c.change(func(x *index) (bool, error) {
		added := false

		for _, boot := range boots {
			if boot.held(x.has) {
				x.putBoot(boot)

				added = true
			}
		}

		return added, nil
	})
}
