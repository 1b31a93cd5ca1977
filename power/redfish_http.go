package power

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stmcginnis/gofish/schemas"
)

const (
	maxBody      = 4 << 20
	maxRedirects = 3
)

// newHTTPClient makes the one transport of a controller: connections are kept
// (a TLS handshake costs a controller up to seconds), HTTP/1.1 (their HTTP/2 is
// where the bugs are), no proxy, and redirects only on the same origin.
func newHTTPClient(target Target, opts Options) (*http.Client, *http.Transport) {
	transport := &http.Transport{
		DialContext:         dialAudible,
		TLSClientConfig:     tlsConfig(target, opts),
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
		MaxConnsPerHost:     2,
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     time.Minute,
		// Of thousands of controllers each keeps a connection, which rests for most
		// of the time; requests are small, and answers come a TLS record at a time.
		ReadBufferSize:  1 << 10,
		WriteBufferSize: 1 << 10,
	}

	return &http.Client{
		Transport:     sameOrigin{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, transport
}

// errCertificate marks a certificate that is not accepted.
var errCertificate = errors.New("the certificate is not accepted")

// tlsConfig verifies by itself, so that a pin can stand in for an authority.
func tlsConfig(target Target, opts Options) *tls.Config {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         target.Address,
		InsecureSkipVerify: true, // VerifyConnection decides
		VerifyConnection: func(state tls.ConnectionState) error {
			if err := checkCertificate(target, opts, state); err != nil {
				return fmt.Errorf("%w: %w", errCertificate, err)
			}

			return nil
		},
	}

	if target.RSAKeyExchange {
		config.CipherSuites = withRSAKeyExchange()
	}

	return config
}

func checkCertificate(target Target, opts Options, state tls.ConnectionState) error {
	leaf := state.PeerCertificates[0]

	switch {
	case target.Pin != "" && !strings.EqualFold(target.Pin, Fingerprint(leaf)):
		return fmt.Errorf("it is %s, pinned is %s", Fingerprint(leaf), target.Pin)
	case target.Pin != "":
		return nil
	case opts.CheckCertificate != nil:
		return opts.CheckCertificate(target, leaf, verifyChain(state, target.Address, opts.Roots))
	case opts.VerifyTLS:
		return verifyChain(state, target.Address, opts.Roots)
	default:
		return nil
	}
}

// Fingerprint is what Target.Pin pins: "sha256:" and the SHA-256 of the whole
// certificate (DER) in small hexadecimal digits.
func Fingerprint(c *x509.Certificate) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(c.Raw)) }

// withRSAKeyExchange are crypto/tls's own suites for TLS 1.2, and after them
// those with RSA key exchange and AES.
func withRSAKeyExchange() []uint16 {
	var ids []uint16

	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if strings.HasPrefix(suite.Name, "TLS_ECDHE_") && !suite.Insecure || strings.HasPrefix(suite.Name, "TLS_RSA_WITH_AES_") {
			ids = append(ids, suite.ID)
		}
	}

	return ids
}

// verifyChain is what crypto/tls does without InsecureSkipVerify.
func verifyChain(state tls.ConnectionState, name string, roots *x509.CertPool) error {
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}

	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		DNSName: name, Intermediates: intermediates, Roots: roots,
	})

	return err
}

// sameOrigin follows redirects with method and body kept, and always on the
// origin it was asked for: some controllers redirect POST with 301, and some
// name an address that is not reachable from outside.
type sameOrigin struct{ next http.RoundTripper }

func (s sameOrigin) RoundTrip(req *http.Request) (*http.Response, error) {
	for range maxRedirects {
		resp, err := s.next.RoundTrip(req)
		if err != nil {
			return resp, err
		}

		if !redirects(resp) {
			return salvaged(resp), nil
		}

		location, err := resp.Location()
		if err != nil {
			return resp, nil //nolint:nilerr // the status tells what is wrong
		}

		drain(resp)

		if req, err = repeat(req, location.Path, location.RawQuery); err != nil {
			return nil, err
		}
	}

	return nil, fmt.Errorf("more than %d redirects", maxRedirects)
}

// salvaged keeps what there is of a refusal whose body breaks off: its status
// tells enough.
func salvaged(resp *http.Response) *http.Response {
	if resp.StatusCode < http.StatusBadRequest {
		return resp
	}

	// Where it breaks off does not matter.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))

	return resp
}

