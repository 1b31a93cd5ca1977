package boot

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/siderolabs/go-zbin/zbin"
	"github.com/tinkerbell/ipxedust/binary"
)

// An operator's own build takes a script between two lines of its own.
const (
	placeholderStart = "# *PLACEHOLDER START*"
	placeholderEnd   = "# *PLACEHOLDER END*"
)

// ipxeRoot is the SHA-256 of "iPXE root CA", the one authority that iPXE trusts
// unless it was built with TRUST= (iPXE, src/crypto/rootcert.c).
var ipxeRoot = [sha256.Size]byte{
	0x9f, 0xaf, 0x71, 0x7b, 0x7f, 0x8c, 0xa2, 0xf9, 0x3c, 0x25, 0x6c, 0x79, 0xf8, 0xac, 0x55, 0x91,
	0x89, 0x5d, 0x66, 0xd1, 0xff, 0x3b, 0xee, 0x63, 0x97, 0xa7, 0x0d, 0x29, 0xc6, 0x5e, 0xed, 0x1a,
}

var (
	errNoRoom   = errors.New("has no place for the authority: it was built with TRUST= or without HTTPS, or it is compressed")
	errManyRoot = errors.New("has more than one place that looks like that for the authority")
)

// patch is what is changed in iPXE builds.
type patch struct {
	script []byte            // in place of the placeholder
	root   *x509.Certificate // the only authority that is trusted; nil: iPXE's own
}

// embedded patches one of ipxedust's builds, which must have a place for it all.
func (p patch) embedded(build []byte) ([]byte, error) {
	patched, err := binary.Patch(build, p.script)
	if err != nil {
		return nil, err
	}
	return p.trust(patched)
}

// mustTrust are the files of an operator in which the authority has to find its
// place. Others are patched where they have one. A compressed build has none that
// could be found.
var mustTrust = []string{"ipxe.efi", "snp.efi", "ipxe-arm64.efi", "snp-arm64.efi", "undionly.kpxe.bin"}

// own patches an operator's file.
func (p patch) own(name string, content []byte) ([]byte, error) {
	patched, err := p.placeholder(content)
	if err != nil {
		return nil, err
	}
	trusting, err := p.trust(patched)
	if errors.Is(err, errNoRoom) && !slices.Contains(mustTrust, path.Base(name)) {
		return patched, nil
	}
	return trusting, err
}

// trust puts the fingerprint of the authority in the place of iPXE's own.
func (p patch) trust(build []byte) ([]byte, error) {
	if p.root == nil {
		return build, nil
	}
	root := sha256.Sum256(p.root.Raw)
	switch n := bytes.Count(build, ipxeRoot[:]); {
	case n > 1:
		return nil, errManyRoot
	case n == 1:
		return bytes.Replace(build, ipxeRoot[:], root[:], 1), nil
	case bytes.Contains(build, root[:]):
		return build, nil // built with TRUST= this very authority
	default:
		return nil, errNoRoom
	}
}

// placeholder puts the script between the two lines, if they are there.
func (p patch) placeholder(content []byte) ([]byte, error) {
	start := bytes.Index(content, []byte(placeholderStart))
	if start < 0 {
		return content, nil
	}
	start += len(placeholderStart)
	room := bytes.Index(content[start:], []byte(placeholderEnd))
	if room < 0 {
		return nil, fmt.Errorf("%q is not followed by %q", placeholderStart, placeholderEnd)
	}
	text := append(append([]byte{'\n'}, p.script...), '\n')
	if len(text) > room {
		return nil, fmt.Errorf("the place for a script has %d bytes, %d are needed", room, len(text))
	}
	patched := bytes.Clone(content)
	fill := copy(patched[start:], text)
	copy(patched[start+fill:start+room], bytes.Repeat([]byte{'\n'}, room-fill))
	return patched, nil
}

// compress makes NAME of each NAME.bin and NAME.zinfo, as the last step of iPXE's
// own build does (FORMAT.md of go-zbin): patched after it, a compressed build
// would be broken. The two parts are of no use to machines and are dropped.
func (l loaders) compress() error {
	for _, info := range slices.Sorted(maps.Keys(l)) {
		name, isInfo := strings.CutSuffix(info, ".zinfo")
		flat, found := l[name+".bin"]
		if !isInfo {
			continue
		}
		if !found {
			return fmt.Errorf("%s: %s.bin, which it belongs to, is missing", info, path.Base(name))
		}
		build, err := zbin.Compress(flat, l[info])
		if err != nil {
			return fmt.Errorf("compress %s.bin by %s: %w", name, info, err)
		}
		l[name] = build
		delete(l, info)
		delete(l, name+".bin")
	}
	return nil
}

// CheckIPXERoot says why iPXE could not use the authority: it knows no signatures
// but RSA's, and wants a CA.
func CheckIPXERoot(root *x509.Certificate) error {
	if _, isRSA := root.PublicKey.(*rsa.PublicKey); !isRSA {
		return fmt.Errorf("%q has a key of type %s: iPXE verifies RSA alone", root.Subject, root.PublicKeyAlgorithm)
	}
	if !root.IsCA {
		return fmt.Errorf("%q is no CA", root.Subject)
	}
	return nil
}
