package lab

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/siderolabs/image-factory/pkg/schematic"
)

// imageFactory stands in for the Talos Image Factory: it takes schematics and
// serves scripts, kernels and initramfs for them. The kernels boot nothing; the
// lab's machines only look at the arguments.
type imageFactory struct {
	server *http.Server
	url    string
	away   atomic.Bool

	mu         sync.Mutex
	schematics map[string]schematic.Schematic
}

func startFactory(log *slog.Logger) (*imageFactory, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("image factory: %w", err)
	}

	f := &imageFactory{url: "http://" + listener.Addr().String(), schematics: map[string]schematic.Schematic{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /schematics", f.create)
	mux.HandleFunc("GET /pxe/{id}/{version}/{file}", f.script)
	mux.HandleFunc("GET /image/{id}/{version}/{file}", f.image)

	f.server = &http.Server{Handler: f.unlessAway(mux)} //nolint:gosec // loopback, gone with the lab

	go func() {
		if err := f.server.Serve(listener); err != http.ErrServerClosed {
			log.Error("image factory ended", "error", err)
		}
	}()

	return f, nil
}

// SetFactoryAway breaks every connection to the Image Factory and takes none, or
// lets it answer again.
func (l *Lab) SetFactoryAway(away bool) { l.factory.away.Store(away) }

// unlessAway breaks the connection of every request while the factory is away.
func (f *imageFactory) unlessAway(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.away.Load() {
			panic(http.ErrAbortHandler)
		}

		next.ServeHTTP(w, r)
	})
}

func (f *imageFactory) close() { _ = f.server.Close() }

func (f *imageFactory) create(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)

		return
	}

	parsed, err := schematic.Unmarshal(raw)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)

		return
	}

	id, err := parsed.ID()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)

		return
	}

	f.mu.Lock()
	f.schematics[id] = *parsed
	f.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, "{%q:%q}", "id", id)
}

func (f *imageFactory) script(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	s, known := f.schematics[r.PathValue("id")]
	f.mu.Unlock()

	if !known {
		http.NotFound(w, r)

		return
	}

	arch := strings.TrimPrefix(r.PathValue("file"), "metal-")
	base := fmt.Sprintf("%s/image/%s/%s", f.url, r.PathValue("id"), r.PathValue("version"))
	args := append([]string{"talos.platform=metal"}, s.Customization.ExtraKernelArgs...)

	_, _ = fmt.Fprintf(w, "#!ipxe\nimgfree\nkernel %s/kernel-%s %s\ninitrd %s/initramfs-%s.xz\nboot\n",
		base, arch, strings.Join(args, " "), base, arch)
}

func (f *imageFactory) image(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintf(w, "%s of the lab: nothing here boots\n", r.PathValue("file"))
}
