package operator

import (
	"context"
	"errors"
	"strings"

	"github.com/cosi-project/runtime/pkg/controller/generic"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/google/uuid"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/client/management"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// act runs a user's act on a machine that Omni knows and that nobody removes.
func (c *Client) act(ctx context.Context, name, id string, do func(context.Context, Machine) error) error {
	ctx, cancel := limit(ctx, c.cfg.Timeout)
	defer cancel()

	m, err := c.one(ctx, id)
	if err == nil && m.Removing {
		err = refused("it is being removed")
	}

	if err == nil {
		err = do(ctx, m)
	}

	var no refusal
	if errors.As(err, &no) {
		return &Error{Act: name, Machine: id, Kind: ErrRefused, Hint: no.hint, Cause: no}
	}

	if err != nil {
		return c.fail(ctx, name, id, err)
	}

	return nil
}

// refusal is our own reason for not asking Omni at all.
type refusal struct {
	text string
	hint string // may be empty
}

func (r refusal) Error() string { return r.text }

func refused(text string) error { return refusal{text: text} }

// modify creates or changes a user's resource. Where somebody else creates it
// at the same moment, ours becomes a change of theirs.
func modify[T generic.ResourceWithRD](ctx context.Context, st state.State, fresh func() T, edit func(T)) error {
	set := func(r T) error {
		edit(r)

		return nil
	}

	err := safe.StateModify(ctx, st, fresh(), set)
	if state.IsConflictError(err) && !state.IsOwnerConflictError(err) && !state.IsPhaseConflictError(err) {
		err = safe.StateModify(ctx, st, fresh(), set)
	}

	return err
}

func (c *Client) configure(ctx context.Context, id string, edit func(*specs.InfraMachineConfigSpec)) error {
	return modify(ctx, c.state, func() *omni.InfraMachineConfig { return omni.NewInfraMachineConfig(id) },
		func(r *omni.InfraMachineConfig) { edit(r.TypedSpec().Value) })
}

// Accept accepts a pending machine, or one that was rejected: its provider then
// erases all its disks. ErrRefused: it is accepted already, and nothing happens.
func (c *Client) Accept(ctx context.Context, id string) error {
	return c.act(ctx, "accept", id, func(ctx context.Context, m Machine) error {
		if m.Acceptance == Accepted {
			return refused("it is accepted already")
		}

		return c.configure(ctx, id, func(spec *specs.InfraMachineConfigSpec) {
			spec.AcceptanceStatus = specs.InfraMachineConfigSpec_ACCEPTED
		})
	})
}

// Reject rejects a pending machine: it is never powered nor wiped, and boots its
// own disk. ErrRefused: it was accepted, which Omni never takes back, or it is
// rejected already.
func (c *Client) Reject(ctx context.Context, id string) error {
	return c.act(ctx, "reject", id, func(ctx context.Context, m Machine) error {
		switch m.Acceptance {
		case Accepted:
			return refused("it is accepted, and that cannot be taken back; it can be removed")
		case Rejected:
			return refused("it is rejected already")
		case Pending:
		}

		return c.configure(ctx, id, func(spec *specs.InfraMachineConfigSpec) {
			spec.AcceptanceStatus = specs.InfraMachineConfigSpec_REJECTED
		})
	})
}

// Label sets labels of the user's own on the machine, and deletes those named
// in unset. ErrRefused: a label is one of Omni's own (omni.sidero.dev/).
func (c *Client) Label(ctx context.Context, id string, set map[string]string, unset ...string) error {
	return c.act(ctx, "label", id, func(ctx context.Context, _ Machine) error {
		for key := range set {
			if err := checkLabel(key); err != nil {
				return err
			}
		}

		return modify(ctx, c.state, func() *omni.MachineLabels { return omni.NewMachineLabels(id) }, func(r *omni.MachineLabels) {
			for key, value := range set {
				r.Metadata().Labels().Set(key, value)
			}

			for _, key := range unset {
				r.Metadata().Labels().Delete(key)
			}
		})
	})
}

func checkLabel(key string) error {
	if key == "" {
		return refused("a label needs a key")
	}

	if strings.HasPrefix(key, omni.SystemLabelPrefix) {
		return refusal{"the label " + key + " is one of Omni's own", "choose a key that does not begin with " + omni.SystemLabelPrefix}
	}

	return nil
}

// Cordon keeps the provider from any act on the machine; it goes on reporting.
// Cordoning a cordoned machine changes nothing.
func (c *Client) Cordon(ctx context.Context, id string) error {
	return c.setCordoned(ctx, "cordon", id, true)
}

// Uncordon takes Cordon back.
func (c *Client) Uncordon(ctx context.Context, id string) error {
	return c.setCordoned(ctx, "uncordon", id, false)
}

func (c *Client) setCordoned(ctx context.Context, name, id string, cordoned bool) error {
	return c.act(ctx, name, id, func(ctx context.Context, _ Machine) error {
		return c.configure(ctx, id, func(spec *specs.InfraMachineConfigSpec) { spec.Cordoned = cordoned })
	})
}

// Reboot asks the provider for one reboot. It is done when the machine's
// LastRebootID equals its RequestedRebootID.
func (c *Client) Reboot(ctx context.Context, id string) error {
	return c.act(ctx, "reboot", id, func(ctx context.Context, m Machine) error {
		if m.Acceptance != Accepted {
			return refused("it is not accepted: its provider does not touch it")
		}

		return c.configure(ctx, id, func(spec *specs.InfraMachineConfigSpec) { spec.RequestedRebootId = uuid.NewString() })
	})
}

// PowerOff asks Omni to shut the machine's operating system down, and the
// provider to leave it off although its cluster wants it on. ErrRefused: it is
// in no cluster; such a machine is off unless its power is preferred on.
func (c *Client) PowerOff(ctx context.Context, id string) error {
	return c.act(ctx, "power off", id, func(ctx context.Context, m Machine) error {
		if m.TalosVersion == "" {
			return refused("it is in no cluster: prefer its power off instead")
		}

		err := management.NewClient(c.omni).MachinePowerOff(ctx, id)
		if status.Code(err) != codes.Unimplemented {
			return err
		}

		return c.configure(ctx, id, func(spec *specs.InfraMachineConfigSpec) { spec.PowerOffRequestId = uuid.NewString() })
	})
}

// PowerOn takes the request of PowerOff back, whereupon the provider powers the
// machine on if its cluster or the user's preference wants that.
func (c *Client) PowerOn(ctx context.Context, id string) error {
	return c.act(ctx, "power on", id, func(ctx context.Context, _ Machine) error {
		err := management.NewClient(c.omni).MachinePowerOn(ctx, id)
		if status.Code(err) != codes.Unimplemented {
			return err
		}

		return c.configure(ctx, id, func(spec *specs.InfraMachineConfigSpec) { spec.PowerOffRequestId = "" })
	})
}

// PreferPower sets the power that the machine has while no cluster wants it.
func (c *Client) PreferPower(ctx context.Context, id string, on bool) error {
	preferred := specs.InfraMachineConfigSpec_POWER_STATE_OFF
	if on {
		preferred = specs.InfraMachineConfigSpec_POWER_STATE_ON
	}

	return c.act(ctx, "prefer the power of", id, func(ctx context.Context, _ Machine) error {
		return c.configure(ctx, id, func(spec *specs.InfraMachineConfigSpec) { spec.PowerState = preferred })
	})
}

// KernelArgs replaces the extra kernel arguments of the machine, separated by
// spaces; they count from its next boot over the network.
func (c *Client) KernelArgs(ctx context.Context, id, args string) error {
	return c.act(ctx, "set the kernel arguments of", id, func(ctx context.Context, _ Machine) error {
		return c.configure(ctx, id, func(spec *specs.InfraMachineConfigSpec) {
			spec.ExtraKernelArgs = strings.Join(strings.Fields(args), " ")
		})
	})
}

// Remove deletes the machine from Omni and waits until its provider has released
// it. ErrPending: it did not within the deadline; the removal goes on, and
// calling Remove again waits again. If the machine's agent runs afterwards, the
// machine joins Omni again as a new pending one.
func (c *Client) Remove(ctx context.Context, id string) error {
	ctx, cancel := limit(ctx, c.cfg.Timeout)
	defer cancel()

	link := siderolink.NewLink(id, &specs.SiderolinkSpec{}).Metadata()

	if _, err := c.state.Teardown(ctx, link); err != nil {
		return c.fail(ctx, "remove", id, err)
	}

	err := c.state.TeardownAndDestroy(ctx, link)

	switch kind := kindOf(ctx, err); {
	case err == nil, kind == ErrNotFound:
		return nil
	case kind == ErrUnreachable && (ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded):
		return &Error{Act: "remove", Machine: id, Kind: ErrPending, Cause: errors.New("its provider has not released it yet")}
	default:
		return c.fail(ctx, "remove", id, err)
	}
}
