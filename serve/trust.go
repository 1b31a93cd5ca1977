package serve

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/factory"
)

// roots are the authorities that serve trusts, for Omni, the Image Factory and
// BMCs alike: the system's, and those of --extra-ca-file. nil means the system's
// alone.
func (c Config) roots() (*x509.CertPool, error) {
	if c.ExtraCAFile == "" {
		return nil, nil //nolint:nilnil // crypto/x509 takes it as the system's
	}

	extra, err := readAuthorities(c.ExtraCAFile, time.Now())
	if err != nil {
		return nil, err
	}

	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's certificates: %w", err)
	}

	for _, certificate := range extra {
		pool.AddCert(certificate)
	}

	return pool, nil
}

// ipxeRoot is the authority that iPXE trusts, and nothing else; nil is iPXE's own.
func (c Config) ipxeRoot() (*x509.Certificate, error) {
	if c.TLSCustomIPXECACertFile == "" {
		return nil, nil //nolint:nilnil // boot takes it as iPXE's own
	}

	found, err := readAuthorities(c.TLSCustomIPXECACertFile, time.Now())

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

// readAuthorities reads the CA certificates of a PEM file (RFC 7468), which must
// hold nothing else and all be valid at the given time. The error says what is
// wrong with the file, and never repeats any of it but names of certificates.
func readAuthorities(file string, now time.Time) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}

	var (
		found []*x509.Certificate
		errs  []error
	)

	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := authority(block, now)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: block %d: %w", file, len(found)+len(errs)+1, err))

			continue
		}

		found = append(found, certificate)
	}

	if len(found)+len(errs) == 0 {
		return nil, fmt.Errorf("%s: no certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----%s", file, likelyDER(text))
	}

	return found, errors.Join(errs...)
}

// likelyDER is a hint for a certificate in the other usual form.
func likelyDER(text []byte) string {
	if _, err := x509.ParseCertificate(text); err != nil {
		return ""
	}

	return " (it is one in DER form: convert it with openssl x509)"
}

// authority is the CA certificate in the block.
func authority(block *pem.Block, now time.Time) (*x509.Certificate, error) {
	switch {
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, errors.New("is a private key: give certificates alone, and keep the key to yourself")
	case block.Type != "CERTIFICATE":
		return nil, fmt.Errorf("is a %s, not a CERTIFICATE", block.Type)
	}

	c, err := x509.ParseCertificate(block.Bytes)

	switch {
	case err != nil:
		return nil, fmt.Errorf("is no certificate: %w", err)
	case now.After(c.NotAfter):
		return nil, fmt.Errorf("%q expired on %s", nameOf(c), c.NotAfter.Format(time.DateOnly))
	case now.Before(c.NotBefore):
		return nil, fmt.Errorf("%q is not valid before %s", nameOf(c), c.NotBefore.Format(time.DateOnly))
	case !c.IsCA && !bytes.Equal(c.RawSubject, c.RawIssuer):
		return nil, fmt.Errorf("%q is no CA: give the certificate of its issuer, %q", nameOf(c), c.Issuer.String())
	}

	return c, nil
}

func nameOf(c *x509.Certificate) string {
	if name := c.Subject.String(); name != "" {
		return name
	}

	return "serial number " + c.SerialNumber.String()
}
