package controllers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
	own "github.com/bmctl/bmctl/serve/resources/specs"
)

// TestTarget: each kind of stored access becomes what package power opens.
func TestTarget(t *testing.T) {
	const id = "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1"

	c := &Controller{cfg: Config{RedfishPort: 8443}}

	for name, test := range map[string]struct {
		access *access
		want   power.Target
		fails  bool
	}{
		"IPMI": {
			access: &access{Ipmi: &own.BMCConfigurationSpec_IPMI{Address: "10.0.3.9", Port: 0, Username: "u", Password: "p"}},
			want:   power.Target{Name: "9c41e0aa", Address: "10.0.3.9", RedfishPort: 8443, Username: "u", UUID: id},
		},
		"the API of a QEMU machine": {
			access: &access{Api: &own.BMCConfigurationSpec_API{Address: "10.5.0.1:44321"}},
			want:   power.Target{Name: "9c41e0aa", Address: "10.5.0.1", Port: 44321, Protocol: power.ProtocolQEMU, UUID: id},
		},
		"an API without a port": {access: &access{Api: &own.BMCConfigurationSpec_API{Address: "10.5.0.1"}}, fails: true},
		"nothing":               {access: &access{}, fails: true},
	} {
		got, err := c.target(id, test.access)
		if (err != nil) != test.fails {
			t.Errorf("%s: %v", name, err)
		}

		if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(power.Target{}, "Password")); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// The labels that Omni keeps on a machine say what it is in its cluster.
func TestClusterOf(t *testing.T) {
	for _, test := range []struct {
		labels        []string
		cluster, role string
	}{
		{nil, "", ""},
		{[]string{omni.LabelCluster}, "prod", ""},
		{[]string{omni.LabelCluster, omni.LabelWorkerRole}, "prod", localapi.RoleWorker},
		{[]string{omni.LabelCluster, omni.LabelControlPlaneRole}, "prod", localapi.RoleControlPlane},
	} {
		m := Machine{Infra: infra.NewMachine("m")}
		for _, label := range test.labels {
			m.Infra.Metadata().Labels().Set(label, map[string]string{omni.LabelCluster: "prod"}[label])
		}

		if cluster, role := clusterOf(m); cluster != test.cluster || role != test.role {
			t.Errorf("with %q: %q, %q", test.labels, cluster, role)
		}
	}
}
