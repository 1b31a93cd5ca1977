package assetcache

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Prefix is the path below which assets are served; it is the Image Factory's own.
const Prefix = "/image/"

// Key names a boot asset as the Image Factory does. What it names never changes.
type Key struct {
	Schematic string `json:"schematic"` // 64 hexadecimal digits
	Version   string `json:"version"`   // of Talos, with its "v"
	File      string `json:"file"`      // kernel-<arch>, initramfs-<arch>.xz, metal-<arch>-secureboot-uki.efi
}

// The forms that the parts of a key have. They are also the names of files here,
// so nothing else is let in.
var (
	schematicForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
	versionForm   = regexp.MustCompile(`^v[0-9][0-9A-Za-z.+-]{0,63}$`)
	fileForm      = regexp.MustCompile(`^(kernel-(amd64|arm64)|initramfs-(amd64|arm64)\.xz|metal-(amd64|arm64)(-secureboot)?-uki\.efi)$`)
)

// ParseKey reads a path of the form /image/<schematic>/<version>/<file>, with
// anything before it.
func ParseKey(path string) (Key, error) {
	before, rest, found := strings.Cut(path, Prefix)
	words := strings.Split(rest, "/")

	if !found || strings.Contains(rest, Prefix) || len(words) != 3 {
		return Key{}, fmt.Errorf("%q does not end in %s<schematic>/<version>/<file>", before+rest, Prefix)
	}

	key := Key{words[0], words[1], words[2]}

	return key, key.check()
}

// KeyOf returns the key of an asset's URL at the factory. A URL with a login or a
// query, which may hold a token, has none.
func KeyOf(origin string) (Key, error) {
	u, err := url.Parse(origin)

	switch {
	case err != nil:
		return Key{}, fmt.Errorf("asset's URL is malformed") // it may hold a secret
	case u.User != nil || u.RawQuery != "":
		return Key{}, fmt.Errorf("asset's URL at %s carries a login or a query", u.Host)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return Key{}, fmt.Errorf("asset's URL %q is not http or https", origin)
	}

	return ParseKey(u.Path)
}

func (k Key) check() error {
	switch {
	case !schematicForm.MatchString(k.Schematic):
		return fmt.Errorf("%q is not a schematic's id", k.Schematic)
	case !versionForm.MatchString(k.Version):
		return fmt.Errorf("%q is not a version of Talos", k.Version)
	case !fileForm.MatchString(k.File):
		return fmt.Errorf("%q is no kernel, initramfs or unified kernel image", k.File)
	}

	return nil
}

// String returns "kernel-amd64 v1.13.7 (376567988ad3)".
func (k Key) String() string {
	return fmt.Sprintf("%s %s (%.12s)", k.File, k.Version, k.Schematic)
}

// Path is where the asset is served: /image/<schematic>/<version>/<file>.
func (k Key) Path() string { return Prefix + k.Schematic + "/" + k.Version + "/" + k.File }

// name is the asset's file. All stand in one directory, so that whoever owns it
// can replace files that another user put there.
func (k Key) name() string { return k.Schematic + "-" + k.Version + "-" + k.File }

func (k Key) compare(other Key) int { return strings.Compare(k.name(), other.name()) }

// ours tells whether a file of this name can be one of the cache's.
func ours(name string) bool {
	schematic, _, found := strings.Cut(name, "-")

	return found && schematicForm.MatchString(schematic)
}
