package agentsim

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/klauspost/compress/zstd"
)

// maxConfig bounds a machine config; Talos' own are tens of kilobytes.
const maxConfig = 4 << 20

// machineConfig is what the stand-in needs of a Talos machine config.
type machineConfig struct {
	siderolink  *url.URL // where and with which token to join
	uniqueToken string
	roots       *x509.CertPool // nil means the system's
}

// readConfig gets the config from where the kernel arguments say, trying until
// it has a usable one or ctx ends: so does Talos.
func (a *Agent) readConfig(ctx context.Context) (machineConfig, error) {
	var config machineConfig

	err := a.retry(ctx, "read the machine config", func(ctx context.Context) error {
		text, err := a.configText(ctx)
		if err != nil {
			return err
		}

		config, err = parseConfig(text, a.Args.SideroLinkAPI)

		return err
	})

	return config, err
}

func (a *Agent) configText(ctx context.Context) ([]byte, error) {
	switch {
	case a.Args.ConfigInline != "":
		return decodeInline(a.Args.ConfigInline)
	case a.Args.ConfigURL != "":
		return a.fetch(ctx, strings.ReplaceAll(a.Args.ConfigURL, "${uuid}", a.MachineID))
	default:
		return nil, nil
	}
}

func (a *Agent) fetch(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("get machine config: %w", err)
	}

	client := http.Client{Transport: &http.Transport{DialContext: a.dialer().DialContext, DisableKeepAlives: true}}

	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("get machine config: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was read

	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get machine config from %s: %s", address, response.Status)
	}

	text, err := io.ReadAll(io.LimitReader(response.Body, maxConfig))
	if err != nil {
		return nil, fmt.Errorf("get machine config from %s: %w", address, err)
	}

	return text, nil
}

func decodeInline(inline string) ([]byte, error) {
	packed, err := base64.StdEncoding.DecodeString(inline)
	if err != nil {
		return nil, fmt.Errorf("decode inline machine config: %w", err)
	}

	reader, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderMaxMemory(maxConfig))
	if err != nil {
		return nil, fmt.Errorf("decompress inline machine config: %w", err)
	}
	defer reader.Close()

	text, err := io.ReadAll(reader)
	if err != nil {
		return nil, fmt.Errorf("decompress inline machine config: %w", err)
	}

	return text, nil
}

// document is one document of a machine config, with the fields of the kinds
// that matter here.
type document struct {
	Kind         string `yaml:"kind"`
	APIURL       string `yaml:"apiUrl"`       // SideroLinkConfig
	UniqueToken  string `yaml:"uniqueToken"`  // SideroLinkConfig
	Certificates string `yaml:"certificates"` // TrustedRootsConfig
}

// parseConfig reads the documents. The SideroLinkConfig wins over fallback, the
// join URL of the kernel arguments; with neither the config is of no use.
func parseConfig(text []byte, fallback string) (machineConfig, error) {
	var config machineConfig

	apiURL := fallback
	decoder := yaml.NewDecoder(bytes.NewReader(text))

	for {
		var doc document

		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			// The parser quotes the source in its error, and the source holds the join token.
			return config, errors.New("parse machine config: not a sequence of YAML documents")
		}

		switch doc.Kind {
		case "SideroLinkConfig":
			apiURL, config.uniqueToken = doc.APIURL, doc.UniqueToken
		case "TrustedRootsConfig":
			if err := config.trust(doc.Certificates); err != nil {
				return config, err
			}
		}
	}

	if apiURL == "" {
		return config, errors.New("parse machine config: no SideroLinkConfig in it")
	}

	parsed, err := url.Parse(apiURL)
	if err != nil {
		return config, errors.New("parse machine config: the SideroLink apiUrl is not a URL") // the URL holds the token
	}

	config.siderolink = parsed

	return config, nil
}

func (c *machineConfig) trust(certificates string) error {
	if c.roots == nil {
		c.roots = x509.NewCertPool()

		if system, err := x509.SystemCertPool(); err == nil {
			c.roots = system
		}
	}

	if !c.roots.AppendCertsFromPEM([]byte(certificates)) {
		return errors.New("parse machine config: TrustedRootsConfig without a certificate in PEM")
	}

	return nil
}
