package agent_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	agentpb "github.com/siderolabs/talos-metal-agent/api/agent"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/agent"
)

var secret = power.NewSecret("s3cret-Passw0rd!")

func ipmiAt(address string, port uint32) func(*agentpb.GetPowerManagementRequest) (*agentpb.GetPowerManagementResponse, error) {
	return func(request *agentpb.GetPowerManagementRequest) (*agentpb.GetPowerManagementResponse, error) {
		if request.GetIpmi() == nil || request.GetApi() != nil {
			return nil, status.Error(codes.InvalidArgument, "not asked for IPMI")
		}

		exists := request.GetIpmi().GetCheckUsername() == "talos-agent"

		return &agentpb.GetPowerManagementResponse{
			Ipmi: &agentpb.GetPowerManagementResponse_IPMI{Address: address, Port: port, UserExists: exists},
		}, nil
	}
}

func TestPowerManagement(t *testing.T) {
	s := newSite(t, agent.Config{})
	f := &fakeAgent{power: ipmiAt("10.0.3.9", 623)}
	s.connect(t, "127.0.0.2", f)

	addr, port, exists, err := s.PowerManagement(t.Context(), strings.ToUpper(machine))
	if addr != "10.0.3.9" || port != 623 || !exists || err != nil {
		t.Errorf("got %q, %d, %t, %v, want 10.0.3.9, 623, true", addr, port, exists, err)
	}
}

func TestPowerManagementOfNonsense(t *testing.T) {
	for _, power := range []func(*agentpb.GetPowerManagementRequest) (*agentpb.GetPowerManagementResponse, error){
		ipmiAt("", 623), ipmiAt("bmc.example", 623), ipmiAt("10.0.3.9", 65536),
	} {
		s := newSite(t, agent.Config{})
		s.connect(t, "127.0.0.2", &fakeAgent{power: power})

		addr, port, exists, err := s.PowerManagement(t.Context(), machine)
		if !errors.Is(err, agent.ErrRefused) || addr != "" || port != 0 || exists {
			t.Errorf("got %q, %d, %t, %v, want nothing and ErrRefused", addr, port, exists, err)
		}
	}
}

func TestTestModeAsksForTheAPI(t *testing.T) {
	s := newSite(t, agent.Config{TestMode: true})
	s.connect(t, "127.0.0.2", &fakeAgent{
		power: func(request *agentpb.GetPowerManagementRequest) (*agentpb.GetPowerManagementResponse, error) {
			if request.GetApi() == nil || request.GetIpmi() != nil {
				return nil, status.Error(codes.InvalidArgument, "not asked for the API")
			}

			return &agentpb.GetPowerManagementResponse{Api: &agentpb.GetPowerManagementResponse_API{}}, nil
		},
		setPower: func(request *agentpb.SetPowerManagementRequest) error {
			if request.GetApi() == nil || request.GetIpmi() != nil {
				return status.Error(codes.InvalidArgument, "not told the API")
			}

			return nil
		},
	})

	if addr, port, exists, err := s.PowerManagement(t.Context(), machine); addr != "" || port != 0 || exists || err != nil {
		t.Errorf("got %q, %d, %t, %v, want nothing at all", addr, port, exists, err)
	}

	if err := s.SetPowerManagement(t.Context(), machine, agent.Username, secret); err != nil {
		t.Error(err)
	}
}

func TestSetPowerManagement(t *testing.T) {
	s := newSite(t, agent.Config{})
	got := make(chan *agentpb.SetPowerManagementRequest_IPMI, 1)
	s.connect(t, "127.0.0.2", &fakeAgent{setPower: func(request *agentpb.SetPowerManagementRequest) error {
		got <- request.GetIpmi()

		return nil
	}})

	if err := s.SetPowerManagement(t.Context(), machine, agent.Username, secret); err != nil {
		t.Fatal(err)
	}

	if ipmi := <-got; ipmi.GetUsername() != "talos-agent" || ipmi.GetPassword() != secret.Reveal() {
		t.Errorf("the agent was told %q and %q", ipmi.GetUsername(), ipmi.GetPassword())
	}
}

// An agent's words come from a peer that nobody has authenticated, and may
// repeat what it was told.
func TestRefusalIsQuotedWithoutTheSecret(t *testing.T) {
	s := newSite(t, agent.Config{})
	s.connect(t, "127.0.0.2", &fakeAgent{setPower: func(request *agentpb.SetPowerManagementRequest) error {
		return status.Error(codes.Internal, "no slot\nfor "+request.GetIpmi().GetPassword()+strings.Repeat("x", 5000))
	}})

	err := s.SetPowerManagement(t.Context(), machine, agent.Username, secret)
	if !errors.Is(err, agent.ErrRefused) {
		t.Fatalf("got %v, want ErrRefused", err)
	}

	text := err.Error()
	if strings.Contains(text, secret.Reveal()) || strings.Contains(text, "\n") || len(text) > 600 {
		t.Errorf("the error holds the secret, a line break or too much: %q", text)
	}

	for _, want := range []string{machine, "127.0.0.2", "set power management", "no slot for ***", "Internal"} {
		if !strings.Contains(text, want) {
			t.Errorf("the error lacks %q: %q", want, text)
		}
	}
}

func TestCallsWithoutAgent(t *testing.T) {
	s := newSite(t, agent.Config{})

	if err := s.Reboot(t.Context(), machine); !errors.Is(err, agent.ErrNotConnected) || !strings.Contains(err.Error(), machine) {
		t.Errorf("got %v, want ErrNotConnected that names the machine", err)
	}
}

