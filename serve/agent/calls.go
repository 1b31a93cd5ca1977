package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	agentpb "github.com/siderolabs/talos-metal-agent/api/agent"
	"google.golang.org/grpc/status"

	"github.com/bmctl/bmctl/power"
)

// Username is the BMC user that agents are asked to create. Its name is fixed:
// providers that share a machine's history look for it.
const Username = "talos-agent"

// The kinds of failure. Each error of a call wraps exactly one of them, or the
// caller's own context.Canceled.
var (
	// ErrNotConnected: no agent of the machine answers, or its tunnel ended
	// during the call; what the call did by then is unknown.
	ErrNotConnected = errors.New("agent not connected")
	// ErrConflict: agents at two addresses answer for one machine, so none is
	// asked anything.
	ErrConflict = errors.New("two agents for one machine")
	// ErrTimeout: the agent did not finish in time; it may still be at it.
	ErrTimeout = errors.New("agent timed out")
	// ErrRefused: the agent answered that it could not.
	ErrRefused = errors.New("agent refused")
	// ErrBusy: a wipe of the machine is on its way already.
	ErrBusy = errors.New("agent busy")
)

// PowerManagement asks where the machine's BMC is and whether the user Username
// exists on it. The address is as the BMC tells it, an IP address that may be
// 0.0.0.0 where it was never set up; port 0 means 623. In test mode all results
// are zero: the machine has no BMC, but the agent answered.
func (h *Hub) PowerManagement(ctx context.Context, id string) (addr string, port int, userExists bool, err error) {
	request := &agentpb.GetPowerManagementRequest{Ipmi: &agentpb.GetPowerManagementRequest_IPMI{CheckUsername: Username}}
	if h.cfg.TestMode {
		request = &agentpb.GetPowerManagementRequest{Api: &agentpb.GetPowerManagementRequest_API{}}
	}

	response, err := call(ctx, h, order{id: id, what: "get power management", timeout: h.cfg.CallTimeout},
		func(ctx context.Context, agent agentpb.AgentServiceClient) (*agentpb.GetPowerManagementResponse, error) {
			return agent.GetPowerManagement(ctx, request)
		})
	if err != nil || h.cfg.TestMode {
		return "", 0, false, err
	}

	ipmi := response.GetIpmi()
	if _, err := netip.ParseAddr(ipmi.GetAddress()); err != nil || ipmi.GetPort() > 65535 {
		return "", 0, false, fmt.Errorf("agent of machine %s: get power management: %w: told BMC address %q and port %d",
			strings.ToLower(id), ErrRefused, ipmi.GetAddress(), ipmi.GetPort())
	}

	return ipmi.GetAddress(), int(ipmi.GetPort()), ipmi.GetUserExists(), nil
}

// SetPowerManagement has the agent create the BMC user, or take it over with a
// new password where it exists. BMCs may save it late: a login directly
// afterwards can fail for some seconds.
func (h *Hub) SetPowerManagement(ctx context.Context, id, username string, password power.Secret) error {
	request := &agentpb.SetPowerManagementRequest{
		Ipmi: &agentpb.SetPowerManagementRequest_IPMI{Username: username, Password: password.Reveal()},
	}
	if h.cfg.TestMode {
		request = &agentpb.SetPowerManagementRequest{Api: &agentpb.SetPowerManagementRequest_API{}}
	}

	_, err := call(ctx, h, order{id: id, what: "set power management", timeout: h.cfg.CallTimeout, secret: password},
		func(ctx context.Context, agent agentpb.AgentServiceClient) (*agentpb.SetPowerManagementResponse, error) {
			return agent.SetPowerManagement(ctx, request)
		})

	return err
}

// Wipe erases all disks of the machine and returns when the agent says that it
// is done: whole disks when zeroes is set, else only what makes them bootable
// or mountable. A second wipe of the machine meanwhile is ErrBusy.
func (h *Hub) Wipe(ctx context.Context, id string, zeroes bool) error {
	id = strings.ToLower(id)
	if !h.beginWipe(id) {
		return fmt.Errorf("agent of machine %s: wipe disks: %w: a wipe is on its way", id, ErrBusy)
	}
	defer h.endWipe(id)

	timeout := h.cfg.FastWipeTimeout
	if zeroes {
		timeout = h.cfg.ZeroesWipeTimeout
	}

	_, err := call(ctx, h, order{id: id, what: "wipe disks", timeout: timeout},
		func(ctx context.Context, agent agentpb.AgentServiceClient) (*agentpb.WipeDisksResponse, error) {
			return agent.WipeDisks(ctx, &agentpb.WipeDisksRequest{Zeroes: zeroes})
		})

	return err
}

