// Package trust reads the authorities that an operator adds to the system's.
package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Roots are the system's authorities and those of the file; nil, which crypto/x509
// takes as the system's alone, if file is empty. Errors are those of Read.
func Roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // crypto/x509 takes it as the system's
	}

	extra, err := Read(file, time.Now())
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

// Hint is what to do about an error that says, perhaps as another program's text,
// that a server's certificate has an authority that is not trusted; empty for
// every other error, and nil.
func Hint(err error) string {
	if err != nil && strings.Contains(err.Error(), x509.UnknownAuthorityError{}.Error()) {
		return "an authority of your own goes into --extra-ca-file"
	}

	return ""
}

// Read reads the CA certificates of a PEM file (RFC 7468), which must
// hold nothing else and all be valid at the given time. The error says what is
// wrong with the file, and never repeats any of it but names of certificates.
func Read(file string, now time.Time) ([]*x509.Certificate, error) {
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