func hang(ctx context.Context, _ *agentpb.WipeDisksRequest) error {
	<-ctx.Done()

	return ctx.Err()
}

func TestWipeDeadlines(t *testing.T) {
	const short = 100 * time.Millisecond

	for _, tc := range []struct {
		name         string
		zeroes       bool
		fast, zeroed time.Duration
	}{
		{"fast", false, short, time.Hour},
		{"zeroes", true, time.Hour, short},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t, agent.Config{CallTimeout: time.Hour, FastWipeTimeout: tc.fast, ZeroesWipeTimeout: tc.zeroed})
			told := make(chan bool, 1)
			cancelled := make(chan struct{})
			s.connect(t, "127.0.0.2", &fakeAgent{wipe: func(ctx context.Context, request *agentpb.WipeDisksRequest) error {
				told <- request.GetZeroes()
				defer close(cancelled)

				return hang(ctx, request)
			}})

			if err := s.Wipe(t.Context(), machine, tc.zeroes); !errors.Is(err, agent.ErrTimeout) {
				t.Errorf("got %v, want ErrTimeout", err)
			}

			if zeroes := <-told; zeroes != tc.zeroes {
				t.Errorf("the agent was told zeroes=%t, want %t", zeroes, tc.zeroes)
			}

			select {
			case <-cancelled:
			case <-time.After(patience):
				t.Error("the agent was never told that the call is over")
			}

			if !s.Connected(machine) {
				t.Error("a slow wipe ended the tunnel")
			}
		})
	}
}

func TestCallTimeout(t *testing.T) {
	s := newSite(t, agent.Config{CallTimeout: 100 * time.Millisecond})
	s.connect(t, "127.0.0.2", &fakeAgent{reboot: func(ctx context.Context) error { return hang(ctx, nil) }})

	if err := s.Reboot(t.Context(), machine); !errors.Is(err, agent.ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
}

func TestCallerGivesUp(t *testing.T) {
	s := newSite(t, agent.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	s.connect(t, "127.0.0.2", &fakeAgent{wipe: func(ctx context.Context, request *agentpb.WipeDisksRequest) error {
		cancel()

		return hang(ctx, request)
	}})

	if err := s.Wipe(ctx, machine, true); !errors.Is(err, context.Canceled) || errors.Is(err, agent.ErrTimeout) {
		t.Errorf("got %v, want context.Canceled alone", err)
	}
}

func TestWipesOfOneMachineNeverOverlap(t *testing.T) {
	s := newSite(t, agent.Config{})
	begun, release := make(chan struct{}), make(chan struct{})
	f := &fakeAgent{wipe: func(context.Context, *agentpb.WipeDisksRequest) error {
		close(begun)
		<-release

		return nil
	}}
	s.connect(t, "127.0.0.2", f)

	first := make(chan error, 1)
	go func() { first <- s.Wipe(t.Context(), machine, false) }()
	<-begun

	if err := s.Wipe(t.Context(), strings.ToUpper(machine), false); !errors.Is(err, agent.ErrBusy) {
		t.Errorf("the second wipe: %v, want ErrBusy", err)
	}

	close(release)

	if err := <-first; err != nil || f.wipes.Load() != 1 {
		t.Errorf("the first wipe: %v, %d wipes, want one", err, f.wipes.Load())
	}

	f.wipe = nil
	if err := s.Wipe(t.Context(), machine, false); err != nil {
		t.Errorf("a wipe afterwards: %v", err)
	}
}

func TestTunnelBreaksDuringWipe(t *testing.T) {
	s := newSite(t, agent.Config{})
	begun := make(chan struct{})
	h := s.connect(t, "127.0.0.2", &fakeAgent{wipe: func(ctx context.Context, request *agentpb.WipeDisksRequest) error {
		close(begun)

		return hang(ctx, request)
	}})

	wiped := make(chan error, 1)
	go func() { wiped <- s.Wipe(t.Context(), machine, true) }()
	<-begun
	h.stop()

	select {
	case err := <-wiped:
		if !errors.Is(err, agent.ErrNotConnected) {
			t.Errorf("got %v, want ErrNotConnected", err)
		}
	case <-time.After(patience):
		t.Fatal("the wipe outlived its tunnel")
	}
}

// One machine whose agent hangs takes nothing from another.
func TestHungAgentDelaysNoOther(t *testing.T) {
	const other = "00000000-0000-4000-8000-00000000000a"

	s := newSite(t, agent.Config{CallTimeout: time.Hour, HelloTimeout: time.Hour})
	hung := &fakeAgent{}
	s.connect(t, "127.0.0.2", hung)
	s.dial(t, "127.0.0.3", &fakeAgent{}, other)
	s.await(t, "the other machine is connected", func() bool { return s.Connected(other) })
	hung.silent.Store(true)

	ctx, cancel := context.WithCancel(t.Context())
	stuck := make(chan error, 1)
	go func() { stuck <- s.Wipe(ctx, machine, false) }()

	if err := s.Reboot(t.Context(), other); err != nil {
		t.Errorf("reboot of the other machine: %v", err)
	}

	cancel()

	if err := <-stuck; !errors.Is(err, context.Canceled) {
		t.Errorf("the call to the hung agent: %v, want context.Canceled", err)
	}
}
