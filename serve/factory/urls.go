package factory

import "strings"

// PXEScriptURL is the iPXE script that boots the schematic's Talos. The version
// may lack its "v"; arch is "amd64" or "arm64".
func (c *Client) PXEScriptURL(id, version, arch string, secureBoot bool) string {
	name := "metal-" + arch
	if secureBoot {
		name += "-secureboot"
	}

	return c.pxe.JoinPath("pxe", id, tag(version), name).String()
}

// KernelURL is the kernel that the script of PXEScriptURL names.
func (c *Client) KernelURL(id, version, arch string) string {
	return c.image(id, version, "kernel-"+arch)
}

// InitrdURL is the initial file system that the script of PXEScriptURL names.
func (c *Client) InitrdURL(id, version, arch string) string {
	return c.image(id, version, "initramfs-"+arch+".xz")
}

// UKIURL is the signed unified kernel image that firmware boots with secure
// boot. Its kernel arguments are part of what is signed: nothing can be added.
func (c *Client) UKIURL(id, version, arch string) string {
	return c.image(id, version, "metal-"+arch+"-secureboot-uki.efi")
}

func (c *Client) image(id, version, file string) string {
	return c.base.JoinPath("image", id, tag(version), file).String()
}

// tag spells a Talos version as the factory does: Omni leaves the "v" out.
func tag(version string) string { return "v" + strings.TrimPrefix(version, "v") }
