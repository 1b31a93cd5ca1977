package assetcache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bmctl/bmctl/serve/assetcache"
)

func is(err, target error) bool { return errors.Is(err, target) }

// fetchInto is a second process, which downloads the kernel into the directory.
func fetchInto(dir string) {
	cache, err := assetcache.Open(assetcache.Config{Dir: dir, Attempts: 1})
	if err == nil {
		_, err = cache.Fetch(context.Background(), kernel, nil)
		err = errors.Join(err, cache.Close())
	}

	fmt.Println(err)
	os.Exit(0)
}

func inOtherProcess(t *testing.T, dir string) string {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "ASSETCACHE_TEST_FETCH_INTO="+dir)

	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}

	return strings.TrimSpace(string(output))
}

// What another process stored is served here without another download.
func TestTwoProcessesShare(t *testing.T) {
	o, dir := newOrigin(t), t.TempDir()
	s := open(t, dir, o)

	if said := inOtherProcess(t, dir); said != "<nil>" {
		t.Fatalf("the other process said %s", said)
	}

	s.wantWhole(t, kernel)

	if n := len(o.asked()); n != 1 {
		t.Errorf("%d requests, want one", n)
	}
}

// Two processes never write one file: the second says so.
func TestTwoProcessesDownload(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		data := content(r.URL.Path, 1<<20)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:1000])
		_ = http.NewResponseController(w).Flush()
		close(arrived)
		<-release
		_, _ = w.Write(data[1000:])
	})
	dir := t.TempDir()
	s := open(t, dir, o)
	done := make(chan error, 1)

	go func() {
		_, err := s.Fetch(context.Background(), kernel, nil)
		done <- err
	}()

	<-arrived

	if said := inOtherProcess(t, dir); !strings.Contains(said, "another process is downloading it") {
		t.Errorf("the other process said %s", said)
	}

	close(release)

	if err := <-done; err != nil {
		t.Error(err)
	}

	s.wantWhole(t, kernel)
}

func TestExportAndImport(t *testing.T) {
	o := newOrigin(t)
	s := open(t, t.TempDir(), o)
	s.wantWhole(t, kernel)
	s.wantWhole(t, initrd)

	var archive bytes.Buffer
	if assets, err := s.Export(t.Context(), &archive, nil); len(assets) != 2 || err != nil {
		t.Fatalf("%v, %v; want both", assets, err)
	}

	o.Close()

	away := open(t, t.TempDir(), nil)
	if assets, err := away.Import(t.Context(), bytes.NewReader(archive.Bytes())); len(assets) != 2 || err != nil {
		t.Fatalf("%v, %v; want both", assets, err)
	}

	if _, ready, _ := away.Boot(o.boot().BootKey); !ready {
		t.Error("the boot is not ready after the import")
	}

	away.wantWhole(t, kernel)
	away.wantWhole(t, initrd)

	// Once more is no harm.
	if assets, err := away.Import(t.Context(), bytes.NewReader(archive.Bytes())); len(assets) != 2 || err != nil {
		t.Errorf("%v, %v; want both", assets, err)
	}
}

func TestImportOfDamagedArchives(t *testing.T) {
	o := newOrigin(t)
	s := open(t, t.TempDir(), o)
	s.wantWhole(t, kernel)
	s.wantWhole(t, initrd)

	var archive bytes.Buffer
	if _, err := s.Export(t.Context(), &archive, nil); err != nil {
		t.Fatal(err)
	}

	good := archive.Bytes()
	altered := bytes.Clone(good)
	altered[len(altered)-600_000] ^= 1 // in the middle of the second asset, the kernel

	for name, c := range map[string]struct {
		data   []byte
		stored int
		reason string
	}{
		"altered":     {altered, 1, "altered on the way"},
		"cut off":     {good[:len(good)-600_000], 1, "unexpected EOF"},
		"no archive":  {[]byte("hello"), 0, "not an archive"},
		"nothing":     {nil, 0, "not an archive"},
		"index alone": {good[:bytes.Index(good, []byte(schematic+"-v1.13.7-i"))], 0, "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			away := open(t, dir, nil)

			assets, err := away.Import(t.Context(), bytes.NewReader(c.data))
			if len(assets) != c.stored || err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("%d stored, %v; want %d and %q", len(assets), err, c.stored, c.reason)
			}

			if _, ready, _ := away.Boot(o.boot().BootKey); ready || len(away.List()) != c.stored {
				t.Errorf("boot ready %v, listed %v", ready, away.List())
			}

			if left, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}

	small := open(t, t.TempDir(), nil, func(cfg *assetcache.Config) { cfg.Size = 1 << 20 })
	if _, err := small.Import(t.Context(), bytes.NewReader(good)); !is(err, assetcache.ErrLocal) {
		t.Errorf("into a cache that is too small: %v, want ErrLocal", err)
	}
}

// What a crash left behind goes when the cache is opened, and nothing else does.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	stranded := filepath.Join(dir, schematic+"-v1.13.7-kernel-amd64.part")
	foreign := filepath.Join(dir, "README")

	for _, path := range []string{stranded, foreign} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	open(t, dir, nil)

	if _, err := os.Stat(stranded); !is(err, os.ErrNotExist) {
		t.Errorf("%s: %v, want it gone", stranded, err)
	}

	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("%s: %v, want it left alone", foreign, err)
	}
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	if _, err := assetcache.Open(assetcache.Config{Dir: filepath.Join(file, "cache")}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want an error that names the path", err)
	}
}

func TestTroublePasses(t *testing.T) {
	o := newOrigin(t, status(404))
	s := open(t, t.TempDir(), o)

	if _, err := s.Fetch(t.Context(), kernel, nil); !isKind(err, assetcache.ErrOrigin) || s.Trouble(kernel) == nil {
		t.Errorf("got %v, trouble %v", err, s.Trouble(kernel))
	}

	s.wantWhole(t, kernel)

	if err := s.Trouble(kernel); err != nil {
		t.Errorf("trouble %v after a success", err)
	}
}
