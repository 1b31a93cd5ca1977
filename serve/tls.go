package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"

	"github.com/bmctl/bmctl/serve/resources"
)

// backdate is how far certificates reach into the past: machines whose clock
// battery is dead boot with yesterday's date.
const backdate = 24 * time.Hour

// errNoCA: the CA is kept in Omni and has not come from there yet.
var errNoCA = errors.New("the CA has not come from Omni yet")

// identity is who serve is towards agents over TLS: the operator's own
// certificate, or short-lived ones under a CA that is made once and kept in Omni,
// so that every serve of the provider has the same. It is safe for concurrent use.
type identity struct {
	log       *slog.Logger
	caTTL     time.Duration
	certTTL   time.Duration
	advertise netip.Addr

	mu      sync.Mutex
	ca      *x509.Certificate
	caPEM   string
	caKey   *ecdsa.PrivateKey
	current *tls.Certificate
	own     bool // the operator's: nothing is made
}

// newIdentity reads the operator's own files, if there are any.
func newIdentity(cfg Config, advertise netip.Addr, log *slog.Logger) (*identity, error) {
	id := &identity{log: log, caTTL: cfg.TLSCATTL, certTTL: cfg.TLSCertTTL, advertise: advertise}

	if cfg.TLSCertFile == "" {
		return id, nil
	}

	cert, err := tls.LoadX509KeyPair(cfg.TLSCertFile, cfg.TLSKeyFile)
	if err != nil {
		return nil, fmt.Errorf("the agents' TLS certificate: %w", err)
	}

	id.own, id.current = true, &cert

	if cfg.TLSCACertFile != "" {
		raw, err := os.ReadFile(cfg.TLSCACertFile)
		if err != nil {
			return nil, fmt.Errorf("the agents' CA: %w", err)
		}

		id.caPEM = string(raw)
	}

	return id, nil
}

// CA is the certificate that machines are told to trust, in PEM; empty where the
// operator's own needs none, errNoCA where ours is not known yet.
func (id *identity) CA() (string, error) {
	id.mu.Lock()
	defer id.mu.Unlock()

	if !id.own && id.ca == nil {
		return "", errNoCA
	}

	return id.caPEM, nil
}

// keep fetches the CA from Omni, or makes it there, and tries until that worked
// or ctx ends.
func (id *identity) keep(ctx context.Context, st state.State, provider string) {
	if id.own {
		return
	}

	for delay := time.Second / 2; ctx.Err() == nil; delay = min(2*delay, 30*time.Second) {
		err := id.fetch(ctx, st, provider)
		if err == nil {
			return
		}

		id.log.Debug("no CA for the agents' TLS", "error", err)

		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

func (id *identity) fetch(ctx context.Context, st state.State, provider string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	config, err := safe.StateGet[*resources.TLSConfig](ctx, st, resources.NewTLSConfig(provider).Metadata())
	if state.IsNotFoundError(err) {
		config, err = id.create(ctx, st, provider)
	}

	if err != nil {
		return err
	}

	return id.use(config.TypedSpec().Value.CaCert, config.TypedSpec().Value.CaKey)
}

// create makes the CA in Omni; where another serve was quicker, its one holds.
func (id *identity) create(ctx context.Context, st state.State, provider string) (*resources.TLSConfig, error) {
	cert, key, err := newCA(id.caTTL)
	if err != nil {
		return nil, err
	}

	config := resources.NewTLSConfig(provider)
	config.TypedSpec().Value.CaCert, config.TypedSpec().Value.CaKey = cert, key

	err = st.Create(ctx, config)
	if state.IsConflictError(err) {
		return safe.StateGet[*resources.TLSConfig](ctx, st, config.Metadata())
	}

	return config, err
}

// use takes a CA in PEM into use.
func (id *identity) use(certPEM, keyPEM string) error {
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		return fmt.Errorf("the CA kept in Omni: %w", err)
	}

	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("the CA kept in Omni has a key of type %T, want ECDSA", pair.PrivateKey)
	}

	id.mu.Lock()
	defer id.mu.Unlock()

	id.ca, id.caPEM, id.caKey, id.current = pair.Leaf, certPEM, key, nil

	return nil
}

// config is for the agents' listener: TLS 1.3 and nothing older.
func (id *identity) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.certificate() },
	}
}

// certificate returns one that is valid for at least a third of its life yet.
func (id *identity) certificate() (*tls.Certificate, error) {
	id.mu.Lock()
	defer id.mu.Unlock()

	switch {
	case id.own, id.current != nil && time.Until(id.current.Leaf.NotAfter) > id.certTTL/3:
		return id.current, nil
	case id.ca == nil:
		return nil, errNoCA
	}

	cert, err := id.issue()
	if err != nil {
		return nil, err
	}

	id.current = cert
	id.log.Info("certificate for agents issued", "expires", cert.Leaf.NotAfter)

	return cert, nil
}

// issue signs a certificate for our address; id.mu is held.
func (id *identity) issue() (*tls.Certificate, error) {
	key, template, err := newTemplate("bmctl", id.certTTL)
	if err != nil {
		return nil, err
	}

	template.IPAddresses = []net.IP{net.IP(id.advertise.AsSlice())}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

	der, err := x509.CreateCertificate(rand.Reader, template, id.ca, &key.PublicKey, id.caKey)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for agents: %w", err)
	}

	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}

	return &tls.Certificate{Certificate: [][]byte{der, id.ca.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// newCA makes a self-signed CA, certificate and key in PEM.
func newCA(ttl time.Duration) (certPEM, keyPEM string, err error) {
	key, template, err := newTemplate("bmctl CA", ttl)
	if err != nil {
		return "", "", err
	}

	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature

	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return "", "", fmt.Errorf("make a CA: %w", err)
	}

	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", fmt.Errorf("make a CA: %w", err)
	}

	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})), nil
}

func newTemplate(name string, ttl time.Duration) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}

	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("make a serial number: %w", err)
	}

	return key, &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-backdate),
		NotAfter:     time.Now().Add(ttl),
	}, nil
}

// bindTLS binds the agents' port.
func (s *Server) bindTLS(ctx context.Context) (err error) {
	if s.cfg.TLSEnabled {
		s.tlsListener, err = listen(ctx, "gRPC over TLS", s.cfg.tlsAddress())
	}

	return err
}

// serveTLS serves agents over TLS, and nothing else there, until ctx ends.
func (s *Server) serveTLS(ctx context.Context) error {
	if s.tlsListener == nil {
		return nil
	}

	s.identity.keep(ctx, s.state, s.cfg.ID)

	return s.grpcTLS.Serve(s.tlsListener)
}
