package assetcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	indexFile  = "index.json"
	lockFile   = "lock"
	partSuffix = ".part"
	maxIndex   = 64 << 20
)

// directory is the cache's directory, which processes share: each change of the
// index happens under a lock, to what the file says at that time; files appear by
// renaming, under the same lock; and who writes a part holds a lock on it.
type directory string

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

// lock waits for other processes to be done with the index, which takes them no
// longer than to write it.
func (d directory) lock() (unlock func(), err error) {
	// Read only, because another user may have made it.
	file, err := os.OpenFile(d.path(lockFile), os.O_RDONLY|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}

	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), file.Close())
	}

	return func() { _ = file.Close() }, nil // which unlocks
}

// stamp tells one state of the index file from another.
type stamp struct {
	inode uint64
	size  int64
	at    time.Time
}

func (d directory) stamp() stamp {
	info, err := os.Stat(d.path(indexFile))
	if err != nil {
		return stamp{}
	}

	s := stamp{size: info.Size(), at: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}

	return s
}

// errDamaged is an index that cannot be used.
var errDamaged = errors.New("index is damaged")

// read returns the index; an empty one where there is none yet. A damaged one is
// errDamaged.
func (d directory) read() (index, error) {
	info, err := os.Stat(d.path(indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return index{Format: format}, nil
	}

	if err != nil {
		return index{}, err
	}

	if info.Size() > maxIndex {
		return index{}, fmt.Errorf("%w: it has %d bytes", errDamaged, info.Size())
	}

	data, err := os.ReadFile(d.path(indexFile))
	if err != nil {
		return index{}, err
	}

	x, err := parseIndex(data)
	if err != nil {
		return index{}, fmt.Errorf("%w: %w", errDamaged, err)
	}

	return x, nil
}

// write replaces the index; the lock must be held. After a crash there is the old
// one or the new one.
func (d directory) write(x index) error {
	data, err := x.encode()
	if err != nil {
		return err
	}

	fresh := d.path(indexFile + ".new")

	file, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}

	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}

	if err := os.Rename(fresh, d.path(indexFile)); err != nil {
		return err
	}

	return d.sync()
}

// sync makes renamings last.
func (d directory) sync() error {
	dir, err := os.Open(string(d))
	if err != nil {
		return err
	}

	return errors.Join(dir.Sync(), dir.Close())
}

// claim opens the file for writing and locks it. Where another process, or another
// flight of this one, holds it, the error is ErrBusy.
func (d directory) claim(name string) (*os.File, error) {
	for {
		file, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}

		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrBusy
		}

		if err != nil {
			return nil, errors.Join(err, file.Close())
		}

		if d.named(file, name) {
			return file, nil
		}

		_ = file.Close() // its holder renamed or removed it meanwhile
	}
}

// named tells whether the open file still has the name.
func (d directory) named(file *os.File, name string) bool {
	opened, openErr := file.Stat()
	there, thereErr := os.Stat(d.path(name))

	return openErr == nil && thereErr == nil && os.SameFile(opened, there)
}

// sweep removes files of the cache that the index does not name and nobody writes,
// and returns the assets whose file is missing or has another size. The lock must
// be held.
func (d directory) sweep(x index) (lost []Asset, err error) {
	known := map[string]bool{}

	for _, p := range x.Partials {
		known[p.name()+partSuffix] = true
	}

	for _, a := range x.Assets {
		info, err := os.Stat(d.path(a.name()))
		if err != nil || info.Size() != a.Size {
			lost = append(lost, a)
		} else {
			known[a.name()] = true
		}
	}

	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}

	for _, entry := range entries {
		if known[entry.Name()] || !ours(entry.Name()) || !entry.Type().IsRegular() {
			continue
		}

		file, err := d.claim(entry.Name())
		if errors.Is(err, ErrBusy) {
			continue
		}

		if err != nil {
			return nil, err
		}

		if err := errors.Join(os.Remove(file.Name()), file.Close()); err != nil {
			return nil, err
		}
	}

	return lost, nil
}
