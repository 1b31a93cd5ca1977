package assetcache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"
)

// flight is one download, shared by all who want the asset meanwhile. They read
// what has arrived from its file.
type flight struct {
	key    Key
	origin string
	paths  [2]string // of the file, while it grows and when it is complete

	mu      sync.Mutex
	total   int64 // bytes; -1: the factory does not say, or not known yet
	arrived int64
	begun   bool // total is known, as far as it will be
	ended   bool
	err     error         // why it ended before it was complete
	changed chan struct{} // closed at the next change of the above
}

// progress is a flight's state at one time.
type progress struct {
	total, arrived int64
	begun, ended   bool
	err            error
	changed        <-chan struct{}
}

func newFlight(key Key, origin string, dir directory) *flight {
	return &flight{
		key: key, origin: origin, total: -1, changed: make(chan struct{}),
		paths: [2]string{dir.path(key.name() + partSuffix), dir.path(key.name())},
	}
}

func (f *flight) progress() progress {
	f.mu.Lock()
	defer f.mu.Unlock()

	return progress{f.total, f.arrived, f.begun, f.ended, f.err, f.changed}
}

// update changes the state and wakes all who wait.
func (f *flight) update(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()

	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

// begin tells the size; it is the same for each attempt, or they are not of the
// same asset.
func (f *flight) begin(total int64) error {
	var err error

	f.update(func() {
		if f.begun && f.total != total {
			err = errors.New("its size changed during the download")

			return
		}

		f.begun, f.total = true, total
	})

	return err
}

func (f *flight) advance(n int) { f.update(func() { f.arrived += int64(n) }) }

// wait returns when ready says so of the progress, or ctx ends.
func (f *flight) wait(ctx context.Context, ready func(progress) bool) (progress, error) {
	for {
		p := f.progress()
		if ready(p) {
			return p, nil
		}

		select {
		case <-p.changed:
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
}

// open opens the file for reading, by the name that it has now.
func (f *flight) open() (*os.File, error) {
	file, err := os.Open(f.paths[0])
	if errors.Is(err, fs.ErrNotExist) {
		return os.Open(f.paths[1])
	}

	return file, err
}

// join returns the flight of the asset, which it begins if there is none.
func (c *Cache) join(key Key) (*flight, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if f := c.flights[key]; f != nil {
		return f, nil
	}

	origin, known := c.origins[key]

	switch {
	case !known:
		return nil, ErrUnknown
	case c.closed:
		return nil, context.Canceled
	}

	f := newFlight(key, origin, c.dir)
	c.flights[key] = f

	c.flying.Go(func() { c.fly(f) })

	return f, nil
}

// fly downloads, and ends the flight for all who joined it.
func (c *Cache) fly(f *flight) {
	err := c.download(f)

	c.mu.Lock()
	delete(c.flights, f.key)

	if err != nil {
		c.trouble[f.key] = trouble{err: err, at: time.Now()}
	} else {
		delete(c.trouble, f.key)
	}
	c.mu.Unlock()

	f.update(func() { f.ended, f.err = true, err })

	if err != nil && c.ctx.Err() == nil {
		c.counters.failed.Add(1)
		c.notice("download of "+f.key.String()+" failed", err.Error())
	}
}

// Fetch makes sure that the asset is here, and verified. The boot that names it must
// be known. Progress, unless nil, is told of bytes; total is -1 if it is not known.
// Failures are those of this package, or ctx's.
func (c *Cache) Fetch(ctx context.Context, key Key, report func(arrived, total int64)) (Asset, error) {
	for {
		file, asset, err := c.open(key)
		if err == nil {
			return asset, file.Close()
		}

		if !errors.Is(err, ErrUnknown) {
			return Asset{}, err
		}

		f, err := c.join(key)
		if err != nil {
			return Asset{}, err
		}

		p, err := f.wait(ctx, func(p progress) bool {
			if report != nil {
				report(p.arrived, p.total)
			}

			return p.ended
		})
		if err = errors.Join(err, p.err); err != nil {
			return Asset{}, err
		}
	}
}
