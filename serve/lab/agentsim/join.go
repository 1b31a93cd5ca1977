package agentsim

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"

	siderolink "github.com/siderolabs/siderolink/api/siderolink"
)

// join asks Omni for a SideroLink with the token of the config until it is
// given one. No WireGuard follows.
func (a *Agent) join(ctx context.Context, config machineConfig) error {
	return a.retry(ctx, "join Omni", func(ctx context.Context) error {
		address, secure, err := siderolinkEndpoint(config.siderolink)
		if err != nil {
			return err
		}

		conn, err := a.dialGRPC(address, secure, &tls.Config{RootCAs: config.roots})
		if err != nil {
			return fmt.Errorf("dial SideroLink %s: %w", address, err)
		}
		defer conn.Close() //nolint:errcheck // nothing is left to lose

		response, err := siderolink.NewProvisionServiceClient(conn).Provision(ctx, a.provisionRequest(config))
		if err != nil {
			return fmt.Errorf("join Omni at %s: %w", address, err)
		}

		a.log().Info("joined Omni", "siderolink", address, "address", response.GetNodeAddressPrefix())

		return nil
	})
}

func (a *Agent) provisionRequest(config machineConfig) *siderolink.ProvisionRequest {
	query := config.siderolink.Query()
	overGRPC := query.Get("grpc_tunnel") == "true"
	version := cmp.Or(a.TalosVersion, DefaultTalosVersion)

	request := &siderolink.ProvisionRequest{
		NodeUuid:          a.MachineID,
		NodePublicKey:     a.publicKey(),
		TalosVersion:      &version,
		WireguardOverGrpc: &overGRPC,
	}

	if token := query.Get("jointoken"); token != "" {
		request.JoinToken = &token
	}

	if token := cmp.Or(a.UniqueToken, config.uniqueToken); token != "" {
		request.NodeUniqueToken = &token
	}

	return request
}

// siderolinkEndpoint says where an API URL points: grpc:// is plain text,
// https:// is TLS and has port 443 by default.
func siderolinkEndpoint(api *url.URL) (address string, secure bool, err error) {
	var defaultPort string

	switch api.Scheme {
	case "grpc":
		defaultPort = "80"
	case "https":
		secure, defaultPort = true, "443"
	default:
		return "", false, fmt.Errorf("join Omni: the scheme of the SideroLink apiUrl is %q, not grpc or https", api.Scheme)
	}

	return net.JoinHostPort(api.Hostname(), cmp.Or(api.Port(), defaultPort)), secure, nil
}
