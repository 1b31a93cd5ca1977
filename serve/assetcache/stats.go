package assetcache

import (
	"net/http"
	"sync/atomic"
)

// Stats are what a cache did since it was opened, and what it holds. Sizes are in
// bytes.
type Stats struct {
	// Hits and Misses are GETs of assets that were here, and of those that were not.
	Hits, Misses int64
	// Sent is how much machines were sent.
	Sent int64
	// Evicted is how many assets were dropped to make room.
	Evicted int64
	// Failed is how many downloads failed.
	Failed int64
	// Assets are held, which have Held bytes; the quota is Limit.
	Assets, Held, Limit int64
}

// counters are the part of Stats that only grows.
type counters struct{ hits, misses, sent, evicted, failed atomic.Int64 }

func (n *counters) asked(r *http.Request, here bool) {
	switch {
	case r.Method != http.MethodGet:
	case here:
		n.hits.Add(1)
	default:
		n.misses.Add(1)
	}
}

// Stats returns the numbers of now.
func (c *Cache) Stats() Stats {
	s := Stats{
		Hits: c.counters.hits.Load(), Misses: c.counters.misses.Load(), Sent: c.counters.sent.Load(),
		Evicted: c.counters.evicted.Load(), Failed: c.counters.failed.Load(), Limit: c.cfg.Size,
	}

	for _, a := range c.snapshot() {
		s.Assets++
		s.Held += a.Size
	}

	return s
}
