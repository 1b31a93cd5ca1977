package serve

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/container"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
	"github.com/siderolabs/talos/pkg/machinery/config/types/security"
)

// machineConfig serves what makes a booted Talos join this Omni as this
// provider's machine. It holds the join token: it is neither logged nor kept.
type machineConfig struct {
	join  func() (string, error)
	ca    func() (string, error) // what machines must trust for agents' TLS; nil without it
	extra string                 // further documents
	log   *slog.Logger
}

// ServeHTTP answers GET /config. Its parameter u is the machine's own word for
// who it is, for the log alone.
func (m *machineConfig) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	document, err := m.document()
	if err != nil {
		m.log.Warn("no machine config to serve", "error", err, "uuid", r.URL.Query().Get("u"))
		w.Header().Set("Retry-After", "5")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)

		return
	}

	m.log.Info("machine config served", "uuid", r.URL.Query().Get("u"), "source", r.RemoteAddr)
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write([]byte(document)) // a machine that hung up asks again
}

func (m *machineConfig) document() (string, error) {
	join, err := m.join()

	switch {
	case err != nil:
		return "", err
	case join == "":
		return "", errors.New("the join config of this provider has not come from Omni yet")
	}

	documents := []string{join}

	if m.ca != nil {
		roots, err := trustedRoots(m.ca)
		if err != nil {
			return "", err
		}

		documents = append(documents, roots)
	}

	documents = append(documents, m.extra)

	var b strings.Builder

	for _, document := range documents {
		if document = strings.TrimSpace(document); document != "" {
			if b.Len() > 0 {
				b.WriteString("---\n")
			}

			b.WriteString(document + "\n")
		}
	}

	return b.String(), nil
}

// trustedRoots is the document that makes Talos trust our CA; "" if there is
// none to trust.
func trustedRoots(ca func() (string, error)) (string, error) {
	pem, err := ca()
	if err != nil || pem == "" {
		return "", err
	}

	document := security.NewTrustedRootsConfigV1Alpha1()
	document.MetaName = caDocument
	document.Certificates = pem

	c, err := container.New(document)
	if err != nil {
		return "", fmt.Errorf("put the CA into the machine config: %w", err)
	}

	raw, err := c.EncodeBytes(encoder.WithComments(encoder.CommentsDisabled))
	if err != nil {
		return "", fmt.Errorf("put the CA into the machine config: %w", err)
	}

	return string(raw), nil
}

// caDocument is the name of our TrustedRootsConfig.
const caDocument = "infra-provider-ca"

// ownDocuments are the kinds that Omni's join config or we ourselves provide.
var ownDocuments = map[string]bool{"SideroLinkConfig": true, "EventSinkConfig": true}

// loadExtraConfig reads --extra-machine-config-path and refuses documents that
// would contradict what we serve.
func loadExtraConfig(path string) (string, error) {
	if path == "" {
		return "", nil
	}

	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}

	provider, err := configloader.NewFromBytes(raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}

	if provider.RawV1Alpha1() != nil {
		return "", fmt.Errorf("%s: a v1alpha1 machine config is not accepted here, only further documents", path)
	}

	for _, doc := range provider.Documents() {
		if ownDocuments[doc.Kind()] {
			return "", fmt.Errorf("%s: a %s is not accepted here: it comes from Omni", path, doc.Kind())
		}

		if named, ok := doc.(config.NamedDocument); ok && named.Name() == caDocument {
			return "", fmt.Errorf("%s: the name %s is the provider's own", path, caDocument)
		}
	}

	return string(raw), nil
}
