// Package resources holds the provider's own COSI resource types. They live in
// Omni, in the provider's own namespace; names, field numbers, ids, owners and
// finalizers are those of the existing provider, so that either can take over
// the other's state as it is.
package resources

import (
	"fmt"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/cosi-project/runtime/pkg/resource/typed"
	"github.com/siderolabs/omni/client/pkg/infra"

	"github.com/bmctl/bmctl/serve/resources/specs"
)

//go:generate protoc --proto_path=../.. --go_out=../.. --go_opt=paths=source_relative serve/resources/specs/specs.proto

// The machine types, without the suffix that the provider's id adds.
const (
	BMCConfigurationName = "BMCConfiguration"
	MachineStatusName    = "MachineStatus"
	WipeStatusName       = "WipeStatus"
	RebootStatusName     = "RebootStatus"
	PowerOperationName   = "PowerOperation"
	TLSConfigName        = "TLSConfig"
	LeaseName            = "Lease"
)

// TLSConfigID and LeaseID are the ids of the two resources that exist once.
const (
	TLSConfigID = "tls-config"
	LeaseID     = "lease"
)

// The resource types. Each is keyed by machine id, but TLSConfig and Lease.
type (
	// BMCConfiguration is how a machine's BMC is reached.
	BMCConfiguration = typed.Resource[protobuf.ResourceSpec[specs.BMCConfigurationSpec, *specs.BMCConfigurationSpec], extension]
	// MachineStatus is what was last seen of a machine.
	MachineStatus = typed.Resource[protobuf.ResourceSpec[specs.MachineStatusSpec, *specs.MachineStatusSpec], extension]
	// WipeStatus records the last wipe of a machine.
	WipeStatus = typed.Resource[protobuf.ResourceSpec[specs.WipeStatusSpec, *specs.WipeStatusSpec], extension]
	// RebootStatus records the last reboot of a machine that we caused.
	RebootStatus = typed.Resource[protobuf.ResourceSpec[specs.RebootStatusSpec, *specs.RebootStatusSpec], extension]
	// PowerOperation records the last power operation and the power-off request
	// that is honoured.
	PowerOperation = typed.Resource[protobuf.ResourceSpec[specs.PowerOperationSpec, *specs.PowerOperationSpec], extension]
	// TLSConfig keeps the generated CA.
	TLSConfig = typed.Resource[protobuf.ResourceSpec[specs.TLSConfigSpec, *specs.TLSConfigSpec], extension]
	// Lease says which serve acts for the provider.
	Lease = typed.Resource[protobuf.ResourceSpec[specs.LeaseSpec, *specs.LeaseSpec], extension]
)

// extension is empty: the types' names depend on the provider's id and so cannot
// stand in a resource definition of the Go type.
type extension struct{}

// ResourceDefinition implements typed.Extension.
func (extension) ResourceDefinition() meta.ResourceDefinitionSpec {
	return meta.ResourceDefinitionSpec{}
}

func build[T any, S protobuf.Spec[T]](provider, name, id string, spec S) *typed.Resource[protobuf.ResourceSpec[T, S], extension] {
	return typed.NewResource[protobuf.ResourceSpec[T, S], extension](
		resource.NewMetadata(infra.ResourceNamespace(provider), infra.ResourceType(name, provider), id, resource.VersionUndefined),
		protobuf.NewResourceSpec(spec),
	)
}

// NewBMCConfiguration returns an empty one of the provider for the machine.
func NewBMCConfiguration(provider, machine string) *BMCConfiguration {
	return build(provider, BMCConfigurationName, machine, &specs.BMCConfigurationSpec{})
}

// NewMachineStatus returns an empty one of the provider for the machine.
func NewMachineStatus(provider, machine string) *MachineStatus {
	return build(provider, MachineStatusName, machine, &specs.MachineStatusSpec{})
}

// NewWipeStatus returns an empty one of the provider for the machine.
func NewWipeStatus(provider, machine string) *WipeStatus {
	return build(provider, WipeStatusName, machine, &specs.WipeStatusSpec{})
}

// NewRebootStatus returns an empty one of the provider for the machine.
func NewRebootStatus(provider, machine string) *RebootStatus {
	return build(provider, RebootStatusName, machine, &specs.RebootStatusSpec{})
}

// NewPowerOperation returns an empty one of the provider for the machine.
func NewPowerOperation(provider, machine string) *PowerOperation {
	return build(provider, PowerOperationName, machine, &specs.PowerOperationSpec{})
}

// NewTLSConfig returns the provider's empty TLSConfig.
func NewTLSConfig(provider string) *TLSConfig {
	return build(provider, TLSConfigName, TLSConfigID, &specs.TLSConfigSpec{})
}

// NewLease returns the provider's empty Lease.
func NewLease(provider string) *Lease {
	return build(provider, LeaseName, LeaseID, &specs.LeaseSpec{})
}

// Register makes the provider's types known to the protobuf registry, through
// which resources are read from the wire. It may be called again.
func Register(provider string) error {
	for name, register := range map[string]func(resource.Type) error{
		BMCConfigurationName: func(t resource.Type) error { return protobuf.RegisterResource(t, &BMCConfiguration{}) },
		MachineStatusName:    func(t resource.Type) error { return protobuf.RegisterResource(t, &MachineStatus{}) },
		WipeStatusName:       func(t resource.Type) error { return protobuf.RegisterResource(t, &WipeStatus{}) },
		RebootStatusName:     func(t resource.Type) error { return protobuf.RegisterResource(t, &RebootStatus{}) },
		PowerOperationName:   func(t resource.Type) error { return protobuf.RegisterResource(t, &PowerOperation{}) },
		TLSConfigName:        func(t resource.Type) error { return protobuf.RegisterResource(t, &TLSConfig{}) },
		LeaseName:            func(t resource.Type) error { return protobuf.RegisterResource(t, &Lease{}) },
	} {
		err := register(infra.ResourceType(name, provider))
		if err != nil && !strings.Contains(err.Error(), "already registered") {
			return fmt.Errorf("register resource type %s: %w", name, err)
		}
	}

	return nil
}

// Owner returns the name under which a controller of the provider owns
// resources and holds finalizers.
func Owner(provider, controller string) string { return provider + "." + controller }

// The controllers' names, as owners and finalizers.
const (
	MachineStatusController        = "MachineStatusController"
	InfraMachineStatusController   = "InfraMachineStatusController"
	BMCConfigurationController     = "BMCConfigurationController"
	PowerOperationController       = "PowerOperationController"
	RebootStatusController         = "RebootStatusController"
	WipeStatusController           = "WipeStatusController"
	ProviderHealthStatusController = "ProviderHealthStatusController"
)

// MachineFinalizers returns the finalizers that an infra.Machine carries for the
// provider, sorted.
func MachineFinalizers(provider string) []resource.Finalizer {
	return []resource.Finalizer{
		Owner(provider, BMCConfigurationController),
		Owner(provider, InfraMachineStatusController),
		Owner(provider, MachineStatusController),
		Owner(provider, PowerOperationController),
		Owner(provider, RebootStatusController),
		Owner(provider, WipeStatusController),
	}
}
