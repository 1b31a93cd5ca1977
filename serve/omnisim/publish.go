package omnisim

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/constants"
	"github.com/siderolabs/omni/client/pkg/jointoken"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/registry"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
	joinconfig "github.com/siderolabs/omni/client/pkg/siderolink"
)

// Version is the Omni release that the stand-in behaves as.
const Version = "v1.9.3"

// Omni's default ports for the events and logs of machines.
const (
	eventsPort = 8090
	logsPort   = 8092
)

const imageFactoryPXEURL = "https://pxe.factory.talos.dev"

// publish writes what Omni has of its own: its version and features, how
// machines join, and the provider unless it was unregistered before.
func (s *Server) publish() error {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("generate SideroLink's key: %w", err)
	}

	s.linkKey = base64.StdEncoding.EncodeToString(key.PublicKey().Bytes())

	for _, step := range []func() error{s.publishVersion, s.publishDefinitions, s.publishConnection, s.firstRegistration} {
		if err := step(); err != nil {
			return err
		}
	}

	return nil
}

// put creates the resource or changes the stored one by set.
func put[T resource.Resource](ctx context.Context, st state.State, res T, set func(T)) error {
	return safe.StateModify(ctx, st, res, func(r T) error {
		set(r)

		return nil
	})
}

func (s *Server) publishVersion() error {
	features := put(s.ctx, s.store.state, omni.NewFeaturesConfig(omni.FeaturesConfigID), func(r *omni.FeaturesConfig) {
		r.TypedSpec().Value.ImageFactoryBaseUrl = constants.ImageFactoryBaseURL
		r.TypedSpec().Value.ImageFactoryPxeBaseUrl = imageFactoryPXEURL
	})

	version := put(s.ctx, s.store.state, system.NewSysVersion(system.SysVersionID), func(r *system.SysVersion) {
		r.TypedSpec().Value.BackendVersion = Version
		r.TypedSpec().Value.InstanceName = "omnisim"
	})

	talos := put(s.ctx, s.store.state, omni.NewTalosVersion(constants.DefaultTalosVersion), func(r *omni.TalosVersion) {
		r.TypedSpec().Value.Version = constants.DefaultTalosVersion
	})

	return errors.Join(features, version, talos)
}

// publishDefinitions defines the types that some account may touch.
func (s *Server) publishDefinitions() error {
	user, provider := userTable(RoleOperator), providerTable()

	for _, res := range registry.Resources {
		typ := res.ResourceDefinition().Type
		if user[typ].level == nothing && provider[typ].level == nothing {
			continue
		}

		definition, err := meta.NewResourceDefinition(res.ResourceDefinition())
		if err != nil {
			return err
		}

		if err := s.store.state.Create(s.ctx, definition); err != nil {
			return fmt.Errorf("define %s: %w", typ, err)
		}
	}

	return nil
}

// joinAddress is the URL at which machines join, as Talos spells an unencrypted one.
func (s *Server) joinAddress() string {
	if s.cfg.Advertise != "" {
		return "grpc://" + s.cfg.Advertise
	}

	return "grpc://" + s.gate.Addr().String()
}

func (s *Server) publishConnection() error {
	token, err := s.defaultJoinToken()
	if err != nil {
		return err
	}

	args, _, err := s.renderJoin(joinconfig.WithJoinToken(token))
	if err != nil {
		return err
	}

	api := put(s.ctx, s.store.state, siderolink.NewAPIConfig(), func(r *siderolink.APIConfig) {
		r.TypedSpec().Value.MachineApiAdvertisedUrl = s.joinAddress()
		r.TypedSpec().Value.EventsPort = eventsPort
		r.TypedSpec().Value.LogsPort = logsPort
	})

	params := put(s.ctx, s.store.state, siderolink.NewConnectionParams(siderolink.ConfigID), func(r *siderolink.ConnectionParams) {
		r.TypedSpec().Value.Args = strings.Join(args, " ")
		r.TypedSpec().Value.ApiEndpoint = s.joinAddress()
		r.TypedSpec().Value.JoinToken = token
		r.TypedSpec().Value.EventsPort = eventsPort
		r.TypedSpec().Value.LogsPort = logsPort
	})

	return errors.Join(api, params)
}