func redirects(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return resp.Header.Get("Location") != ""
	default:
		return false
	}
}

func repeat(req *http.Request, path, query string) (*http.Request, error) {
	again := req.Clone(req.Context())
	again.URL.Path, again.URL.RawPath, again.URL.RawQuery = path, "", query

	if req.GetBody == nil {
		return again, nil
	}

	body, err := req.GetBody()
	again.Body = body

	return again, err
}

// drain lets the connection be used again.
func drain(resp *http.Response) {
	// What is left of an answer that nobody reads may be anything.
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody)
	_ = resp.Body.Close()
}

// decodeBody reads a JSON answer into what into points to.
func decodeBody(resp *http.Response, into any) error {
	defer drain(resp)

	if into == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}

	err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(into)

	// A property of another type than the schema's, as an object where a list
	// belongs, counts as not told; the others are read all the same.
	var misfit *json.UnmarshalTypeError
	if err == nil || errors.As(err, &misfit) && misfit.Field != "" {
		return nil
	}

	return fmt.Errorf("%w: %w", errNoJSON, err)
}

var errNoJSON = errors.New("the answer is not the JSON of Redfish")

// httpFailure is the failure that an error of a request means.
func httpFailure(ctx context.Context, err error, address string, since time.Time) error {
	var refusal *schemas.Error

	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return refusalFailure(refusal, address)
	case errors.Is(err, errCertificate):
		return fail(ErrAuth, "%s: %v", address, innermost(err, errCertificate)).because(err)
	case errors.Is(err, errNoJSON):
		return fail(ErrUnsupported, "%s does not speak Redfish: %v", address, err)
	case over(ctx):
		return noAnswer(ctx, address, since)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(ErrUnreachable, "nothing listens at %s", address).because(err)
	default:
		return fail(ErrUnreachable, "%s: %v", address, shortCause(err)).because(err)
	}
}

// shortCause leaves out what the text says already: method and URL.
func shortCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}

	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}

	return err
}

// innermost cuts the layers around the marked error off.
func innermost(err, mark error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil || !errors.Is(next, mark) {
			return err
		}

		err = next
	}
}

// refusalFailure reads an HTTP status and the message ids under it (DSP0266,
// 8.6; the registries of vendors for those that they add).
func refusalFailure(e *schemas.Error, address string) *failure {
	f := fail(refusalKind(e), "%s answered %d: %s", address, e.HTTPReturnedStatusCode, refusalText(e))
	f.status = e.HTTPReturnedStatusCode
	f.privilege = f.status == http.StatusForbidden

	return f
}

// Messages by which controllers say "later", whatever the status.
var busyMessages = []string{
	"UnableToModifyDuringSystemPOST", // HPE iLO
	"ActionParameterValueConflict",   // Dell iDRAC 10, shortly after off
	"SYS518",                         // Dell iDRAC: data sources are unavailable
	"InvalidOperationForSystemState", // HPE iLO, on the way between on and off
}

// Messages by which controllers say "I cannot".
var unsupportedMessages = []string{
	"ActionNotSupported", "ActionParameterNotSupported", "ActionParameterValueNotInList",
	"PropertyUnknown", "PropertyNotWritable", "UnsupportedOperation", "PropertyValueNotInList",
}

func refusalKind(e *schemas.Error) error {
	text := e.Error()

	for _, id := range busyMessages {
		if strings.Contains(text, id) {
			return ErrBusy
		}
	}

	switch e.HTTPReturnedStatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrAuth
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return ErrUnsupported
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return ErrBusy
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return ErrUnreachable
	}

	for _, id := range unsupportedMessages {
		if strings.Contains(text, id) {
			return ErrUnsupported
		}
	}

	return ErrRefused
}

// refusalText is the first thing that the controller says to people.
func refusalText(e *schemas.Error) string {
	for _, info := range e.ExtendedInfos {
		switch {
		case info.Message != "":
			return info.Message
		case info.MessageID != "":
			return info.MessageID
		}
	}

	text := strings.TrimSpace(e.Message)
	if text == "" || strings.HasPrefix(text, "<") {
		return http.StatusText(e.HTTPReturnedStatusCode)
	}

	const longest = 200
	if len(text) > longest {
		return text[:longest] + "..."
	}

	return text
}
