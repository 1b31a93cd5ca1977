package serve

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	cosiclient "github.com/cosi-project/runtime/pkg/state/protobuf/client"
	"github.com/siderolabs/go-api-signature/pkg/client/interceptor"
	"github.com/siderolabs/omni/client/pkg/client/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	omnires "github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bmctl/bmctl/serve/controllers"
	"github.com/bmctl/bmctl/serve/omnidial"
	"github.com/bmctl/bmctl/serve/resources"
)

// ErrCredentials: Omni refused the provider's key.
var ErrCredentials = errors.New("refused by Omni")

// omniAsked is how long Omni may take to answer at start.
const omniAsked = 5 * time.Second

// connectOmni makes the client and the provider's view of Omni's state. Nothing
// is sent yet. Watches are not retried inside the client: the controllers start
// all of them anew, so that what they know has one age.
func connectOmni(cfg Config, roots *x509.CertPool) (*grpc.ClientConn, state.State, error) {
	if err := resources.Register(cfg.ID); err != nil {
		return nil, nil, err
	}

	conn, err := omnidial.Dial(omnidial.Config{
		Endpoint: cfg.OmniAPIEndpoint, Roots: roots, InsecureSkipTLSVerify: cfg.InsecureSkipTLSVerify,
		Identity: interceptor.Options{ClientName: "bmctl " + cfg.Version, ServiceAccountBase64: cfg.OmniServiceAccountKey.Reveal()},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("make the client of Omni at %s: %w", cfg.OmniAPIEndpoint, err)
	}

	c := omni.NewClient(conn, omni.WithProviderID(cfg.ID))

	return conn, state.WrapCore(cosiclient.NewAdapter(v1alpha1.NewStateClient(c), cosiclient.WithDisableWatchRetry())), nil
}

// askOmni asks once whether Omni takes the key. A refusal is the one thing that
// keeps serve from starting; silent says why there was no answer.
func askOmni(ctx context.Context, st state.State, id string) (silent, refused error) {
	ctx, cancel := context.WithTimeout(ctx, omniAsked)
	defer cancel()

	// The lease is in the provider's own namespace, which no other key may read.
	_, err := st.Get(ctx, resources.NewLease(id).Metadata())

	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied:
		if controllers.NotRegistered(err) {
			return nil, nil // that may be mended in Omni while we run
		}

		return nil, fmt.Errorf("%w: %s", ErrCredentials, status.Convert(err).Message())
	}

	if err == nil || state.IsNotFoundError(err) {
		return nil, nil
	}

	return fmt.Errorf("no answer from Omni within %s: %s", omniAsked, status.Convert(err).Message()), nil
}

// publish tells Omni who we are; with the static label it then makes an
// infra.Machine of every machine that joins through us.
func publish(ctx context.Context, st state.State, cfg Config) error {
	return st.Modify(ctx, infra.NewProviderStatus(cfg.ID), func(r resource.Resource) error {
		s := r.(*infra.ProviderStatus) //nolint:forcetypeassert // the state returns the type that was asked for
		s.Metadata().Labels().Set(omnires.LabelIsStaticInfraProvider, "")
		s.TypedSpec().Value.Name = cfg.ProviderName
		s.TypedSpec().Value.Description = cfg.ProviderDescription
		s.TypedSpec().Value.Icon = icon

		return nil
	})
}

// keepPublishing publishes until it succeeds or ctx ends, and again whenever the
// resource has gone.
func (s *Server) keepPublishing(ctx context.Context) {
	const again = 30 * time.Second

	delay := time.Second / 2

	for ctx.Err() == nil {
		err := publish(ctx, s.state, s.cfg)

		switch {
		case err == nil:
			delay = again
		case ctx.Err() == nil:
			s.log.Debug("provider status not published", "error", err)

			delay = min(2*delay, again)
		}

		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}