// defaultJoinToken is the token for machines of no provider, made at the first start.
func (s *Server) defaultJoinToken() (string, error) {
	params, err := safe.StateGetByID[*siderolink.ConnectionParams](s.ctx, s.store.state, siderolink.ConfigID)
	if err == nil {
		return params.TypedSpec().Value.JoinToken, nil
	}

	if !state.IsNotFoundError(err) {
		return "", err
	}

	return jointoken.Generate()
}

// renderJoin makes kernel arguments and machine configuration for joining here.
func (s *Server) renderJoin(opts ...joinconfig.JoinConfigOption) (args []string, config string, err error) {
	options, err := joinconfig.NewJoinOptions(append(opts,
		joinconfig.WithMachineAPIURL(s.joinAddress()),
		joinconfig.WithEventSinkPort(eventsPort),
		joinconfig.WithLogServerPort(logsPort))...)
	if err != nil {
		return nil, "", fmt.Errorf("render the join configuration: %w", err)
	}

	documents, err := options.RenderJoinConfig()
	if err != nil {
		return nil, "", fmt.Errorf("render the join configuration: %w", err)
	}

	return options.GetKernelArgs(), string(documents), nil
}

// firstRegistration registers the provider at the first start; at a later one it
// only refreshes the address in its join configuration.
func (s *Server) firstRegistration() error {
	token, err := s.joinToken(s.cfg.ProviderID)
	if err != nil {
		return err
	}

	if token == "" {
		return s.Register()
	}

	return s.publishJoinConfig(token)
}

// Register makes the provider known to Omni (again).
func (s *Server) Register() error {
	provider := infra.NewProvider(s.cfg.ProviderID)

	if err := s.store.state.Create(s.ctx, provider); err != nil && !state.IsConflictError(err) {
		return fmt.Errorf("register infra provider %q: %w", s.cfg.ProviderID, err)
	}

	return s.RotateJoinToken()
}

// Unregister deletes the provider from Omni: from now on its account is refused.
// Its resources stay.
func (s *Server) Unregister() error {
	if err := s.store.state.Destroy(s.ctx, infra.NewProvider(s.cfg.ProviderID).Metadata()); err != nil {
		return fmt.Errorf("unregister infra provider %q: %w", s.cfg.ProviderID, err)
	}

	return nil
}

// RotateJoinToken gives the provider a new join token; the old one is refused
// from now on.
func (s *Server) RotateJoinToken() error {
	token, err := jointoken.Generate()
	if err != nil {
		return err
	}

	return s.publishJoinConfig(token)
}

func (s *Server) publishJoinConfig(token string) error {
	id := s.cfg.ProviderID

	args, config, err := s.renderJoin(joinconfig.WithJoinToken(token), joinconfig.WithProvider(infra.NewProvider(id)))
	if err != nil {
		return err
	}

	return put(s.ctx, s.store.state, siderolink.NewProviderJoinConfig(id), func(r *siderolink.ProviderJoinConfig) {
		r.Metadata().Labels().Set(omni.LabelInfraProviderID, id)
		r.TypedSpec().Value.JoinToken = token
		r.TypedSpec().Value.Config = &specs.JoinConfig{KernelArgs: args, Config: config}
	})
}

// joinToken is the provider's join token, empty if it never had one.
func (s *Server) joinToken(providerID string) (string, error) {
	config, err := safe.StateGetByID[*siderolink.ProviderJoinConfig](s.ctx, s.store.state, providerID)
	if state.IsNotFoundError(err) {
		return "", nil
	}

	if err != nil {
		return "", fmt.Errorf("look up the join token of %q: %w", providerID, err)
	}

	return config.TypedSpec().Value.JoinToken, nil
}
