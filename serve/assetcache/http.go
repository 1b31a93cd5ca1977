package assetcache

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// ServeHTTP serves GET and HEAD of Key.Path, byte ranges included. What is not here
// yet is passed on while it is downloaded; ranges of it come when it is complete.
// Where the download fails before a byte was sent, the answer is 502 with the
// reason, or, if only the cache is at fault, a redirection to the factory. Later,
// the connection breaks, so that no machine takes a part for the whole.
func (c *Cache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()

	key, err := ParseKey(r.URL.Path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)

		return
	}

	sent := &sender{ResponseWriter: w}
	defer func() {
		c.counters.sent.Add(sent.bytes)

		if r.Method == http.MethodGet && sent.bytes > 0 {
			c.cfg.Served(Transfer{Key: key, Request: r, Bytes: sent.bytes, Duration: time.Since(begun), Complete: sent.complete})
		}
	}()

	file, asset, err := c.open(key)
	c.counters.asked(r, err == nil)

	switch {
	case errors.Is(err, ErrUnknown):
		c.passOn(sent, r, key)
	case err != nil:
		c.fail(sent, r, key, err)
	default:
		c.serveStored(sent, r, file, asset)
	}
}

// serveStored serves an asset that is here, and closes its file.
func (c *Cache) serveStored(w *sender, r *http.Request, file *os.File, asset Asset) {
	defer file.Close() //nolint:errcheck // opened for reading

	c.touch(asset.Key)
	w.Header().Set("ETag", `"`+asset.SHA256+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", asset.Added, file)
}

// passOn serves an asset that is on its way.
func (c *Cache) passOn(w *sender, r *http.Request, key Key) {
	f, err := c.join(key)
	if err != nil {
		c.fail(w, r, key, err)

		return
	}

	whole := r.Header.Get("Range") != "" // a part of it is not worth a special way

	p, err := f.wait(r.Context(), func(p progress) bool { return p.ended || p.begun && !whole })

	switch {
	case err != nil:
		return // the machine went away
	case p.err != nil:
		c.fail(w, r, key, p.err)
	case p.ended:
		file, asset, err := c.open(key)
		if err != nil {
			c.fail(w, r, key, err)

			return
		}

		c.serveStored(w, r, file, asset)
	default:
		c.follow(w, r, f, p)
	}
}

// follow sends what has arrived, and then what arrives.
func (c *Cache) follow(w *sender, r *http.Request, f *flight, p progress) {
	file, err := f.open()
	if err != nil {
		c.fail(w, r, f.key, errors.Join(ErrLocal, err))

		return
	}
	defer file.Close() //nolint:errcheck // opened for reading

	head := r.Method == http.MethodHead

	for at := int64(0); ; {
		p, err = f.wait(r.Context(), func(p progress) bool { return head || p.ended || p.arrived > at })
		if err != nil {
			return // the machine went away
		}

		if at == 0 {
			if p.err != nil && p.arrived == 0 {
				c.fail(w, r, f.key, p.err)

				return
			}

			w.Header().Set("Content-Type", "application/octet-stream")
			setLength(w, p.total)
		}

		if head {
			return
		}

		n, err := io.CopyN(w, file, p.arrived-at)
		at += n

		switch {
		case err != nil:
			return // the machine went away
		case p.err != nil:
			w.complete = false

			panic(http.ErrAbortHandler) // the only way to say that this is not all
		case p.ended:
			w.complete = true

			return
		}
	}
}

// fail answers where nothing was sent yet.
func (c *Cache) fail(w http.ResponseWriter, r *http.Request, key Key, err error) {
	c.mu.Lock()
	origin := c.origins[key]
	c.mu.Unlock()

	switch {
	case errors.Is(err, ErrUnknown):
		http.Error(w, err.Error(), http.StatusNotFound)
	case origin != "" && (errors.Is(err, ErrLocal) || errors.Is(err, ErrBusy)):
		c.log.Warn("machine sent to the image factory", "file", key.String(), "reason", err)
		http.Redirect(w, r, origin, http.StatusFound)
	default:
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}
