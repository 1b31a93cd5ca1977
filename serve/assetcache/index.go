package assetcache

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// format is the index's own version.
const format = 1

// index says what is in the directory. A file that it does not name is not there.
type index struct {
	Format   int       `json:"format"`
	Assets   []Asset   `json:"assets"`
	Boots    []Boot    `json:"boots"`
	Partials []partial `json:"partials,omitempty"`
}

// Asset is a boot asset that is complete.
type Asset struct {
	Key
	Size   int64     `json:"size"`   // bytes
	SHA256 string    `json:"sha256"` // hexadecimal
	Added  time.Time `json:"added"`
}

// Boot is what the Image Factory's script for a schematic said, so that it can be
// said without the factory.
type Boot struct {
	BootKey
	// Kernel and Initrd are URLs at the factory; Initrd is empty where Kernel is a
	// unified kernel image.
	Kernel string   `json:"kernel"`
	Initrd string   `json:"initrd,omitempty"`
	Args   []string `json:"args"`
}

// BootKey is what a boot is asked for by.
type BootKey struct {
	// Wish is the schematic's id as computed here; the factory may know it by
	// another.
	Wish       string `json:"wish"`
	Version    string `json:"version"`
	Arch       string `json:"arch"`
	SecureBoot bool   `json:"secureBoot,omitempty"`
}

// Origins returns the URLs of the boot's assets at the factory.
func (b Boot) Origins() []string {
	if b.Initrd == "" {
		return []string{b.Kernel}
	}

	return []string{b.Kernel, b.Initrd}
}

// held tells whether all its assets are among those that have tells of.
func (b Boot) held(have func(Key) bool) bool {
	for _, origin := range b.Origins() {
		if key, err := KeyOf(origin); err != nil || !have(key) {
			return false
		}
	}

	return true
}

// partial is a download that broke off. All that its file holds is on the disk.
type partial struct {
	Key
	Validator string `json:"validator"` // the origin's ETag, for If-Range
}

var digestForm = schematicForm

// parseIndex reads an index and refuses one that could name a file outside of the
// directory, or one file twice.
func parseIndex(data []byte) (index, error) {
	var x index

	if err := json.Unmarshal(data, &x); err != nil {
		return index{}, fmt.Errorf("index: %w", err)
	}

	if x.Format != format {
		return index{}, fmt.Errorf("index has format %d, want %d", x.Format, format)
	}

	seen := map[Key]bool{}

	for _, asset := range x.Assets {
		if err := asset.check(); err != nil {
			return index{}, fmt.Errorf("index: %w", err)
		}

		if seen[asset.Key] {
			return index{}, fmt.Errorf("index names %s twice", asset.Key)
		}

		seen[asset.Key] = true
	}

	for _, boot := range x.Boots {
		if err := boot.check(); err != nil {
			return index{}, fmt.Errorf("index: %w", err)
		}
	}

	for _, p := range x.Partials {
		if err := p.check(); err != nil {
			return index{}, fmt.Errorf("index: %w", err)
		}
	}

	return x, nil
}

func (a Asset) check() error {
	if err := a.Key.check(); err != nil {
		return err
	}

	if a.Size <= 0 || !digestForm.MatchString(a.SHA256) {
		return fmt.Errorf("%s has size %d and digest %q", a.Key, a.Size, a.SHA256)
	}

	return nil
}

// archForm and the forms of a boot's parts keep an imported index from saying more
// in a script than the factory could.
var archForm = regexp.MustCompile(`^(amd64|arm64)$`)

func (b Boot) check() error {
	if !schematicForm.MatchString(b.Wish) || !versionForm.MatchString(b.Version) || !archForm.MatchString(b.Arch) {
		return fmt.Errorf("boot of %.64q, version %.64q, architecture %.16q", b.Wish, b.Version, b.Arch)
	}

	for _, origin := range b.Origins() {
		if _, err := KeyOf(origin); err != nil {
			return err
		}
	}

	for _, arg := range b.Args {
		if arg == "" || strings.ContainsFunc(arg, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return errors.New("boot has a kernel argument that is not one printable word")
		}
	}

	return nil
}

// encode returns the index as it is stored: sorted, for people to read.
func (x index) encode() ([]byte, error) {
	x.Format = format
	slices.SortFunc(x.Assets, func(a, b Asset) int { return a.compare(b.Key) })
	slices.SortFunc(x.Boots, func(a, b Boot) int { return strings.Compare(a.sortKey(), b.sortKey()) })
	slices.SortFunc(x.Partials, func(a, b partial) int { return a.compare(b.Key) })

	data, err := json.MarshalIndent(x, "", "  ")

	return append(data, '\n'), err
}

func (k BootKey) sortKey() string { return fmt.Sprint(k.Wish, k.Version, k.Arch, k.SecureBoot) }

func (x *index) removeAsset(key Key) {
	x.Assets = slices.DeleteFunc(x.Assets, func(a Asset) bool { return a.Key == key })
}

func (x *index) removePartial(key Key) {
	x.Partials = slices.DeleteFunc(x.Partials, func(p partial) bool { return p.Key == key })
}

// maxBoots bounds the boots that are remembered; the oldest have no assets left
// long before.
const maxBoots = 4096

// putBoot stores a boot in place of an older one of its key.
func (x *index) putBoot(boot Boot) {
	x.Boots = slices.DeleteFunc(x.Boots, func(b Boot) bool { return b.BootKey == boot.BootKey })
	x.Boots = append(x.Boots, boot)

	if len(x.Boots) <= maxBoots {
		return
	}

	x.Boots = slices.DeleteFunc(x.Boots, func(b Boot) bool { return b.BootKey != boot.BootKey && !b.held(x.has) })
}

func (x *index) has(key Key) bool {
	return slices.ContainsFunc(x.Assets, func(a Asset) bool { return a.Key == key })
}
