package omnisim

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/go-api-signature/pkg/message"
	"github.com/siderolabs/omni/client/pkg/constants"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	siderolink "github.com/siderolabs/siderolink/api/siderolink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type accountKey struct{}

// caller is the account that signed the call, nil for none.
func caller(ctx context.Context) *account {
	acc, _ := ctx.Value(accountKey{}).(*account)

	return acc
}

func (s *Server) authUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := s.authenticate(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}

	return next(ctx, req)
}

func (s *Server) authStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := s.authenticate(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}

	return next(srv, &authedStream{ServerStream: stream, ctx: ctx})
}

type authedStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // a stream carries its context
}

func (s *authedStream) Context() context.Context { return s.ctx }

// authenticate puts the account that signed the call into the context. Machines
// that join have no account: Provision checks their token instead.
func (s *Server) authenticate(ctx context.Context, method string) (context.Context, error) {
	if method == siderolink.ProvisionService_Provision_FullMethodName {
		return ctx, nil
	}

	md, _ := metadata.FromIncomingContext(ctx)

	acc, err := s.verify(md, method)
	if err != nil {
		s.log.Debug("omnisim refused a call", "method", method, "error", err)

		return nil, status.Errorf(codes.Unauthenticated, "invalid signature: %v", err)
	}

	if err := s.checkProvider(ctx, acc, md); err != nil {
		return nil, err
	}

	return context.WithValue(ctx, accountKey{}, acc), nil
}

func (s *Server) verify(md metadata.MD, method string) (*account, error) {
	// The library indexes the four parts of the header without counting them.
	for _, header := range md.Get(message.SignatureHeaderKey) {
		if strings.Count(header, " ") != 3 {
			return nil, fmt.Errorf("the header %s has not the four parts of a signature", message.SignatureHeaderKey)
		}
	}

	msg := message.NewGRPC(md, method)

	signature, err := msg.Signature()
	if err != nil {
		return nil, err
	}

	acc := s.accounts.find(signature.KeyFingerprint)
	if acc == nil || acc.identity != signature.Identity {
		return nil, fmt.Errorf("no account %q has the key %s", signature.Identity, signature.KeyFingerprint)
	}

	return acc, msg.VerifySignature(acc.key)
}

// checkProvider refuses the account of a provider that Omni no longer knows, or
// that names another provider in the metadata.
func (s *Server) checkProvider(ctx context.Context, acc *account, md metadata.MD) error {
	if acc.providerID == "" {
		return nil
	}

	if named := md.Get(constants.InfraProviderMetadataKey); slices.ContainsFunc(named, func(id string) bool { return id != acc.providerID }) {
		return status.Errorf(codes.PermissionDenied, "the account of infra provider %q calls as %q", acc.providerID, named)
	}

	provider, err := s.store.state.Get(ctx, infra.NewProvider(acc.providerID).Metadata())

	switch {
	case state.IsNotFoundError(err), err == nil && provider.Metadata().Phase() == resource.PhaseTearingDown:
		return status.Errorf(codes.PermissionDenied, "infra provider %q is not registered", acc.providerID)
	case err != nil:
		return status.Errorf(codes.Internal, "look up infra provider %q: %v", acc.providerID, err)
	default:
		return nil
	}
}
