package factory_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/bmctl/bmctl/serve/factory"
)

const bootScript = `#!ipxe

imgfree
kernel BASE/image/ID/v1.13.7/kernel-amd64 talos.platform=metal console=tty0 console=ttyS0 talos.config=http://10.0.2.5:50042/config?u=${uuid}
initrd BASE/image/ID/v1.13.7/initramfs-amd64.xz
boot
`

func TestScript(t *testing.T) {
	f := newFactory(t)
	f.script = bootScript
	c := client(t, f)

	for range 2 {
		script, err := c.Script(t.Context(), "ID", "1.13.7", "amd64", false)
		if err != nil {
			t.Fatal(err)
		}

		if script.Kernel != c.KernelURL("ID", "1.13.7", "amd64") || script.Initrd != c.InitrdURL("ID", "v1.13.7", "amd64") {
			t.Errorf("kernel and initrd are %s and %s", script.Kernel, script.Initrd)
		}

		want := []string{"talos.platform=metal", "console=tty0", "console=ttyS0", "talos.config=http://10.0.2.5:50042/config?u=${uuid}"}
		if !slices.Equal(script.Args, want) {
			t.Errorf("arguments are %q, want %q", script.Args, want)
		}

		script.Args[0] = "changed by the caller"
	}

	if n := f.gets.Load(); n != 1 {
		t.Errorf("%d requests, want one: scripts never change", n)
	}
}

func TestScriptWithTokenIsNotRemembered(t *testing.T) {
	for _, base := range []string{"http://user:hush@BASE", "http://BASE"} {
		f := newFactory(t)
		f.script = "#!ipxe\nkernel " + strings.Replace(base, "BASE", "factory.example", 1) + "/uki.efi\nboot\n"

		if !strings.Contains(base, "@") {
			f.script = "#!ipxe\nkernel http://factory.example/uki.efi?token=hush\nboot\n"
		}

		c := client(t, f)
		for range 2 {
			if script, err := c.Script(t.Context(), "ID", "v1.13.7", "amd64", true); err != nil || !script.Private {
				t.Fatalf("got %+v, %v, want a private one", script, err)
			}
		}

		if n := f.gets.Load(); n != 2 {
			t.Errorf("%d requests for %q, want two", n, f.script)
		}
	}
}

func TestScriptThatIsNotUnderstood(t *testing.T) {
	for name, text := range map[string]string{
		"a page":            "<html>sign in</html>",
		"nothing":           "",
		"no kernel":         "#!ipxe\ninitrd http://x/y\nboot\n",
		"no boot":           "#!ipxe\nkernel http://x/y\n",
		"cut in the middle": bootScript[:len(bootScript)-6],
		"an option":         "#!ipxe\nkernel --name linux http://x/y\nboot\n",
		"another command":   "#!ipxe\nkernel http://x/y\nmodule http://x/z\nboot\n",
		"two initrd words":  "#!ipxe\nkernel http://x/y\ninitrd http://x/z mode=755\nboot\n",
	} {
		f := newFactory(t)
		f.script = text

		if script, err := client(t, f).Script(t.Context(), "ID", "v1.13.7", "amd64", false); !errors.Is(err, factory.ErrUnavailable) {
			t.Errorf("%s: got %+v, %v, want ErrUnavailable", name, script, err)
		}
	}
}

func TestURLs(t *testing.T) {
	c, err := factory.New(factory.Config{BaseURL: "https://factory.example/talos/", PXEBaseURL: "http://pxe.example:8080"})
	if err != nil {
		t.Fatal(err)
	}

	for got, want := range map[string]string{
		c.PXEScriptURL("ID", "1.13.7", "amd64", false): "http://pxe.example:8080/pxe/ID/v1.13.7/metal-amd64",
		c.PXEScriptURL("ID", "v1.13.7", "arm64", true): "http://pxe.example:8080/pxe/ID/v1.13.7/metal-arm64-secureboot",
		c.KernelURL("ID", "v1.13.7", "amd64"):          "https://factory.example/talos/image/ID/v1.13.7/kernel-amd64",
		c.InitrdURL("ID", "v1.13.7", "arm64"):          "https://factory.example/talos/image/ID/v1.13.7/initramfs-arm64.xz",
		c.UKIURL("ID", "1.13.7", "amd64"):              "https://factory.example/talos/image/ID/v1.13.7/metal-amd64-secureboot-uki.efi",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
