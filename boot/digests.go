package boot

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// LoaderDigests returns the embedded iPXE builds as a Server with its proxy on
// sends them: from the SHA-256 of the file, in hexadecimal, to its names, sorted.
func LoaderDigests() (map[string][]string, error) {
	files, err := newLoaders("", "", nil)
	if err != nil {
		return nil, err
	}
	digests := map[string][]string{}
	for name, content := range files {
		sum := sha256.Sum256(content)
		digest := hex.EncodeToString(sum[:])
		digests[digest] = append(digests[digest], name)
	}
	for _, names := range digests {
		slices.Sort(names)
	}
	return digests, nil
}
