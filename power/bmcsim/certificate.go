package bmcsim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"time"
)

// tlsConfig has a certificate as from the factory. With RSA key exchange it
// offers nothing else.
func tlsConfig(addr netip.Addr, rsaKeyExchange bool) (*tls.Config, error) {
	const bits = 2048

	var (
		key    crypto.Signer
		err    error
		config = &tls.Config{MinVersion: tls.VersionTLS12}
		usage  = x509.KeyUsageDigitalSignature
	)

	if rsaKeyExchange {
		key, err = rsa.GenerateKey(rand.Reader, bits)
		config.MaxVersion = tls.VersionTLS12
		config.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_CBC_SHA}
		usage |= x509.KeyUsageKeyEncipherment
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}

	if err != nil {
		return nil, err
	}

	certificate, err := selfSigned(addr, key, usage)
	config.Certificates = []tls.Certificate{certificate}

	return config, err
}

// selfSigned makes the certificate that a controller has from its factory.
func selfSigned(addr netip.Addr, key crypto.Signer, usage x509.KeyUsage) (tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}

	now := time.Now()
	template := x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "bmc-" + addr.String()},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     usage,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{addr.AsSlice()},
	}

	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}

	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
