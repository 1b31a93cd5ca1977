package operator

import (
	"context"
	"net/netip"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/bmctl/bmctl/power"
)

// The longest login that IPMI 2.0 carries (table 22-28 and 22-30).
const (
	maxUsername = 16
	maxPassword = 20
)

// BMC is how a user says that a machine's controller is reached: by Username
// and Password at Address, or, where API is set, by the test API at that address.
type BMC struct {
	Address  string // IP address or host name of the controller
	Port     uint16 // of IPMI alone; 0 is 623
	Username string
	Password power.Secret
	API      string // host:port
}

// SetBMC makes the provider use this access instead of what it had, of either
// kind. Neither Omni nor this call tries it: test the login first.
func (c *Client) SetBMC(ctx context.Context, id string, bmc BMC) error {
	return c.act(ctx, "set the BMC of", id, func(ctx context.Context, _ Machine) error {
		spec, err := bmc.spec()
		if err != nil {
			return err
		}

		return modify(ctx, c.state, func() *omni.InfraMachineBMCConfig { return omni.NewInfraMachineBMCConfig(id) },
			func(r *omni.InfraMachineBMCConfig) { r.TypedSpec().Value = spec })
	})
}

// BMC is what SetBMC said last. ErrNotFound: nothing, or the machine is unknown.
// What the provider found out by itself is not shown to anybody.
func (c *Client) BMC(ctx context.Context, id string) (BMC, error) {
	ctx, cancel := limit(ctx, c.cfg.Timeout)
	defer cancel()

	r, err := safe.StateGetByID[*omni.InfraMachineBMCConfig](ctx, c.state, id)
	if err != nil {
		return BMC{}, c.fail(ctx, "read the BMC of", id, err)
	}

	spec := r.TypedSpec().Value
	if api := spec.GetApi(); api != nil {
		return BMC{API: api.Address}, nil
	}

	login := spec.GetIpmi()

	return BMC{
		Address: login.GetAddress(), Port: uint16(login.GetPort()), //nolint:gosec // a port
		Username: login.GetUsername(), Password: power.NewSecret(login.GetPassword()),
	}, nil
}

// ClearBMC deletes what SetBMC said. The provider keeps the access that it has.
func (c *Client) ClearBMC(ctx context.Context, id string) error {
	return c.act(ctx, "clear the BMC of", id, func(ctx context.Context, _ Machine) error {
		return c.state.TeardownAndDestroy(ctx, omni.NewInfraMachineBMCConfig(id).Metadata())
	})
}

func (b BMC) spec() (*specs.InfraMachineBMCConfigSpec, error) {
	if b.API != "" {
		if b.Address != "" || b.Username != "" || !b.Password.IsZero() {
			return nil, refused("a BMC has either an API address or a login")
		}

		return &specs.InfraMachineBMCConfigSpec{Api: &specs.InfraMachineBMCConfigSpec_API{Address: b.API}}, nil
	}

	addr, err := netip.ParseAddr(b.Address)

	switch {
	case b.Address == "", err == nil && addr.IsUnspecified():
		return nil, refused("the address of the BMC is missing")
	case b.Username == "" || b.Password.IsZero():
		return nil, refused("the login of the BMC is missing")
	case len(b.Username) > maxUsername:
		return nil, refused("the BMC's user name is longer than IPMI's 16 bytes")
	case len(b.Password.Reveal()) > maxPassword:
		return nil, refused("the BMC's password is longer than IPMI's 20 bytes")
	}

	return &specs.InfraMachineBMCConfigSpec{Ipmi: &specs.InfraMachineBMCConfigSpec_IPMI{
		Address: b.Address, Port: uint32(b.Port), Username: b.Username, Password: b.Password.Reveal(),
	}}, nil
}
