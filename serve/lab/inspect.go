package lab

import (
	"context"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	omniinfra "github.com/siderolabs/omni/client/pkg/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"

	"github.com/bmctl/bmctl/serve/resources"
)

// Status is what serve reports of a machine to Omni.
func (l *Lab) Status(m *Machine) (*infra.MachineStatus, error) {
	return safe.StateGet[*infra.MachineStatus](context.Background(), l.Omni().State(), infra.NewMachineStatus(m.UUID).Metadata())
}

// Own lists the types of everything that serve keeps in Omni about a machine.
func (l *Lab) Own(m *Machine) ([]string, error) {
	var found []string

	for _, name := range []string{
		resources.BMCConfigurationName, resources.MachineStatusName, resources.WipeStatusName,
		resources.RebootStatusName, resources.PowerOperationName,
	} {
		t := omniinfra.ResourceType(name, provider)

		list, err := l.Omni().State().List(context.Background(),
			resource.NewMetadata(omniinfra.ResourceNamespace(provider), t, "", resource.VersionUndefined))
		if err != nil {
			return nil, err
		}

		for _, r := range list.Items {
			if strings.EqualFold(r.Metadata().ID(), m.UUID) {
				found = append(found, name)
			}
		}
	}

	return found, nil
}
