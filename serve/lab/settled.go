package lab

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	omnispecs "github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"

	"github.com/bmctl/bmctl/serve/agent"
	"github.com/bmctl/bmctl/serve/resources"
	"github.com/bmctl/bmctl/serve/resources/specs"
)

// provider is the id of the lab's provider: serve's default.
const provider = "bare-metal"

// settle writes every machine into Omni as one that joined, was accepted, wiped
// and switched off long ago, with the records that serve then has of it: nothing
// is left to do for it.
func (l *Lab) settle() error {
	// Without it Omni makes no infra.Machine, and serve drops records without one.
	status := infra.NewProviderStatus(provider)
	status.Metadata().Labels().Set(omni.LabelIsStaticInfraProvider, "")

	if err := l.omni.State().Create(l.ctx, status); err != nil {
		return err
	}

	for _, m := range l.machines {
		if err := m.settle(); err != nil {
			return fmt.Errorf("settle %s: %w", m.Name, err)
		}
	}

	return nil
}

func (m *Machine) settle() error {
	password := rand.Text()[:16]
	if err := m.BMC.SetUser(agent.Username, password); err != nil {
		return err
	}

	if err := m.record(password); err != nil {
		return err
	}

	// Connected once, so that Omni knows the machine and need not have it on.
	link := siderolink.NewLink(m.UUID, &omnispecs.SiderolinkSpec{Connected: true})
	link.Metadata().Labels().Set(omni.LabelInfraProviderID, provider)

	if err := m.write(link, ""); err != nil {
		return err
	}

	return m.lab.omni.Accept(m.UUID)
}

// record writes what serve knows of the machine.
func (m *Machine) record(password string) error {
	access := resources.NewBMCConfiguration(provider, m.UUID)
	access.TypedSpec().Value.Ipmi = &specs.BMCConfigurationSpec_IPMI{
		Address: m.BMC.Addr().String(), Port: uint32(m.lab.ipmiPort), Username: agent.Username, Password: password, //nolint:gosec // a port
	}

	seen := resources.NewMachineStatus(provider, m.UUID)
	seen.TypedSpec().Value.PowerState, seen.TypedSpec().Value.Initialized = specs.PowerState_POWER_STATE_OFF, true

	wiped := resources.NewWipeStatus(provider, m.UUID)
	wiped.TypedSpec().Value.InitialWipeDone = true

	for _, r := range []resource.Resource{access, seen} {
		r.Metadata().Finalizers().Add(resources.Owner(provider, resources.RebootStatusController))
	}

	return errors.Join(
		m.write(access, resources.BMCConfigurationController),
		m.write(seen, resources.MachineStatusController),
		m.write(wiped, resources.WipeStatusController),
	)
}

// write creates a resource in Omni, owned by the provider's controller or, where
// that is empty, by nobody.
func (m *Machine) write(r resource.Resource, controller string) error {
	var options []state.CreateOption

	if controller != "" {
		options = append(options, state.WithCreateOwner(resources.Owner(provider, controller)))
	}

	return m.lab.omni.State().Create(m.lab.ctx, r, options...)
}
