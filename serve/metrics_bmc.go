package serve

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bmctl/bmctl/power"
)

// bmcMeter counts what controllers ask of BMCs.
type bmcMeter struct {
	took   prometheus.Histogram
	failed *prometheus.CounterVec
}

// bmcKinds are the kinds of failure of a power reading, as label values.
func bmcKinds() map[string]error {
	return map[string]error{
		"unreachable": power.ErrUnreachable, "auth": power.ErrAuth, "refused": power.ErrRefused,
		"busy": power.ErrBusy, "unsupported": power.ErrUnsupported, "ambiguous": power.ErrAmbiguous,
	}
}

const otherKind = "other" // such as a reading that was interrupted

func newBMCMeter() *bmcMeter {
	m := &bmcMeter{
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "bmctl_bmc_read_seconds", Help: "How long readings of the power took that succeeded.",
			Buckets: []float64{0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10},
		}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bmctl_bmc_errors_total", Help: "Readings of the power that failed, by kind.",
		}, []string{"kind"}),
	}

	m.failed.WithLabelValues(otherKind)

	for kind := range bmcKinds() {
		m.failed.WithLabelValues(kind)
	}

	return m
}

func (m *bmcMeter) all() []prometheus.Collector { return []prometheus.Collector{m.took, m.failed} }

// read counts a reading of the power.
func (m *bmcMeter) read(took time.Duration, err error) {
	if err == nil {
		m.took.Observe(took.Seconds())

		return
	}

	for kind, is := range bmcKinds() {
		if errors.Is(err, is) {
			m.failed.WithLabelValues(kind).Inc()

			return
		}
	}

	m.failed.WithLabelValues(otherKind).Inc()
}
