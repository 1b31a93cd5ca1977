// Package omnidial is the way to Omni, for serve and for people alike.
package omnidial

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"time"

	"github.com/siderolabs/go-api-signature/pkg/client/interceptor"
	_ "github.com/siderolabs/omni/client/pkg/client" // registers the quick codec of Omni's messages
	"github.com/siderolabs/omni/client/pkg/compression"
	"github.com/siderolabs/omni/client/pkg/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
)

// Config says which Omni, as whom, and whom to trust on the way.
type Config struct {
	// Endpoint is Omni's URL. https is TLS 1.2 or later, every other scheme none;
	// the port is 443 or 80 unless it names one.
	Endpoint string
	// Roots are the authorities that are trusted; nil is the system's.
	Roots *x509.CertPool
	// InsecureSkipTLSVerify accepts any certificate.
	InsecureSkipTLSVerify bool
	// Identity signs each call.
	Identity interceptor.Options
}

// Dial makes the connection, which is set up with the first call: an error is one
// of the endpoint as text, or of the codec. It does what client.New of Omni's client package does,
// which takes no authorities besides the system's.
func Dial(cfg Config) (*grpc.ClientConn, error) {
	// Resources of Omni may be compressed.
	if err := compression.InitConfig(true); err != nil {
		return nil, err
	}

	u, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, err
	}

	transport, port := insecure.NewCredentials(), "80"
	if u.Scheme == "https" {
		port = "443"
		transport = credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots,
			InsecureSkipVerify: cfg.InsecureSkipTLSVerify, //nolint:gosec // the operator's --insecure-skip-tls-verify
		})
	}

	signer := interceptor.New(cfg.Identity)

	return grpc.NewClient(net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)),
		grpc.WithTransportCredentials(transport),
		grpc.WithUnaryInterceptor(signer.Unary()),
		grpc.WithStreamInterceptor(signer.Stream()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(constants.GRPCMaxMessageSize), grpc.UseCompressor(gzip.Name)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute}))
}
