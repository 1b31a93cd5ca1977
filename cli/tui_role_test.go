package cli

import (
	"testing"

	"github.com/bmctl/bmctl/serve/localapi"
)

// The view asks before a power act in the words of bmctl power.
func TestTheViewTellsTheRole(t *testing.T) {
	for role, want := range map[string]string{
		localapi.RoleControlPlane: "control plane", localapi.RoleWorker: "worker", "": "", "of tomorrow": "",
	} {
		if got := viewRow(localapi.Machine{Cluster: "prod", Role: role}).Role; got != want {
			t.Errorf("%q is shown as %q, want %q", role, got, want)
		}
	}
}
