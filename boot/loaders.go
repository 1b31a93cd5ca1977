package boot

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/tinkerbell/ipxedust/binary"
)

// embeddedScript replaces the placeholder in the script inside the EFI builds.
// Their own script ends with "exit", which is a success to the firmware, and
// after a success EDK2 opens its menu instead of trying the next boot option.
// This one asks up to nine times for an address and runs %s; when that exits,
// it leaves with an error, and the firmware goes on to the disk.
const embeddedScript = `set n:int32 0
:d
inc n
dhcp && %s || iseq ${n} 9 || goto d
exit 1`

// maxLoaders bounds what is read of an operator's directory.
const maxLoaders = 256 << 20

// loaders maps the names that machines ask for to the files that they get.
type loaders map[string][]byte

// newLoaders returns the iPXE builds under their names: the operator's from dir,
// by its name in there, where there is one, else the embedded one. All of dir is
// served besides.
//
// If chain is not empty, builds that can be patched fetch that URL by themselves
// after DHCP: with the proxy off, the site's own offer names the loader again,
// and they would load it for ever. The embedded BIOS build is compressed and
// cannot be changed: it neither fetches that URL nor trusts root, which in all other
// builds takes the place of iPXE's own authority, unless it is nil.
func newLoaders(dir, chain string, root *x509.Certificate) (loaders, error) {
	run := "autoboot" // what the offer names
	if chain != "" {
		run = "chain " + chain
	}
	p := patch{script: []byte(fmt.Sprintf(embeddedScript, run)), root: root}
	own, err := readLoaders(dir, p)
	if err != nil {
		return nil, fmt.Errorf("read iPXE builds: %w", err)
	}
	x86, err := p.embedded(binary.IpxeEFI)
	if err != nil {
		return nil, fmt.Errorf("patch ipxe.efi: %w", err)
	}
	arm, err := p.embedded(binary.SNP)
	if err != nil {
		return nil, fmt.Errorf("patch ipxe-arm64.efi: %w", err)
	}
	all := loaders{}
	for _, build := range []struct {
		embedded []byte
		names    []string // the first is the operator's too
	}{
		{binary.Undionly, []string{"undionly.kpxe", "undionly.kpxe.0"}},
		{x86, []string{"ipxe.efi", "snp.efi", "amd64/ipxe.efi", "amd64/snp.efi"}},
		{arm, []string{"ipxe-arm64.efi", "snp-arm64.efi", "arm64/ipxe.efi", "arm64/snp.efi"}},
	} {
		content, found := own[build.names[0]]
		if !found {
			content = build.embedded
		}
		for _, name := range build.names {
			all[name] = content
		}
	}
	maps.Copy(all, own)
	return all, nil
}

// biosLoops says whether the BIOS loader, with the proxy off, takes what DHCP names
// a second time, which is itself: the embedded one cannot be changed.
func (l loaders) biosLoops() bool { return bytes.Equal(l["undionly.kpxe"], binary.Undionly) }

// sayWhatDHCPNeeds warns, with the proxy off, that the site's DHCP server has to
// name the script to the BIOS loader, and how dnsmasq, ISC dhcpd and Kea are told.
func (s *Server) sayWhatDHCPNeeds() {
	if !s.config.DisableDHCPProxy || !s.loaders.Load().biosLoops() {
		return
	}
	server, script := s.config.Advertise, s.scriptURL(s.config.Advertise)
	s.config.Log.Warn("with the DHCP proxy off, BIOS machines load iPXE for ever unless the site's DHCP server names the script to user class Tinkerbell",
		"dnsmasq", fmt.Sprintf("dhcp-userclass=set:bmctl,Tinkerbell\ndhcp-boot=tag:bmctl,%s,,%s\ndhcp-boot=tag:!bmctl,undionly.kpxe,,%s", script, server, server),
		"dhcpd", fmt.Sprintf("next-server %s; if option user-class = \"Tinkerbell\" { filename \"%s\"; } else { filename \"undionly.kpxe\"; }", server, script),
		"kea", fmt.Sprintf(`{"name": "bmctl", "test": "substring(option[77].hex,0,10) == 'Tinkerbell'", "next-server": "%s", "boot-file-name": "%s"}`, server, script))
}

// readLoaders reads an operator's directory, "" being none, with the patch in every
// build that has a place for it. What comes in parts is put together.
func readLoaders(dir string, p patch) (loaders, error) {
	own := loaders{}
	if dir == "" {
		return own, nil
	}
	root, total := os.DirFS(dir), 0
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if total += len(content); total > maxLoaders {
			return fmt.Errorf("%s holds more than %d bytes", dir, maxLoaders)
		}
		own[name], err = p.own(name, content)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return own, own.compress()
}

// loaderFor names the file that a firmware is offered.
func loaderFor(c client) string {
	switch {
	case c.firmware == firmwareBIOS:
		return "undionly.kpxe"
	case c.arch == "arm64":
		return "ipxe-arm64.efi"
	default:
		return "ipxe.efi"
	}
}

// cleanName brings a requested file name to the form of the loaders' keys.
// Some ROMs put a slash in front, some Windows-minded ones use backslashes, and
// some send the padding (0xff, spaces) of the DHCP field as part of the name.
func cleanName(name string) string {
	name = strings.TrimRightFunc(name, func(r rune) bool { return r == 0 || r == ' ' || r == utf8.RuneError })
	return strings.TrimLeft(strings.ReplaceAll(name, `\`, "/"), "/")
}
