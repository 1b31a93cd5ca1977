package omnisim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/state"
	stateserver "github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/siderolabs/omni/client/api/omni/management"
	"github.com/siderolabs/omni/client/pkg/constants"
	_ "github.com/siderolabs/proto-codec/codec" // the codec that Omni's client and server both use
	siderolink "github.com/siderolabs/siderolink/api/siderolink"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // Omni's client compresses every call
	"google.golang.org/grpc/keepalive"
)

// Config says what to start.
type Config struct {
	// Dir holds the state (omni.db) and the keys of the two service accounts. It
	// is created if need be. A second server on the same Dir fails to start.
	Dir string
	// Listen is the address to listen on, "127.0.0.1:0" if empty.
	Listen string
	// Advertise is the host:port that machines are told to join, for a listener
	// whose own address they cannot dial. Empty: the listener's address.
	Advertise string
	// ProviderID is the id of the infrastructure provider, "bare-metal" if empty.
	ProviderID string
	// Shutdown, if set, is called when a user asks Omni to power a machine off:
	// Omni asks the operating system of that machine to shut down. It must not
	// block.
	Shutdown func(machineID string)
	// Log receives what happens; nil discards it.
	Log *slog.Logger
}

// Server is a running stand-in. Its methods are safe for concurrent use.
type Server struct {
	cfg      Config
	log      *slog.Logger
	store    *store
	accounts *accounts
	gate     *gate
	grpc     *grpc.Server
	linkKey  string // SideroLink's public key of this server

	providerKey, operatorKey string

	reconcileMu sync.Mutex // one reconciliation at a time

	ctx    context.Context //nolint:containedctx // the server's lifetime
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	close  func() error
}

// Start opens the state in cfg.Dir, binds the listener and serves until Close.
//
// A first start creates the provider (infra.Provider), its join token and the
// two service accounts; a later one finds them again, so that clients keep
// their keys.
func Start(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()

	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("omnisim: create the state directory: %w", err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{cfg: cfg, log: cfg.Log, ctx: ctx, cancel: cancel}
	s.close = sync.OnceValue(s.shutDown)

	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("omnisim: %w", err), s.Close())
	}

	s.tasks.Go(func() {
		if err := s.grpc.Serve(s.gate); err != nil && ctx.Err() == nil {
			s.log.Error("omnisim stopped serving", "error", err)
		}
	})

	return s, nil
}

func (cfg Config) withDefaults() Config {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}

	if cfg.ProviderID == "" {
		cfg.ProviderID = "bare-metal"
	}

	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}

	return cfg
}

// open acquires everything that shutDown releases, in the order of need.
func (s *Server) open() (err error) {
	if s.store, err = openStore(s.cfg.Dir); err != nil {
		return err
	}

	if err = s.loadAccounts(); err != nil {
		return err
	}

	listener, err := (&net.ListenConfig{}).Listen(s.ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}

	s.gate = newGate(listener)

	if err = s.publish(); err != nil {
		return fmt.Errorf("publish Omni's own resources: %w", err)
	}

	if err = s.startControllers(); err != nil {
		return fmt.Errorf("start the controllers: %w", err)
	}

	return s.register()
}

// register builds the gRPC server. Omni's client pings every minute, which
// gRPC's default policy would take for abuse.
func (s *Server) register() error {
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(constants.GRPCMaxMessageSize),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(s.authUnary),
		grpc.ChainStreamInterceptor(s.authStream),
	)

	watches, err := newEpoch(stateserver.NewState(&guarded{core: s.store.state}))
	if err != nil {
		return err
	}

	v1alpha1.RegisterStateServer(s.grpc, watches)
	siderolink.RegisterProvisionServiceServer(s.grpc, &provisioner{server: s})
	management.RegisterManagementServiceServer(s.grpc, &manager{server: s})

	return nil
}

// Close stops serving, breaks all connections and closes the state. A second
// Close returns the result of the first.
func (s *Server) Close() error { return s.close() }

func (s *Server) shutDown() error {
	s.cancel()

	if s.grpc != nil {
		s.grpc.Stop()
	}

	var err error

	if s.gate != nil {
		if err = s.gate.Close(); errors.Is(err, net.ErrClosed) {
			err = nil
		}
	}

	s.tasks.Wait()

	if s.store != nil {
		err = errors.Join(err, s.store.Close())
	}

	return err
}

// Endpoint is the URL for Omni's client: http://host:port.
func (s *Server) Endpoint() string { return "http://" + s.gate.Addr().String() }

// ProviderKey is the provider's service account key, as in
// OMNI_SERVICE_ACCOUNT_KEY.
func (s *Server) ProviderKey() string { return s.providerKey }

// OperatorKey is the key of a service account with the role Operator.
func (s *Server) OperatorKey() string { return s.operatorKey }

// State is Omni's state without any access rule, for tests.
func (s *Server) State() state.State { return s.store.state }

// SetAway makes the server unreachable, or reachable again: while away it
// breaks every connection and accepts none, but keeps its port.
func (s *Server) SetAway(away bool) { s.gate.setAway(away) }

// SetSilent makes the server accept connections and data without ever
// answering, or lets it go on from where it stopped.
func (s *Server) SetSilent(silent bool) { s.gate.setSilent(silent) }
