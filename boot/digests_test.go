package boot_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/bmctl/bmctl/boot"
)

// What is served under a name has the digest that is told for it.
func TestDigestsAreOfWhatIsServed(t *testing.T) {
	f := start(t, boot.Config{Decider: &decider{}})
	digests, err := boot.LoaderDigests()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"undionly.kpxe", "ipxe.efi", "snp-arm64.efi"} {
		response, err := http.Get(f.http + "/tftp/" + name)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		response.Body.Close()
		sum := sha256.Sum256(content)
		if err != nil || !slices.Contains(digests[hex.EncodeToString(sum[:])], name) {
			t.Errorf("%s: %x is not among %v (%v)", name, sum, digests, err)
		}
	}
	if len(digests) != 3 {
		t.Errorf("%d different builds", len(digests))
	}
}
