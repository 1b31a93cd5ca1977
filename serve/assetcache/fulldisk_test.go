package assetcache_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/bmctl/bmctl/serve/assetcache"
)

// A disk that fills up is told and takes nobody along: what is there is served, what
// does not fit comes from the factory, and nothing of it stays behind.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()

	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1600k")
	if errors.Is(err, syscall.EPERM) {
		t.Skip("a small disk is a mount, which only root may make")
	}

	if err != nil {
		t.Fatal(err)
	}

	o := newOrigin(t)
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})

	s := open(t, dir, o)
	s.wantWhole(t, kernel)

	if _, body, err := s.get(t, initrd); err == nil && len(body) == 1<<20 {
		t.Logf("the machine was given all of it")
	} else if err == nil {
		t.Errorf("the machine took %d bytes for the whole", len(body))
	}

	if _, err := s.Fetch(t.Context(), initrd, nil); !isKind(err, assetcache.ErrLocal) {
		t.Errorf("got %v, want ErrLocal", err)
	}

	if trouble := s.Trouble(initrd); !is(trouble, assetcache.ErrLocal) || !strings.Contains(s.notes.String(), "no space left on device") {
		t.Errorf("trouble %v, notices %q; want that there is no space", trouble, s.notes)
	}

	if left, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	s.wantWhole(t, kernel)

	// With room again, it is stored.
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}

	s.wantWhole(t, initrd)
}

// A directory that cannot be written serves what it has.
func TestReadOnlyDirectory(t *testing.T) {
	dir, o := t.TempDir(), newOrigin(t)
	s := open(t, dir, o)
	s.wantWhole(t, kernel)

	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); errors.Is(err, syscall.EPERM) {
		t.Skip("a directory that root cannot write is a mount, which only root may make")
	} else if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})

	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}

	s.wantWhole(t, kernel)

	response, _, err := s.get(t, initrd)
	if err != nil || response.StatusCode != http.StatusFound || !strings.HasPrefix(response.Header.Get("Location"), o.URL) {
		t.Errorf("%s, %v; want the machine sent to the factory", response.Status, err)
	}

	if _, err := s.Fetch(t.Context(), initrd, nil); !isKind(err, assetcache.ErrLocal) || !is(err, syscall.EROFS) {
		t.Errorf("got %v, want ErrLocal with the reason", err)
	}
}
