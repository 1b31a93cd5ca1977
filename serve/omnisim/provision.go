package omnisim

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/google/uuid"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/jointoken"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	pb "github.com/siderolabs/siderolink/api/siderolink"
	"github.com/siderolabs/siderolink/pkg/wireguard"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// provisioner answers machines that join over SideroLink. There is no WireGuard
// behind it: a machine that has joined counts as connected until its provider
// reports it off.
type provisioner struct {
	pb.UnimplementedProvisionServiceServer

	server *Server
}

// Provision lets the machine join if its token is valid. A token that carries a
// provider's id makes it that provider's machine.
func (p *provisioner) Provision(ctx context.Context, req *pb.ProvisionRequest) (*pb.ProvisionResponse, error) {
	id, err := uuid.Parse(req.GetNodeUuid())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "node_uuid %q: %v", req.GetNodeUuid(), err)
	}

	providerID, err := p.server.checkToken(ctx, req.GetJoinToken())
	if err != nil {
		return nil, err
	}

	link, err := p.server.link(ctx, id.String(), providerID, req)
	if err != nil {
		return nil, err
	}

	if err := p.server.reconcile(id.String()); err != nil {
		return nil, status.Errorf(codes.Internal, "machine %s: %v", id, err)
	}

	p.server.log.Info("machine joined", "machine_id", id.String(), "provider", providerID)

	prefix := wireguard.NetworkPrefix("")
	server := netip.PrefixFrom(prefix.Addr().Next(), prefix.Bits())

	return &pb.ProvisionResponse{
		ServerEndpoint:    []string{p.server.gate.Addr().String()},
		ServerPublicKey:   p.server.linkKey,
		NodeAddressPrefix: link.TypedSpec().Value.NodeSubnet,
		ServerAddress:     server.Addr().String(),
	}, nil
}

// checkToken returns the id of the provider whose machine the token is for,
// empty for a machine of none. Version 2 tokens are signed with the provider's
// own token, all others with the default one.
func (s *Server) checkToken(ctx context.Context, encoded string) (string, error) {
	refused := status.Error(codes.PermissionDenied, "the join token is not valid")

	token, err := jointoken.Parse(encoded)
	if err != nil || encoded == "" {
		return "", refused
	}

	providerID := token.ExtraData[omni.LabelInfraProviderID]

	secret, err := s.defaultJoinToken()
	if token.Version == jointoken.Version2 {
		secret, err = s.joinToken(providerID)
	}

	if err != nil {
		return "", status.Errorf(codes.Internal, "look up the join token: %v", err)
	}

	if secret == "" || !token.IsValid(secret) {
		return "", refused
	}

	if providerID == "" {
		return "", nil
	}

	if _, err := s.store.state.Get(ctx, infra.NewProvider(providerID).Metadata()); err != nil {
		return "", status.Errorf(codes.PermissionDenied, "infra provider %q is not registered", providerID)
	}

	return providerID, nil
}

// link creates or renews the machine's Link and remembers its unique token.
func (s *Server) link(ctx context.Context, id, providerID string, req *pb.ProvisionRequest) (*siderolink.Link, error) {
	if err := s.finishRemoval(ctx, id); err != nil {
		return nil, err
	}

	subnet, err := wireguard.GenerateRandomNodeAddr(wireguard.NetworkPrefix(""))
	if err != nil {
		return nil, status.Errorf(codes.Internal, "make up an address: %v", err)
	}

	link := siderolink.NewLink(id, &specs.SiderolinkSpec{NodeSubnet: subnet.String()})

	link, err = safe.StateModifyWithResult(ctx, s.store.state, link, func(r *siderolink.Link) error {
		r.TypedSpec().Value.NodePublicKey = req.GetNodePublicKey()
		r.TypedSpec().Value.Connected = true
		r.TypedSpec().Value.LastEndpoint = remoteAddress(ctx)

		if providerID != "" {
			r.Metadata().Labels().Set(omni.LabelInfraProviderID, providerID)
		}

		return nil
	})
	if err != nil {
		return nil, status.Errorf(codes.Internal, "link machine %s: %v", id, err)
	}

	if req.GetNodeUniqueToken() == "" {
		return link, nil
	}

	return link, put(ctx, s.store.state, siderolink.NewNodeUniqueToken(id), func(r *siderolink.NodeUniqueToken) {
		r.TypedSpec().Value.Token = req.GetNodeUniqueToken()
	})
}

// finishRemoval makes room for a machine that comes back: its old Link goes
// first, and cannot before the provider has released the machine.
func (s *Server) finishRemoval(ctx context.Context, id string) error {
	link := linkPointer(id)

	old, err := s.store.state.Get(ctx, link)
	if state.IsNotFoundError(err) || (err == nil && old.Metadata().Phase() == resource.PhaseRunning) {
		return nil
	}

	if err == nil {
		err = s.reconcile(id) // the release may be due, or under way
	}

	if err == nil {
		err = s.store.state.Destroy(ctx, link)
	}

	if err != nil && !state.IsNotFoundError(err) {
		return status.Error(codes.Unavailable, fmt.Sprintf("machine %s is being removed, try again later: %v", id, err))
	}

	return nil
}

func remoteAddress(ctx context.Context) string {
	if from, ok := peer.FromContext(ctx); ok {
		return from.Addr.String()
	}

	return ""
}
