package assetcache_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/bmctl/bmctl/serve/assetcache"
)

// A machine that was promised no length is not left to believe that a half is all.
func TestHalfWithoutALength(t *testing.T) {
	broken := func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(content(r.URL.Path, 1<<20)[:1000])
		_ = http.NewResponseController(w).Flush()

		panic(http.ErrAbortHandler)
	}
	s := open(t, t.TempDir(), newOrigin(t, broken, status(404)))

	if response, body, err := s.get(t, kernel); err == nil && response.StatusCode == http.StatusOK {
		t.Errorf("the machine took %d bytes for the whole", len(body))
	}

	if err := s.Trouble(kernel); !isKind(err, assetcache.ErrOrigin) {
		t.Errorf("trouble %v, want ErrOrigin", err)
	}
}

// What began as one thing and goes on as another is neither served nor kept.
func TestAssetThatChanges(t *testing.T) {
	other := func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(strings.ToUpper(string(content(r.URL.Path, 1<<20)))))
	}
	sized := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1048576")
		other(w, r)
	}
	smaller := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 524288-524289/524290")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write([]byte("xx"))
	}

	for name, second := range map[string]http.HandlerFunc{"other bytes": sized, "other length": other, "other size": smaller, "no such range": status(416)} {
		s := open(t, t.TempDir(), newOrigin(t, half, second))

		if _, body, err := s.get(t, kernel); err == nil {
			t.Errorf("%s: the machine took %d bytes for the whole", name, len(body))
		}

		if err := s.Trouble(kernel); !isKind(err, assetcache.ErrOrigin) || len(s.List()) != 0 {
			t.Errorf("%s: trouble %v, listed %v", name, err, s.List())
		}

		s.wantWhole(t, kernel) // from the beginning
	}
}
