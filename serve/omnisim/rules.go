package omnisim

import (
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	providerres "github.com/siderolabs/omni/client/pkg/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// level is how much an account may do to the resources of one type. Each level
// includes the ones before it.
type level int

const (
	nothing    level = iota
	read             // get, list, watch
	finalizers       // add and remove finalizers
	remove           // tear down and destroy
	everything       // create, update, destroy
)

// rule is one row of an account's access table.
type rule struct {
	namespace resource.Namespace
	level     level
	// scoped: only objects that carry the provider's label exist for it, and what
	// it creates gets that label.
	scoped bool
	// ownID: the only id that it may write is the provider's own.
	ownID bool
}

// providerTable is what a provider may touch outside its own namespace.
func providerTable() map[resource.Type]rule {
	const shared = resources.InfraProviderNamespace

	return map[resource.Type]rule{
		infra.InfraMachineType:              {namespace: shared, level: finalizers, scoped: true},
		infra.MachineRegistrationType:       {namespace: shared, level: finalizers, scoped: true},
		infra.MachineRequestType:            {namespace: shared, level: finalizers, scoped: true},
		infra.BMCConfigType:                 {namespace: shared, level: finalizers, scoped: true},
		siderolink.ProviderJoinConfigType:   {namespace: shared, level: finalizers, scoped: true},
		infra.InfraMachineStatusType:        {namespace: shared, level: everything, scoped: true},
		infra.MachineRequestStatusType:      {namespace: shared, level: everything, scoped: true},
		infra.ConfigPatchRequestType:        {namespace: shared, level: everything, scoped: true},
		infra.InfraProviderStatusType:       {namespace: shared, level: everything, scoped: true, ownID: true},
		infra.InfraProviderHealthStatusType: {namespace: resources.InfraProviderEphemeralNamespace, level: everything, scoped: true, ownID: true},
		omni.MachineType:                    {namespace: resources.DefaultNamespace, level: read},
		siderolink.APIConfigType:            {namespace: resources.DefaultNamespace, level: read},
		siderolink.ConnectionParamsType:     {namespace: resources.DefaultNamespace, level: read},
		omni.FeaturesConfigType:             {namespace: resources.DefaultNamespace, level: read},
		omni.TalosVersionType:               {namespace: resources.DefaultNamespace, level: read},
		meta.ResourceDefinitionType:         {namespace: meta.NamespaceName, level: read},
		system.SysVersionType:               {namespace: resources.EphemeralNamespace, level: read},
	}
}

// userTable is what a user with the role may touch.
func userTable(role Role) map[resource.Type]rule {
	table := map[resource.Type]rule{}

	for namespace, types := range map[resource.Namespace][]resource.Type{
		resources.DefaultNamespace: {
			omni.MachineType, omni.MachineStatusType, omni.ClusterType, omni.ClusterMachineType, omni.MachineExtensionsType,
			omni.FeaturesConfigType, omni.TalosVersionType, siderolink.ConnectionParamsType, siderolink.APIConfigType,
			omni.InfraMachineConfigType, omni.InfraMachineBMCConfigType, omni.MachineLabelsType, siderolink.LinkType,
		},
		resources.InfraProviderNamespace: {
			infra.InfraMachineType, infra.InfraMachineStatusType, infra.ProviderType, infra.InfraProviderStatusType,
		},
		resources.InfraProviderEphemeralNamespace: {infra.InfraProviderHealthStatusType},
		resources.EphemeralNamespace:              {system.SysVersionType},
		meta.NamespaceName:                        {meta.ResourceDefinitionType},
	} {
		for _, typ := range types {
			table[typ] = rule{namespace: namespace, level: read}
		}
	}

	if role == RoleOperator {
		for _, typ := range []resource.Type{omni.InfraMachineConfigType, omni.InfraMachineBMCConfigType, omni.MachineLabelsType} {
			table[typ] = rule{namespace: resources.DefaultNamespace, level: everything}
		}

		table[siderolink.LinkType] = rule{namespace: resources.DefaultNamespace, level: remove}
	}

	return table
}

// ruleFor finds the row for a kind of resource; the error is a gRPC status.
func (acc *account) ruleFor(kind resource.Kind) (rule, error) {
	if acc.providerID != "" && kind.Namespace() == providerres.ResourceNamespace(acc.providerID) {
		return acc.ownNamespaceRule(kind)
	}

	table := userTable(acc.role)
	if acc.providerID != "" {
		table = providerTable()
	}

	row, ok := table[kind.Type()]
	if !ok || row.namespace != kind.Namespace() {
		return rule{}, status.Errorf(codes.PermissionDenied, "%s may not access %s in namespace %q", acc.identity, kind.Type(), kind.Namespace())
	}

	return row, nil
}

func (acc *account) ownNamespaceRule(kind resource.Kind) (rule, error) {
	suffix := providerres.ResourceType("", acc.providerID)
	if name, ok := strings.CutSuffix(kind.Type(), suffix); !ok || name == "" {
		return rule{}, status.Errorf(codes.InvalidArgument, "types in namespace %q must end in %q, not so %q", kind.Namespace(), suffix, kind.Type())
	}

	return rule{namespace: kind.Namespace(), level: everything}, nil
}

// require is the error for doing what only the wanted level allows.
func (acc *account) require(row rule, wanted level, kind resource.Kind, act string) error {
	if row.level >= wanted {
		return nil
	}

	return status.Errorf(codes.PermissionDenied, "%s may not %s %s", acc.identity, act, kind.Type())
}
