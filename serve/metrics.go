package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/assetcache"
	"github.com/bmctl/bmctl/serve/localapi"
)

// metrics are serve's numbers for Prometheus, and its health for whoever watches
// services. Names follow Prometheus' conventions: base units, _total for counters.
type metrics struct {
	s        *Server
	registry *prometheus.Registry
	boot     *prometheus.CounterVec
	decided  *prometheus.CounterVec
	sent     prometheus.Counter
	bmcs     *bmcMeter
	listener net.Listener // nil: not served
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		s:        s,
		registry: prometheus.NewRegistry(),
		boot: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bmctl_boot_events_total", Help: "What machines asked of network boot, by step: discover and request were offered something, loader, kernel and initrd are files sent, ignored got no answer.",
		}, []string{"step"}),
		decided: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bmctl_boot_decisions_total", Help: "Answers to boot script requests, by kind.",
		}, []string{"kind"}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bmctl_boot_sent_bytes_total", Help: "Bytes of loaders and boot assets sent.",
		}),
		bmcs: newBMCMeter(),
	}

	m.registry.MustRegister(m.bmcs.all()...)
	m.registry.MustRegister(m.boot, m.decided, m.sent, fleet{s}, cacheNumbers{func() *assetcache.Cache { return s.cache }},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	return m
}

func (m *metrics) sawBoot(e boot.Event) {
	m.boot.WithLabelValues(string(e.Type)).Inc()
	m.sent.Add(float64(e.Bytes))

	if e.Type == boot.EventScript {
		m.decided.WithLabelValues(e.Decision.String()).Inc()
	}
}

// bind binds the address; an empty one means that nothing is served.
func (m *metrics) bind(ctx context.Context, address string) (err error) {
	if address != "" {
		m.listener, err = listen(ctx, "metrics", address)
	}

	return err
}

func (m *metrics) close() {
	if m.listener != nil {
		_ = m.listener.Close()
	}
}

// serve answers until ctx ends.
func (m *metrics) serve(ctx context.Context) error {
	if m.listener == nil {
		return nil
	}

	server := &http.Server{Handler: m.handler(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })

	defer stop()

	if err := server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}

	return nil
}

func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", m.ready)

	if addr, ok := m.listener.Addr().(*net.TCPAddr); ok && addr.IP.IsLoopback() {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}

	return mux
}

// ready tells whether machines are acted upon; if not, the answer says why.
func (m *metrics) ready(w http.ResponseWriter, _ *http.Request) {
	if idle := m.s.ctrl.Idle(); idle != "" {
		http.Error(w, idle, http.StatusServiceUnavailable)

		return
	}

	_, _ = fmt.Fprintln(w, "ok")
}

// fleet are the numbers that are read when they are asked for.
type fleet struct{ s *Server }

var (
	machinesDesc = prometheus.NewDesc("bmctl_machines", "Machines that Omni knows, by status.", []string{"status"}, nil)
	agentsDesc   = prometheus.NewDesc("bmctl_agents", "Machines whose agent is connected.", nil, nil)
	latencyDesc  = prometheus.NewDesc("bmctl_bmc_latency_seconds", "How long the last power reading took, by machine.", []string{"machine"}, nil)
	bmcDownDesc  = prometheus.NewDesc("bmctl_bmc_failing", "Machines whose last power reading failed.", nil, nil)
	lateDesc     = prometheus.NewDesc("bmctl_bmc_polls_late_total", "Power readings that began late, as slower BMCs had all slots.", nil, nil)
	omniLagDesc  = prometheus.NewDesc("bmctl_omni_age_seconds", "How long ago Omni last confirmed what is known.", nil, nil)
	actingDesc   = prometheus.NewDesc("bmctl_acting", "1 if machines are acted upon.", nil, nil)
)

// Describe implements prometheus.Collector.
func (f fleet) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{machinesDesc, agentsDesc, latencyDesc, bmcDownDesc, lateDesc, omniLagDesc, actingDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f fleet) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}

	// Absent is right as long as Omni's list is: zero machines would be a lie.
	if machines, err := f.s.ctrl.Machines(); err == nil {
		gaugeMachines(gauge, machines)
	}

	ch <- prometheus.MustNewConstMetric(lateDesc, prometheus.CounterValue, float64(f.s.ctrl.LatePolls()))

	if known := f.s.ctrl.Knowledge(); known.Complete() {
		gauge(omniLagDesc, known.Age().Seconds())
	}

	acting := 0.0
	if f.s.ctrl.Idle() == "" {
		acting = 1
	}

	gauge(actingDesc, acting)
}

func gaugeMachines(gauge func(*prometheus.Desc, float64, ...string), machines []localapi.Machine) {
	statuses := map[string]int{}
	agents, down := 0, 0

	for _, m := range machines {
		statuses[m.Status]++

		if !m.AgentSince.IsZero() {
			agents++
		}

		if m.BMC.Error != "" {
			down++
		} else if m.BMC.LatencySeconds > 0 {
			gauge(latencyDesc, m.BMC.LatencySeconds, m.ID)
		}
	}

	for status, n := range statuses {
		gauge(machinesDesc, float64(n), status)
	}

	gauge(agentsDesc, float64(agents))
	gauge(bmcDownDesc, float64(down))
}
