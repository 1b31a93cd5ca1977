package omnisim_test

import (
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/jointoken"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	joinconfig "github.com/siderolabs/omni/client/pkg/siderolink"
	pb "github.com/siderolabs/siderolink/api/siderolink"
	"google.golang.org/grpc/codes"

	"github.com/bmctl/bmctl/serve/omnisim"
)

func linkOf(id string) resource.Pointer {
	return siderolink.NewLink(id, &specs.SiderolinkSpec{}).Metadata()
}

// token is one made of a secret for a provider, as the client's siderolink
// package does.
func token(t *testing.T, secret, version, providerID string) string {
	t.Helper()

	made, err := jointoken.NewWithExtraData(secret, version, map[string]string{omni.LabelInfraProviderID: providerID})
	if err != nil {
		t.Fatal(err)
	}

	encoded, err := made.Encode()
	if err != nil {
		t.Fatal(err)
	}

	return encoded
}

func TestJoinTokens(t *testing.T) {
	sim, st := ready(t, omnisim.Config{})
	own := joinConfig(t, st).TypedSpec().Value.JoinToken

	params, err := safe.StateGetByID[*siderolink.ConnectionParams](limited(t), st, siderolink.ConfigID)
	if err != nil {
		t.Fatal(err)
	}

	common := params.TypedSpec().Value.JoinToken
	host := sim.Endpoint()[len("http://"):]

	for name, row := range map[string]struct {
		id, token string
		want      codes.Code
		ours      bool
	}{
		"the provider's":               {"00000000-0000-4000-8000-000000000001", token(t, own, jointoken.Version2, provider), codes.OK, true},
		"an older Omni's":              {"00000000-0000-4000-8000-000000000002", token(t, common, jointoken.Version1, provider), codes.OK, true},
		"of no provider":               {"00000000-0000-4000-8000-000000000003", common, codes.OK, false},
		"none":                         {"00000000-0000-4000-8000-000000000004", "", codes.PermissionDenied, false},
		"a guess":                      {"00000000-0000-4000-8000-000000000005", "guess", codes.PermissionDenied, false},
		"signed with the wrong secret": {"00000000-0000-4000-8000-000000000006", token(t, common, jointoken.Version2, provider), codes.PermissionDenied, false},
		"of an unknown provider":       {"00000000-0000-4000-8000-000000000007", token(t, common, jointoken.Version1, "other"), codes.PermissionDenied, false},
		"of a provider without secret": {"00000000-0000-4000-8000-000000000008", token(t, "", jointoken.Version2, "other"), codes.PermissionDenied, false},
		"of nobody":                    {"00000000-0000-4000-8000-000000000009", token(t, "", jointoken.Version2, ""), codes.PermissionDenied, false},
		"for no machine":               {"not-a-uuid", token(t, own, jointoken.Version2, provider), codes.InvalidArgument, false},
	} {
		err := provision(t, host, &pb.ProvisionRequest{NodeUuid: row.id, JoinToken: &row.token})
		wantCode(t, name, err, row.want)

		if _, err := sim.Machine(row.id); (err == nil) != row.ours {
			t.Errorf("%s: infra.Machine: %v", name, err)
		}
	}
}

func TestTokenRotation(t *testing.T) {
	sim, st := ready(t, omnisim.Config{})
	before := apiURL(t, joinConfig(t, st))

	if err := sim.RotateJoinToken(); err != nil {
		t.Fatal(err)
	}

	wantCode(t, "the old token", join(t, before, machineA, ""), codes.PermissionDenied)
	wantCode(t, "the new token", join(t, apiURL(t, joinConfig(t, st)), machineA, ""), codes.OK)
}

// TestUniqueToken: infra.Machine has the token that the machine joined with last.
func TestUniqueToken(t *testing.T) {
	sim, st := ready(t, omnisim.Config{})
	api := apiURL(t, joinConfig(t, st))

	for _, unique := range []string{`{"Fingerprint":"f","Token":"1"}`, `{"Fingerprint":"f","Token":"2"}`} {
		if err := join(t, api, machineA, unique); err != nil {
			t.Fatal(err)
		}

		machine, err := sim.Machine(machineA)
		if err != nil || machine.TypedSpec().Value.NodeUniqueToken != unique {
			t.Errorf("node_unique_token is %q (%v), want %q", machine.TypedSpec().Value.NodeUniqueToken, err, unique)
		}
	}
}

// TestStaticProviderOnly: Omni makes no infra.Machine before the provider said
// that it is static, and makes it then for those that joined before.
func TestStaticProviderOnly(t *testing.T) {
	sim := start(t, omnisim.Config{})
	st := asProvider(t, sim)

	if err := join(t, apiURL(t, joinConfig(t, st)), machineA, ""); err != nil {
		t.Fatal(err)
	}

	if err := st.Create(limited(t), infra.NewProviderStatus(provider)); err != nil {
		t.Fatal(err)
	}

	if _, err := sim.Machine(machineA); err == nil {
		t.Error("a provider that is not static has an infra.Machine")
	}

	_, err := safe.StateUpdateWithConflicts(limited(t), st, infra.NewProviderStatus(provider).Metadata(), func(r *infra.ProviderStatus) error {
		r.Metadata().Labels().Set(omni.LabelIsStaticInfraProvider, "")

		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	await(t, st, infra.NewMachine(machineA).Metadata(), func(*infra.Machine) bool { return true })
}

// TestConnectionParams: an older Omni's way to the join configuration leads here too.
func TestConnectionParams(t *testing.T) {
	_, st := ready(t, omnisim.Config{})

	params, err := safe.StateGetByID[*siderolink.ConnectionParams](limited(t), st, siderolink.ConfigID)
	if err != nil {
		t.Fatal(err)
	}

	options, err := joinconfig.NewJoinOptions(
		joinconfig.WithMachineAPIURL(params.TypedSpec().Value.ApiEndpoint),
		joinconfig.WithJoinToken(params.TypedSpec().Value.JoinToken),
		joinconfig.WithJoinTokenVersion(jointoken.Version1),
		joinconfig.WithProvider(infra.NewProvider(provider)),
		joinconfig.WithEventSinkPort(int(params.TypedSpec().Value.EventsPort)),
		joinconfig.WithLogServerPort(int(params.TypedSpec().Value.LogsPort)))
	if err != nil {
		t.Fatal(err)
	}

	rendered, err := options.RenderJoinConfig()
	if err != nil {
		t.Fatal(err)
	}

	config := siderolink.NewProviderJoinConfig(provider)
	config.TypedSpec().Value.Config = &specs.JoinConfig{Config: string(rendered)}

	if err := join(t, apiURL(t, config), machineA, ""); err != nil {
		t.Errorf("a machine with that configuration does not join: %v", err)
	}
}
