package controllers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bmctl/bmctl/power"
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
