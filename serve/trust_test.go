package serve

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/assetcache"
	"github.com/bmctl/bmctl/serve/omnisim"
	"github.com/bmctl/bmctl/serve/trust"
)

// authorityOf returns a new CA, in PEM and as what is valid under it on loopback.
func authorityOf(t *testing.T, ttl time.Duration) (caPEM, keyPEM string, leaf *tls.Certificate) {
	t.Helper()

	caPEM, keyPEM, err := newCA(ttl)
	if err != nil {
		t.Fatal(err)
	}

	id := &identity{log: slog.New(slog.DiscardHandler), certTTL: time.Hour, advertise: netip.MustParseAddr("127.0.0.1")}
	if err := id.use(caPEM, keyPEM); err != nil {
		t.Fatal(err)
	}

	if leaf, err = id.certificate(); err != nil {
		t.Fatal(err)
	}

	return caPEM, keyPEM, leaf
}

func pemFile(t *testing.T, parts ...string) string {
	t.Helper()

	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(strings.Join(parts, "")), 0o600); err != nil {
		t.Fatal(err)
	}

	return file
}

func certificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestBadAuthorities: each thing that can be wrong with a file of authorities is
// named, all of them at once, and nothing of a key is repeated.
func TestBadAuthorities(t *testing.T) {
	good, key, leaf := authorityOf(t, time.Hour)
	expired, _, _ := authorityOf(t, -time.Hour)
	der, _ := pem.Decode([]byte(good))

	for name, test := range map[string]struct {
		file string
		want []string // none: it is accepted
	}{
		"one":                {pemFile(t, good), nil},
		"two and a comment":  {pemFile(t, "our CA\n", good, anotherCA(t)), nil},
		"no file":            {filepath.Join(t.TempDir(), "none"), []string{"no such file"}},
		"empty":              {pemFile(t), []string{"no certificate in PEM form"}},
		"DER":                {pemFile(t, string(der.Bytes)), []string{"no certificate in PEM form", "openssl x509"}},
		"its key":            {pemFile(t, key), []string{"is a private key"}},
		"a request":          {pemFile(t, "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"), []string{"is a CERTIFICATE REQUEST"}},
		"broken":             {pemFile(t, certificatePEM([]byte("nothing"))), []string{"block 1: is no certificate"}},
		"expired":            {pemFile(t, good, expired), []string{"block 2", `"CN=bmctl CA" expired on ` + time.Now().UTC().Add(-time.Hour).Format(time.DateOnly)}},
		"a server's":         {pemFile(t, certificatePEM(leaf.Certificate[0])), []string{`"CN=bmctl" is no CA`, `issuer, "CN=bmctl CA"`}},
		"two that are wrong": {pemFile(t, expired, good, key), []string{"block 1", "expired", "block 3", "private key"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.OmniAPIEndpoint, cfg.OmniServiceAccountKey, cfg.ExtraCAFile = "https://omni", power.NewSecret("eyJuYW1lIjoieCIsInBncF9rZXkiOiJ5In0="), test.file

			var got string
			for _, problem := range cfg.Validate() {
				got += problem.String()
			}

			if (len(test.want) == 0) != (got == "") {
				t.Errorf("got %q", got)
			}

			for _, want := range test.want {
				if !strings.Contains(got, want) || !strings.HasPrefix(got, "--extra-ca-file: ") || strings.Contains(got, "\n") {
					t.Errorf("got %q, want one line with %q", got, want)
				}
			}

			if secret := strings.Split(key, "\n")[1]; strings.Contains(got, secret) {
				t.Errorf("the key stands in %q", got)
			}

			if _, err := cfg.roots(); (err == nil) != (len(test.want) == 0) {
				t.Errorf("in use: %v", err)
			}
		})
	}
}

func anotherCA(t *testing.T) string {
	t.Helper()

	another, _, _ := authorityOf(t, time.Hour)

	return another
}

