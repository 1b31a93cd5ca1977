package serve

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/agent"
	"github.com/bmctl/bmctl/serve/assetcache"
	"github.com/bmctl/bmctl/serve/controllers"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/pins"
)

// drainTime is how long running requests may take to end once serve is told to.
const drainTime = 5 * time.Second

// Server is the provider, put together. Use it once: New, then Run.
type Server struct {
	cfg Config
	log *slog.Logger

	omni   *grpc.ClientConn
	roots  *x509.CertPool // whom we trust; nil: the system's authorities
	state  state.State
	boot   *boot.Server
	hub    *agent.Hub
	ctrl   *controllers.Controller
	grpc   *grpc.Server
	http   *http.Server
	socket *localapi.Server
	events *eventRing

	machineConfig *machineConfig
	agents        sync.Map // ids of the machines whose agent was told to be connected

	pins    *pins.Store
	cache   *assetcache.Cache // nil: machines load from the Image Factory
	metrics *metrics

	// With TLS agents have a port of their own, and a gRPC server for it.
	identity    *identity
	grpcTLS     *grpc.Server
	tlsListener net.Listener

	advertise netip.Addr
	listener  net.Listener // HTTP and gRPC
	started   time.Time
	keptIn    string // the state directory, or "" where there is none
}

// New puts the parts together; nothing is bound and nobody is asked. The
// configuration must be one that Validate has nothing against.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	s := &Server{cfg: cfg, log: log, events: newEventRing(), started: time.Now()}
	s.keptIn = s.stateDir()

	var err error
	if s.advertise, err = advertised(cfg.APIAdvertiseAddress); err != nil {
		return nil, err
	}

	if s.roots, err = cfg.roots(); err != nil {
		return nil, fmt.Errorf("extra CA file: %w", err)
	}

	if s.omni, s.state, err = connectOmni(cfg, s.roots); err != nil {
		return nil, err
	}

	extra, err := loadExtraConfig(cfg.ExtraMachineConfigPath)
	if err != nil {
		return nil, fmt.Errorf("extra machine config: %w", err)
	}

	if s.identity, err = newIdentity(cfg, s.advertise, log.With("component", "tls")); err != nil {
		return nil, err
	}

	if s.pins, err = pins.Open(s.pinsConfig()); err != nil {
		return nil, err
	}

	if s.cache, err = s.newCache(func(t assetcache.Transfer) { s.assetServed(t, "from the asset cache") }); err != nil {
		return nil, err
	}

	s.hub = s.newHub()
	s.metrics = newMetrics(s)
	s.machineConfig = &machineConfig{extra: extra, log: log}

	if cfg.TLSEnabled {
		s.machineConfig.ca = s.identity.CA
	}

	if s.ctrl, err = s.newController(); err != nil {
		return nil, err
	}

	s.machineConfig.join = s.ctrl.Knowledge().JoinConfig

	if s.boot, err = s.newBoot(); err != nil {
		return nil, err
	}

	s.socket = localapi.NewServer(&backend{s}, log)
	s.grpc = grpc.NewServer()
	s.grpcTLS = grpc.NewServer(grpc.Creds(credentials.NewTLS(s.identity.config())))

	if cfg.TLSEnabled {
		s.hub.Register(s.grpcTLS)
	} else {
		s.hub.Register(s.grpc)
	}

	s.http = s.newHTTP(s.machineConfig)

	return s, nil
}

func (s *Server) newController() (*controllers.Controller, error) {
	images, err := s.cfg.imageFactory(webClient(s.roots), s.log)
	if err != nil {
		return nil, err
	}

	host, _ := os.Hostname() // for people who read the lease; empty will do

	return controllers.New(controllers.Config{
		ProviderID:        s.cfg.ID,
		State:             s.state,
		Power:             power.NewDialer(s.powerOptions()),
		Agents:            s.hub,
		Log:               s.log.With("component", "controllers"),
		Observe:           s.events.add,
		PowerRead:         s.metrics.bmcs.read,
		MinRebootInterval: s.cfg.MinRebootInterval,
		MaxDisruptions:    s.cfg.MaxDisruptions,
		MaxStaleness:      s.cfg.MaxStaleness,
		PollInterval:      s.cfg.PollInterval,
		PollConcurrency:   s.cfg.PollConcurrency,
		PollTimeout:       s.cfg.PollTimeout,
		PXEMode:           s.pxeMode(),
		WipeWithZeroes:    s.cfg.WipeWithZeroes,
		RedfishPort:       s.cfg.RedfishPort,
		QEMUDir:           s.cfg.APIPowerMgmtStateDir,
		Labels:            labels(s.cfg.MachineLabels),
		DiskMethod:        s.diskMethod,
		Assets: &assets{
			cfg: s.cfg, factory: images, cache: s.cache, log: s.log.With("component", "assets"),
			at: s.machinesSee, agentAt: s.agentsDial, inline: s.machineConfig.document,
		},
		StateDir: s.keptIn,
		Takeover: s.cfg.Takeover,
		Host:     host,
		Name:     s.nameOf,
	})
}

