package serve

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bmctl/bmctl/serve/assetcache"
)

// cacheNumbers are those of the asset cache, which has none where there is no cache.
type cacheNumbers struct{ of func() *assetcache.Cache }

var (
	cacheAskedDesc   = prometheus.NewDesc("bmctl_asset_cache_requests_total", "Boot assets that machines asked of the cache, by result: hit, or miss.", []string{"result"}, nil)
	cacheSentDesc    = prometheus.NewDesc("bmctl_asset_cache_sent_bytes_total", "Bytes of boot assets sent to machines.", nil, nil)
	cacheEvictedDesc = prometheus.NewDesc("bmctl_asset_cache_evictions_total", "Boot assets dropped to make room for others.", nil, nil)
	cacheFailedDesc  = prometheus.NewDesc("bmctl_asset_cache_download_failures_total", "Downloads of boot assets that failed.", nil, nil)
	cacheAssetsDesc  = prometheus.NewDesc("bmctl_asset_cache_assets", "Boot assets in the cache.", nil, nil)
	cacheHeldDesc    = prometheus.NewDesc("bmctl_asset_cache_bytes", "Bytes of boot assets in the cache.", nil, nil)
	cacheLimitDesc   = prometheus.NewDesc("bmctl_asset_cache_limit_bytes", "How many bytes of them are kept: --asset-cache-size.", nil, nil)
)

// Describe implements prometheus.Collector.
func (n cacheNumbers) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		cacheAskedDesc, cacheSentDesc, cacheEvictedDesc, cacheFailedDesc, cacheAssetsDesc, cacheHeldDesc, cacheLimitDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (n cacheNumbers) Collect(ch chan<- prometheus.Metric) {
	cache := n.of()
	if cache == nil {
		return
	}

	s := cache.Stats()
	number := func(d *prometheus.Desc, kind prometheus.ValueType, value int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, float64(value), labels...)
	}

	number(cacheAskedDesc, prometheus.CounterValue, s.Hits, "hit")
	number(cacheAskedDesc, prometheus.CounterValue, s.Misses, "miss")
	number(cacheSentDesc, prometheus.CounterValue, s.Sent)
	number(cacheEvictedDesc, prometheus.CounterValue, s.Evicted)
	number(cacheFailedDesc, prometheus.CounterValue, s.Failed)
	number(cacheAssetsDesc, prometheus.GaugeValue, s.Assets)
	number(cacheHeldDesc, prometheus.GaugeValue, s.Held)
	number(cacheLimitDesc, prometheus.GaugeValue, s.Limit)
}