// TestIPXETrustsTheAuthority of the flag: the loaders that serve sends have it, and
// what iPXE could not use is refused before anything is bound.
func TestIPXETrustsTheAuthority(t *testing.T) {
	curve, _, _ := authorityOf(t, time.Hour)
	root := rsaAuthority(t)
	cfg, _ := secureSite(t)
	cfg.InsecureSkipTLSVerify = true

	for want, file := range map[string]string{
		"has a key of type ECDSA: iPXE verifies RSA alone": pemFile(t, curve),
		"2 certificates: iPXE has a place for one":         pemFile(t, certificatePEM(root), curve),
		"no such file": "/nonesuch",
	} {
		cfg.TLSCustomIPXECACertFile = file

		if problems := cfg.Validate(); len(problems) != 1 || problems[0].Flag != "tls-custom-ipxe-ca-cert-file" || !strings.Contains(problems[0].Text, want) {
			t.Errorf("got %v, want %q", problems, want)
		}
	}

	cfg.TLSCustomIPXECACertFile = pemFile(t, certificatePEM(root))
	if problems := cfg.Validate(); len(problems) != 0 {
		t.Fatal(problems)
	}

	s, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.omni.Close()

	w := httptest.NewRecorder()
	s.boot.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/tftp/ipxe.efi", nil))

	if fingerprint := sha256.Sum256(root); !bytes.Contains(w.Body.Bytes(), fingerprint[:]) {
		t.Errorf("the loader of %d bytes does not trust it", w.Body.Len())
	}
}

func rsaAuthority(t *testing.T) (der []byte) {
	t.Helper()

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}

	_, template, err := newTemplate("the site's CA", time.Hour)
	if err != nil {
		t.Fatal(err)
	}

	template.IsCA, template.BasicConstraintsValid = true, true

	if der, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key); err != nil {
		t.Fatal(err)
	}

	return der
}

// TestNotYetValid is a host whose clock is wrong, or a CA of tomorrow.
func TestNotYetValid(t *testing.T) {
	good, _, _ := authorityOf(t, time.Hour)

	if _, err := trust.Read(pemFile(t, good), time.Now().Add(-backdate-time.Minute)); err == nil || !strings.Contains(err.Error(), "is not valid before") {
		t.Errorf("got %v", err)
	}
}

// overTLS is a way to the address that begins with TLS.
func overTLS(t *testing.T, to string, certificate *tls.Certificate) (addr string) {
	t.Helper()

	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*certificate}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())

	var tasks sync.WaitGroup

	tasks.Go(func() {
		for {
			outer, err := listener.Accept()
			if err != nil {
				return
			}

			tasks.Go(func() { forward(ctx, outer, to) })
		}
	})
	t.Cleanup(func() {
		cancel()

		_ = listener.Close()

		tasks.Wait()
	})

	return listener.Addr().String()
}

// forward carries bytes both ways until either end or ctx is done.
func forward(ctx context.Context, outer net.Conn, to string) {
	inner, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		_ = outer.Close()

		return
	}

	closeBoth := func() { _ = outer.Close(); _ = inner.Close() }
	defer context.AfterFunc(ctx, closeBoth)()

	var ways sync.WaitGroup

	ways.Go(func() { _, _ = io.Copy(inner, outer); closeBoth() })
	ways.Go(func() { _, _ = io.Copy(outer, inner); closeBoth() })
	ways.Wait()
}

// secureSite is an Omni and an image factory behind one private authority, and a
// configuration for them that does not know of it.
func secureSite(t *testing.T) (cfg Config, caPEM string) {
	t.Helper()

	caPEM, _, leaf := authorityOf(t, time.Hour)

	omni, err := omnisim.Start(omnisim.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := omni.Close(); err != nil {
			t.Error(err)
		}
	})

	images := httptest.NewUnstartedServer(newImages(t, "", 0).Config.Handler)
	images.TLS = &tls.Config{Certificates: []tls.Certificate{*leaf}}
	images.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // refused handshakes are meant
	images.StartTLS()
	t.Cleanup(images.Close)

	cfg = DefaultConfig()
	cfg.OmniAPIEndpoint = "https://" + overTLS(t, strings.TrimPrefix(omni.Endpoint(), "http://"), leaf)
	cfg.OmniServiceAccountKey = power.NewSecret(omni.ProviderKey())
	cfg.ImageFactoryBaseURL, cfg.ImageFactoryPXEBaseURL = images.URL, images.URL
	cfg.APIListenAddress, cfg.APIAdvertiseAddress, cfg.DHCPProxyIfaceOrIP = "127.0.0.1", "127.0.0.1", "127.0.0.1"
	cfg.DHCPPort, cfg.PXEPort, cfg.TFTPPort, cfg.MetricsAddress = 0, 0, 0, ""

	return cfg, caPEM
}

