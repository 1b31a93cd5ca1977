package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/siderolabs/image-factory/pkg/schematic"
)

// imageFactory makes images for amd64 alone.
func imageFactory() *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /schematics", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)

		wish, err := schematic.Unmarshal(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)

			return
		}

		id, err := wish.ID()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)

			return
		}

		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, "{%q:%q}", "id", id)
	})
	mux.HandleFunc("GET /pxe/{id}/{version}/{file}", func(w http.ResponseWriter, r *http.Request) {
		arch := strings.TrimPrefix(r.PathValue("file"), "metal-")
		base := "http://" + r.Host + "/image/" + r.PathValue("id") + "/" + r.PathValue("version")
		_, _ = fmt.Fprintf(w, "#!ipxe\nkernel %s/kernel-%s talos.platform=metal\ninitrd %s/initramfs-%s.xz\nboot\n", base, arch, base, arch)
	})
	mux.HandleFunc("GET /image/{id}/{version}/{file}", func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.PathValue("file"), "arm64") {
			http.NotFound(w, r)

			return
		}

		_, _ = io.WriteString(w, "this is "+r.URL.Path)
	})

	return httptest.NewServer(mux)
}

func TestCacheScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/cache",
		Setup: func(env *testscript.Env) error {
			factory := imageFactory()
			env.Defer(factory.Close)
			env.Vars = append(env.Vars, "FACTORY="+factory.URL)

			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "jq": jsonHas},
	})
}
