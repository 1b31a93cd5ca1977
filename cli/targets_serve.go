package cli

import (
	"context"
	"fmt"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
)

// opener opens conversations: with the BMCs themselves, and through serve with
// those whose login only serve has.
type opener struct {
	dialer    *power.Dialer
	client    *localapi.Client
	served    map[string]bool // by machine id
	inCluster map[string]bool // a person said that these are meant
}

var _ power.Opener = opener{}

// opener is what the commands that switch power open conversations with. Close
// its client.
func (a *app) opener(chosen []chosenBMC, inCluster map[string]bool) opener {
	o := opener{dialer: a.dialer(), client: a.serveClient(), served: map[string]bool{}, inCluster: inCluster}
	for _, bmc := range chosen {
		o.served[bmc.UUID] = bmc.served
	}

	return o
}

// Open implements power.Opener.
func (o opener) Open(ctx context.Context, target power.Target) (power.BMC, error) {
	if o.served[target.UUID] {
		return &servedBMC{client: o.client, target: target, inCluster: o.inCluster[target.UUID]}, nil
	}

	return o.dialer.Open(ctx, target)
}

// servedBMC is a BMC that serve speaks to for us. Its power is what serve read
// last.
type servedBMC struct {
	client    *localapi.Client
	target    power.Target
	inCluster bool
}

var _ power.BMC = (*servedBMC)(nil)

// Info implements power.BMC; serve's socket does not tell.
func (b *servedBMC) Info(context.Context) (power.Info, error) {
	return power.Info{}, fmt.Errorf("%s: %w: serve does not tell what its BMC is", b.target.Name, power.ErrUnsupported)
}

// State implements power.BMC.
func (b *servedBMC) State(ctx context.Context) (power.State, error) {
	m, err := b.client.Machine(ctx, b.target.UUID)
	if err != nil {
		return power.StateUnknown, fmt.Errorf("%s: read the power state from serve: %w", b.target.Name, err)
	}

	switch m.Power {
	case power.StateOn.String():
		return power.StateOn, nil
	case power.StateOff.String():
		return power.StateOff, nil
	default:
		return power.StateUnknown, nil
	}
}

// Do implements power.BMC.
func (b *servedBMC) Do(ctx context.Context, action power.Action) error {
	return b.ask(ctx, "power "+action.String(), localapi.PowerRequest{Action: action.String()})
}

// SetBoot implements power.BMC.
func (b *servedBMC) SetBoot(ctx context.Context, boot power.Boot) error {
	return b.ask(ctx, "set the boot override", localapi.PowerRequest{Boot: boot.Device.String(), Mode: boot.Mode.String(), Persistent: boot.Persistent})
}

func (b *servedBMC) ask(ctx context.Context, what string, act localapi.PowerRequest) error {
	act.InCluster = b.inCluster

	if err := b.client.Power(ctx, b.target.UUID, act); err != nil {
		return fmt.Errorf("%s: %s, through serve: %w", b.target.Name, what, err)
	}

	return nil
}

// Close implements power.BMC.
func (b *servedBMC) Close() error { return nil }
