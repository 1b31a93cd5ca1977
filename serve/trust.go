package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/factory"
	"github.com/bmctl/bmctl/serve/trust"
)

// roots are the authorities that serve trusts, for Omni, the Image Factory and
// BMCs alike: the system's, and those of --extra-ca-file. nil means the system's
// alone.
func (c Config) roots() (*x509.CertPool, error) { return trust.Roots(c.ExtraCAFile) }

// ipxeRoot is the authority that iPXE trusts, and nothing else; nil is iPXE's own.
func (c Config) ipxeRoot() (*x509.Certificate, error) {
	if c.TLSCustomIPXECACertFile == "" {
		return nil, nil //nolint:nilnil // boot takes it as iPXE's own
	}

	found, err := trust.Read(c.TLSCustomIPXECACertFile, time.Now())

	switch {
	case err != nil:
		return nil, err
	case len(found) > 1:
		return nil, fmt.Errorf("%s: %d certificates: iPXE has a place for one, the root", c.TLSCustomIPXECACertFile, len(found))
	}

	return found[0], boot.CheckIPXERoot(found[0])
}

// webClient asks the Image Factory and downloads from it.
func webClient(roots *x509.CertPool) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // net/http says so
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}

	return &http.Client{Transport: transport}
}

// imageFactory is the client of the configured factory.
func (c Config) imageFactory(web *http.Client, log *slog.Logger) (*factory.Client, error) {
	return factory.New(factory.Config{BaseURL: c.ImageFactoryBaseURL, PXEBaseURL: c.ImageFactoryPXEBaseURL, Log: log, HTTP: web})
}
