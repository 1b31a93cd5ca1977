package agentsim

import (
	"context"
	"fmt"

	agentpb "github.com/siderolabs/talos-metal-agent/api/agent"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// service answers the provider's calls. Like the real agent it lets equal calls
// that overlap share one run, which ends when the first of them is given up.
type service struct {
	agentpb.UnimplementedAgentServiceServer

	agent *Agent
	calls singleflight.Group
}

func (s *service) Hello(context.Context, *agentpb.HelloRequest) (*agentpb.HelloResponse, error) {
	return &agentpb.HelloResponse{}, nil
}

func (s *service) GetPowerManagement(ctx context.Context, request *agentpb.GetPowerManagementRequest) (*agentpb.GetPowerManagementResponse, error) {
	if s.agent.Args.TestMode {
		return &agentpb.GetPowerManagementResponse{Api: &agentpb.GetPowerManagementResponse_API{}}, nil
	}

	name := request.GetIpmi().GetCheckUsername()

	return shared(ctx, s, "read power management of", "get/"+name, func(ctx context.Context) (*agentpb.GetPowerManagementResponse, error) {
		address, port, err := s.agent.Hardware.IPMIAddress(ctx)
		if err != nil {
			return nil, err
		}

		exists, err := s.agent.Hardware.UserExists(ctx, name)
		if err != nil {
			return nil, err
		}

		return &agentpb.GetPowerManagementResponse{Ipmi: &agentpb.GetPowerManagementResponse_IPMI{
			Address: address, Port: uint32(port), UserExists: exists, //nolint:gosec // a UDP port
		}}, nil
	})
}

func (s *service) SetPowerManagement(ctx context.Context, request *agentpb.SetPowerManagementRequest) (*agentpb.SetPowerManagementResponse, error) {
	if s.agent.Args.TestMode {
		return &agentpb.SetPowerManagementResponse{}, nil
	}

	name, password := request.GetIpmi().GetUsername(), request.GetIpmi().GetPassword()

	return shared(ctx, s, "set up the BMC user of", "set/"+name+"/"+password, func(ctx context.Context) (*agentpb.SetPowerManagementResponse, error) {
		return &agentpb.SetPowerManagementResponse{}, s.agent.Hardware.SetUser(ctx, name, password)
	})
}

func (s *service) Reboot(ctx context.Context, _ *agentpb.RebootRequest) (*agentpb.RebootResponse, error) {
	return shared(ctx, s, "reboot", "reboot", func(ctx context.Context) (*agentpb.RebootResponse, error) {
		return &agentpb.RebootResponse{}, s.agent.Hardware.Reboot(ctx)
	})
}

func (s *service) WipeDisks(ctx context.Context, request *agentpb.WipeDisksRequest) (*agentpb.WipeDisksResponse, error) {
	return shared(ctx, s, "wipe the disks of", fmt.Sprint("wipe/", request.GetZeroes()), func(ctx context.Context) (*agentpb.WipeDisksResponse, error) {
		return &agentpb.WipeDisksResponse{}, s.agent.Hardware.Wipe(ctx, request.GetZeroes())
	})
}

// shared runs do once for all equal calls (those of one key) that overlap, and
// gives each the outcome, or ctx's end if that comes first.
func shared[T any](ctx context.Context, s *service, what, key string, do func(context.Context) (T, error)) (T, error) {
	var none T

	log := s.agent.log().With("call", what+" the machine")

	outcome := s.calls.DoChan(key, func() (any, error) {
		log.Info("the provider calls")

		return do(ctx)
	})

	select {
	case <-ctx.Done():
		return none, status.FromContextError(ctx.Err()).Err()
	case result := <-outcome:
		if result.Err != nil {
			return none, status.Errorf(codes.Internal, "%s machine %s: %v", what, s.agent.MachineID, result.Err)
		}

		return result.Val.(T), nil
	}
}
