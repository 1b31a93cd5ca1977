package pxeclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

const (
	// examined is how much of a loader is read again in other ways.
	examined = 256 << 10
	// clockTolerance is how much a Date header may be off: it has whole seconds, and
	// answers may be cached on the way.
	clockTolerance = 2 * time.Minute
	// expiresSoon is when a certificate is worth a warning.
	expiresSoon = 14 * 24 * time.Hour
)

// otherWays are what firmware of other kinds asks of TFTP.
var otherWays = []struct {
	name string
	wish wish
}{
	{"in blocks of 512 bytes without options, as old ROMs ask", wish{limit: examined}},
	{"with blksize 1428", wish{block: 1428, window: 1, options: true, limit: examined}},
	{"with windowsize 4, as EDK2 asks", wish{block: blockSize, window: 4, options: true, limit: examined}},
}

// examineTFTP reads the beginning of the loader in other ways and warns where it
// does not come, or comes out different.
func (b *boot) examineTFTP(ctx context.Context, server netip.AddrPort, name string, content []byte) {
	for _, way := range otherWays {
		again, err := b.again(ctx, server, name, way.wish)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			b.warn("%s: %v", way.name, err)
		case !bytes.HasPrefix(content, again) || len(again) < min(examined, len(content)):
			b.warn("%s: another content came", way.name)
		}
	}
}

func (b *boot) again(ctx context.Context, server netip.AddrPort, name string, w wish) ([]byte, error) {
	t, done, err := b.transfer(ctx, server)
	if err != nil {
		return nil, err
	}
	defer done()
	content, _, err := t.get(ctx, name, w, false)
	return content, err
}

// patient is how long a script may sleep in all before it counts as waiting.
const patient = 10 * time.Second

// skip takes a sleep as done. A script that sleeps for long waits for something,
// and would go on to ask again.
func (i *interpreter) skip(d time.Duration) error {
	if i.slept += d; i.slept < patient {
		return i.step(time.Now(), "sleep", d.String()+", skipped", nil)
	}
	_ = i.step(time.Now(), "sleep", d.String()+": the machine is told to wait", nil)
	return ended{OutcomeWait}
}

// examine warns of what an answer tells about clocks, certificates and redirects.
func (b *boot) examine(response *http.Response) {
	host := response.Request.URL.Host
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		switch ahead := time.Since(date).Round(time.Minute); {
		case ahead > clockTolerance:
			b.warn("clock of %s is %s behind this host's: certificates may be refused", host, minutes(ahead))
		case -ahead > clockTolerance:
			b.warn("clock of %s is %s ahead of this host's: certificates may be refused", host, minutes(-ahead))
		}
	}
	if response.TLS != nil {
		b.examineTLS(host, response.TLS)
	}
	if b.Firmware == UEFIHTTP && response.Request.Response != nil && b.result.Script == "" {
		b.warn("redirected to %s: not every HTTP Boot firmware follows", shown(response.Request.URL))
	}
}

func minutes(d time.Duration) string {
	if d < 2*time.Hour {
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}

func (b *boot) examineTLS(host string, state *tls.ConnectionState) {
	for _, certificate := range state.PeerCertificates {
		if left := time.Until(certificate.NotAfter); left < expiresSoon {
			b.warn("%s: the certificate of %q expires at %s", host, certificate.Subject.CommonName, certificate.NotAfter.UTC().Format(time.RFC3339))
		}
	}
}

// webHint is what to do about a failed request.
func webHint(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
		status  *statusError
		dns     *net.DNSError
		netErr  net.Error
	)
	switch {
	case errors.As(err, &unknown):
		return "the server must send its whole chain, and the machine must trust its root"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the certificate, or set the clock: a machine's may be as wrong"
	case errors.As(err, &name):
		return "the URL must use a name that the certificate has"
	case errors.As(err, &status):
		return "ask for the same URL with curl -I, and see what the server logs"
	case errors.As(err, &dns):
		return "the name must resolve with the DNS servers that machines get"
	case errors.As(err, &netErr):
		return "the server must be reachable from the machines' network: does it listen there, and do firewalls and proxies let it through?"
	default:
		return ""
	}
}