func (s *Server) powerOptions() power.Options {
	use := power.RedfishNever

	switch {
	case s.cfg.RedfishUseAlways:
		use = power.RedfishAlways
	case s.cfg.RedfishUseWhenAvailable:
		use = power.RedfishWhenAvailable
	}

	return power.Options{
		Redfish:          use,
		PlainHTTP:        !s.cfg.RedfishUseHTTPS,
		CheckCertificate: s.pins.Check,
		Fallback:         s.redfishFallback,
		Roots:            s.roots,
		KeepBootMode:     !s.cfg.RedfishSetBootSourceOverrideMode,
		IPMIMode:         s.pxeMode(),
		Log:              s.log.With("component", "power"),
	}
}

func (s *Server) pinsConfig() pins.Config {
	return pins.Config{
		Dir: s.keptIn, Enforce: !s.cfg.RedfishInsecureSkipTLSVerify,
		Log: s.log.With("component", "pins"), Notice: s.events.add,
	}
}

func (s *Server) pxeMode() power.Mode {
	if s.cfg.IPMIPXEBootMode == "bios" {
		return power.ModeBIOS
	}

	return power.ModeUEFI
}

// stateDir is the state directory, or "" where the default one cannot be used:
// only one that was asked for is worth failing over.
func (s *Server) stateDir() string {
	err := os.MkdirAll(s.cfg.StateDir, 0o700)
	if err != nil && !s.cfg.StateDirGiven {
		s.log.Warn("nothing is kept over a restart", "error", err, "hint", "--state-dir")

		return ""
	}

	return s.cfg.StateDir
}

func labels(given []string) map[string]string {
	all := map[string]string{}

	for _, label := range given {
		key, value, _ := strings.Cut(label, "=")
		all[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}

	return all
}

// diskMethod is how this machine is made to boot its disk: the file may say it
// per machine.
func (s *Server) diskMethod(m boot.Machine) boot.DiskMethod {
	for _, c := range s.cfg.Machines {
		if c.BootFromDiskMethod != "" && (strings.EqualFold(c.UUID, m.UUID) ||
			(c.Serial != "" && c.Serial == m.Serial) || (c.MAC != "" && strings.EqualFold(c.MAC, m.MAC))) {
			return c.BootFromDiskMethod
		}
	}

	return s.cfg.BootFromDiskMethod
}

func (s *Server) nameOf(id, bmcAddress string) string {
	if name := s.cfg.NamesByID[id]; name != "" {
		return name
	}

	if bmcAddress == "" {
		return ""
	}

	return s.cfg.NamesByAddress[bmcAddress]
}

// machinesSee is the address and port of HTTP and gRPC that machines are told.
func (s *Server) machinesSee() netip.AddrPort {
	port := s.cfg.APIPort
	if s.listener != nil {
		port = s.listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // a TCP listener
	}

	return netip.AddrPortFrom(s.advertise, uint16(port)) //nolint:gosec // a port
}

// Run binds everything, then starts everything, and serves until ctx ends. Then
// it drains for at most 5 s. An Omni that refuses the key at start is
// ErrCredentials, and nothing was bound.
func (s *Server) Run(ctx context.Context) error {
	defer s.omni.Close() //nolint:errcheck // nothing is lost with it
	defer s.keepEvents()()
	defer s.keepCache()()

	s.log.Info("starting provider", "id", s.cfg.ID, "version", s.cfg.Version, "omni", s.cfg.OmniAPIEndpoint, "advertise", s.advertise.String())

	silent, refused := askOmni(ctx, s.state, s.cfg.ID)
	if refused != nil {
		return refused
	}

	if silent != nil {
		s.log.Warn("Omni does not answer; serving, and asking again", "error", silent)
	}

	if err := s.bind(ctx); err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	s.component(group, "controllers", func() error { s.ctrl.Run(ctx); return nil })
	s.component(group, "BMC certificates", func() error { s.pins.Run(ctx); return nil })
	s.component(group, "publisher", func() error { s.keepPublishing(ctx); return nil })
	s.component(group, "network boot", func() error { return s.boot.Run(ctx) })
	s.component(group, "server", s.serveHTTP)
	s.component(group, "local API", func() error { return s.serveSocket(ctx) })
	s.component(group, "agents over TLS", func() error { return s.serveTLS(ctx) })
	s.component(group, "metrics", func() error { return s.metrics.serve(ctx) })
	s.component(group, "service manager", func() error { s.notifyService(ctx); return nil })
	group.Go(func() error {
		<-ctx.Done()
		s.drain()

		return nil
	})

	return group.Wait()
}

func (s *Server) component(group *errgroup.Group, name string, run func() error) {
	s.log.Info("start component", "component", name)
	group.Go(func() error {
		if err := run(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}

		return nil
	})
}

func (s *Server) serveHTTP() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}

	return nil
}

func (s *Server) serveSocket(ctx context.Context) error {
	if s.socket == nil {
		return nil
	}

	return s.socket.Serve(ctx)
}

// drain lets running requests end; agents' tunnels are closed, and call again
// when we are back.
func (s *Server) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()

	s.hub.Close()

	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
	}

	s.grpc.Stop()
	s.grpcTLS.Stop()
}