func (h *Hub) beginWipe(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()

	if h.wiping[id] {
		return false
	}

	h.wiping[id] = true

	return true
}

func (h *Hub) endWipe(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()

	delete(h.wiping, id)
}

// Reboot has the agent restart its machine. The tunnel may break before the
// answer arrives, which is ErrNotConnected.
func (h *Hub) Reboot(ctx context.Context, id string) error {
	_, err := call(ctx, h, order{id: id, what: "reboot", timeout: h.cfg.CallTimeout},
		func(ctx context.Context, agent agentpb.AgentServiceClient) (*agentpb.RebootResponse, error) {
			return agent.Reboot(ctx, &agentpb.RebootRequest{})
		})

	return err
}

// order is what a call is about, for its deadline and its errors.
type order struct {
	id      string
	what    string
	timeout time.Duration
	began   time.Time
	secret  power.Secret // struck out of what the agent says
}

// call finds the one agent of the machine and asks it, within the order's
// timeout or the context's deadline, whichever is earlier.
func call[T any](ctx context.Context, h *Hub, o order, ask func(context.Context, agentpb.AgentServiceClient) (*T, error)) (*T, error) {
	o.id, o.began = strings.ToLower(o.id), time.Now()

	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()

	t, err := h.only(ctx, o.id)
	if err != nil {
		return nil, fmt.Errorf("agent of machine %s: %s: %w", o.id, o.what, o.explain(ctx, nil, err))
	}

	// The result crosses by a channel, because after a timeout nobody may read
	// what a late answer still writes.
	results := make(chan *T, 1)

	err = detached(ctx, func() error {
		result, err := ask(ctx, t.agent)
		results <- result

		return err
	})
	if err != nil {
		return nil, fmt.Errorf("agent of machine %s at %s: %s: %w", o.id, t.addr, o.what, o.explain(ctx, t, err))
	}

	return <-results, nil
}

// only returns the tunnel of the one agent that answers for the machine now.
func (h *Hub) only(ctx context.Context, id string) (*tunnel, error) {
	err := detached(ctx, func() error {
		h.check(id)

		return nil
	})
	if err != nil {
		return nil, err
	}

	h.mu.Lock()
	defer h.mu.Unlock()

	tunnels := h.tunnels[id]
	if older, newer, found := conflict(tunnels); found {
		return nil, fmt.Errorf("%w: %s and %s both answer", ErrConflict, older, newer)
	}

	for _, t := range slices.Backward(tunnels) {
		if t.answers() {
			return t, nil
		}
	}

	return nil, fmt.Errorf("%w: %d tunnels open, none answers", ErrNotConnected, len(tunnels))
}

// explain turns a call's failure into one kind and its words. Tunnel t is nil
// before one was found.
func (o order) explain(ctx context.Context, t *tunnel, err error) error {
	switch {
	case errors.Is(err, ErrConflict), errors.Is(err, ErrNotConnected):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case ctx.Err() != nil:
		return fmt.Errorf("%w: no answer in %s", ErrTimeout, time.Since(o.began).Round(time.Millisecond))
	case t != nil && t.channel.Context().Err() != nil:
		return fmt.Errorf("%w: its tunnel ended during the call", ErrNotConnected)
	default:
		answer := status.Convert(err)

		return fmt.Errorf("%w: %s (%s)", ErrRefused, o.quote(answer.Message()), answer.Code())
	}
}

// quote makes the words of an unauthenticated peer fit for a log line: one
// line, at most 300 characters, without the secret.
func (o order) quote(words string) string {
	if !o.secret.IsZero() {
		words = strings.ReplaceAll(words, o.secret.Reveal(), o.secret.String())
	}

	words = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}

		return r
	}, words)

	if runes := []rune(words); len(runes) > 300 {
		words = string(runes[:300]) + "..."
	}

	return words
}