// TestExtraCA: over real TLS, the file's authority is trusted by all of Omni's
// client, the image factory's, and the asset cache's downloads; without the file
// by none of them, and what is said then is the reason.
func TestExtraCA(t *testing.T) {
	cfg, ca := secureSite(t)
	unknown := "certificate signed by unknown authority"

	for name, r := range checks(t, cfg) {
		if strings.Contains("omni, image factory", name) && (r.Err == nil || !strings.Contains(r.Err.Error(), unknown) || !strings.Contains(r.Hint, "--extra-ca-file")) {
			t.Errorf("%s without the file: %v, hint %q", name, r.Err, r.Hint)
		}
	}

	if _, err := prefetched(t, cfg); err == nil || !strings.Contains(err.Error(), unknown) {
		t.Errorf("prefetch without the file: %v", err)
	}

	cfg.ExtraCAFile = pemFile(t, ca)

	for name, r := range checks(t, cfg) {
		if strings.Contains("omni, image factory", name) && r.Err != nil {
			t.Errorf("%s: %v", name, r.Err)
		}
	}

	stored, err := prefetched(t, cfg)
	if err != nil || len(stored) != 2 {
		t.Errorf("%d assets downloaded: %v", len(stored), err)
	}
}

// TestExtraCAKeepsTheSystems: the file adds to what the system trusts.
func TestExtraCAKeepsTheSystems(t *testing.T) {
	ca, _, _ := authorityOf(t, time.Hour)
	cfg := DefaultConfig()
	cfg.ExtraCAFile = pemFile(t, ca)

	got, err := cfg.roots()
	if err != nil {
		t.Fatal(err)
	}

	want, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}

	if got.Equal(want) {
		t.Error("the authority is not among them")
	}

	if want.AppendCertsFromPEM([]byte(ca)); !got.Equal(want) {
		t.Error("those of the system and that of the file are not what is trusted")
	}
}

func checks(t *testing.T, cfg Config) map[string]CheckResult {
	t.Helper()

	results, err := Check(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}

	found := map[string]CheckResult{}
	for _, r := range results {
		found[r.Name] = r
	}

	if len(found) < 5 {
		t.Fatalf("the checks are %v", found)
	}

	return found
}

// prefetched downloads agent mode through a cache of its own.
func prefetched(t *testing.T, cfg Config) ([]assetcache.Asset, error) {
	t.Helper()

	cfg.AssetCacheDir = t.TempDir()

	cache, err := OpenCache(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()

	return cfg.Prefetch(t.Context(), cache, Prefetch{Arch: "amd64"}, slog.New(slog.DiscardHandler), nil)
}

// TestExtraCAOfControllers: a controller's certificate is verified against the
// file's authority, which here is that of one controller alone.
func TestExtraCAOfControllers(t *testing.T) {
	const user, password = "admin", "s3cret"

	sim, err := bmcsim.Start(bmcsim.Config{Users: map[string]string{user: password}, IPMIPort: bmcsim.PortOff})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})

	conn, err := tls.Dial("tcp", netip.AddrPortFrom(sim.Addr(), uint16(sim.RedfishPort())).String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}

	presented := conn.ConnectionState().PeerCertificates[0]
	_ = conn.Close()

	cfg, ca := secureSite(t)
	cfg.RedfishInsecureSkipTLSVerify, cfg.RedfishUseAlways = false, true

	ask := func(authorities ...string) error {
		cfg.ExtraCAFile = pemFile(t, authorities...)

		s, err := New(cfg, slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer s.omni.Close()

		bmc, err := power.NewDialer(s.powerOptions()).Open(t.Context(), power.Target{
			Address: sim.Addr().String(), RedfishPort: sim.RedfishPort(), Username: user, Password: power.NewSecret(password),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer bmc.Close()

		_, err = bmc.State(t.Context())

		return err
	}

	if err := ask(ca); err == nil || !strings.Contains(err.Error(), "the certificate is not accepted") {
		t.Errorf("under another authority: %v", err)
	}

	if err := ask(ca, certificatePEM(presented.Raw)); err != nil {
		t.Errorf("under its own authority: %v", err)
	}
}

// TestHTTPSOfTheFactoryIsVerified also without a file: the client is not one that
// accepts anything.
func TestHTTPSOfTheFactoryIsVerified(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(server.Close)

	if _, err := webClient(nil).Get(server.URL); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("got %v", err)
	}
}
