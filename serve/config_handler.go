package serve

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
)

// machineConfig serves what makes a booted Talos join this Omni as this
// provider's machine. It holds the join token: it is neither logged nor kept.
type machineConfig struct {
	join  func() *siderolink.ProviderJoinConfig
	extra string // further documents
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
	join := m.join()
	if join == nil || join.TypedSpec().Value.GetConfig().GetConfig() == "" {
		return "", errors.New("the join config of this provider has not come from Omni yet")
	}

	config := join.TypedSpec().Value.Config.Config
	if m.extra == "" {
		return config, nil
	}

	return strings.TrimRight(config, "\n") + "\n---\n" + m.extra, nil
}

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
	}

	return string(raw), nil
}
