//go:build e2e

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// prepared is where install.sh and run.sh put a file.
func prepared(t *testing.T, name string) string {
	t.Helper()

	path, err := filepath.Abs("../../.e2e/" + name)
	if err != nil {
		t.Fatal(err)
	}

	return path
}

// drivers are the modules that the guest needs; Debian's kernel has them as modules.
var drivers = []string{"virtio_pci", "virtio_net", "virtio_blk", "ipmi_devintf", "ipmi_si"}

// bootAssets makes the directory that serve takes with --boot-assets-path:
// Debian's kernel, and an initramfs with the guest as /init.
func (s *site) bootAssets(t *testing.T) string {
	t.Helper()

	assets, root := s.path("assets"), s.path("initramfs")
	for _, dir := range []string{assets, root + "/modules", root + "/dev", root + "/proc", root + "/sys"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	kernel, err := filepath.Glob(prepared(t, "kernel/boot/vmlinuz-*"))
	if err != nil || len(kernel) != 1 {
		t.Fatalf("there are %d kernels, run serve/e2e/install.sh (%v)", len(kernel), err)
	}

	version := strings.TrimPrefix(filepath.Base(kernel[0]), "vmlinuz-")

	run(t, "cp", kernel[0], assets+"/kernel-amd64")
	run(t, "cp", prepared(t, "bin/guest"), root+"/init")
	copyModules(t, version, root+"/modules")

	// The name says xz, as Talos' own is; the kernel goes by the content.
	pack := exec.Command("sh", "-c", `find . | cpio --quiet -o -H newc | gzip -1 >"$1"`, "sh", assets+"/initramfs-metal-amd64.xz")
	pack.Dir, pack.Stderr = root, os.Stderr

	if err := pack.Run(); err != nil {
		t.Fatalf("pack the initramfs: %v", err)
	}

	if err := os.WriteFile(assets+"/cmdline-metal-amd64", []byte("console=ttyS0 panic=0 quiet"), 0o644); err != nil {
		t.Fatal(err)
	}

	return assets
}

// copyModules copies the drivers and what they depend on, numbered in the order
// in which modprobe would load them.
func copyModules(t *testing.T, version, to string) {
	t.Helper()

	copied := map[string]bool{}

	for _, driver := range drivers {
		for line := range strings.Lines(run(t, "modprobe", "-d", prepared(t, "kernel"), "-S", version, "--show-depends", "--ignore-install", driver)) {
			file, insmod := strings.CutPrefix(strings.TrimSpace(line), "insmod ")
			if !insmod || copied[file] {
				continue
			}

			copied[file] = true
			number := string(rune('a' + len(copied)))
			run(t, "cp", strings.TrimSpace(file), to+"/"+number+"-"+filepath.Base(file))
		}
	}
}
