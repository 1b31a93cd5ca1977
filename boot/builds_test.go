package boot_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/boot"
)

// ipxeRoot is what iPXE trusts by itself: openssl x509 -fingerprint -sha256 of
// http://ca.ipxe.org/ca.crt, as iPXE's src/crypto/rootcert.c has it.
const ipxeRoot = "9faf717b7f8ca2f93c256c79f8ac5591895d66d1ff3bee6397a70d29c65eed1a"

func newRoot(t *testing.T, key crypto.Signer, isCA bool) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the site's CA"}, IsCA: isCA, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func rsaRoot(t *testing.T) (root *x509.Certificate, fingerprint []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	root = newRoot(t, key, true)
	sum := sha256.Sum256(root.Raw)
	return root, sum[:]
}

func ipxeFingerprint(t *testing.T) []byte {
	t.Helper()
	raw, err := hex.DecodeString(ipxeRoot)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func write(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestEmbeddedBuildsTrustTheAuthority instead of iPXE's, and are else what they
// were; the one for BIOS cannot, and a warning says so.
func TestEmbeddedBuildsTrustTheAuthority(t *testing.T) {
	plain := start(t, boot.Config{})
	root, fingerprint := rsaRoot(t)
	f := start(t, boot.Config{IPXERoot: root})
	for _, name := range []string{"ipxe.efi", "ipxe-arm64.efi"} {
		got, before := fetchTFTP(t, f, name), fetchTFTP(t, plain, name)
		if bytes.Contains(got, ipxeFingerprint(t)) || bytes.Count(got, fingerprint) != 1 {
			t.Errorf("%s does not trust the authority alone", name)
		}
		if back := bytes.Replace(got, fingerprint, ipxeFingerprint(t), 1); !bytes.Equal(back, before) {
			t.Errorf("%s was changed elsewhere, too", name)
		}
	}
	if !bytes.Equal(fetchTFTP(t, f, "undionly.kpxe"), fetchTFTP(t, plain, "undionly.kpxe")) {
		t.Error("the compressed build was changed")
	}
	const warning = "the iPXE of BIOS machines is compressed"
	if log := f.log.text(); strings.Count(log, warning) != 1 || !strings.Contains(log, "undionly.kpxe.zinfo") {
		t.Errorf("the log has no warning, or many: %s", log)
	}
	if log := plain.log.text(); strings.Contains(log, warning) {
		t.Errorf("a warning for nothing: %s", log)
	}
}

// TestOwnBuildsMustHaveOnePlaceForTheAuthority, if they are loaders.
func TestOwnBuildsMustHaveOnePlaceForTheAuthority(t *testing.T) {
	root, fingerprint := rsaRoot(t)
	place := ipxeFingerprint(t)
	for name, test := range map[string]struct{ file, content, want string }{
		"one":                {"ipxe.efi", "MZ" + string(place), ""},
		"none":               {"ipxe.efi", "MZ", "ipxe.efi: has no place for the authority"},
		"none, in a folder":  {"snp-arm64.efi", "MZ", "has no place"},
		"two":                {"ipxe.efi", string(place) + string(place), "more than one place"},
		"it is in there":     {"ipxe.efi", "MZ" + string(fingerprint), ""},
		"no loader of iPXE":  {"grubx64.efi", "MZ", ""},
		"another, with one":  {"my.efi", "MZ" + string(place), ""},
		"another, with two":  {"my.efi", string(place) + string(place), "my.efi: has more than one"},
		"compressed already": {"undionly.kpxe", "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, test.file, []byte(test.content))
			if test.want != "" {
				_, err := boot.New(boot.Config{Decider: &decider{}, Advertise: loopback, IPXEDir: dir, IPXERoot: root})
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %q", err, test.want)
				}
				return
			}
			f := start(t, boot.Config{IPXEDir: dir, IPXERoot: root})
			want := strings.ReplaceAll(test.content, string(place), string(fingerprint))
			if got := fetchTFTP(t, f, test.file); string(got) != want {
				t.Errorf("served as %q", got)
			}
		})
	}
}

// TestAuthoritiesThatIPXECannotUse: real iPXE (0cc8177c) refuses an ECDSA key of
// either the CA or the server.
func TestAuthoritiesThatIPXECannotUse(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	number, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for want, root := range map[string]*x509.Certificate{
		"has a key of type ECDSA: iPXE verifies RSA alone": newRoot(t, curve, true),
		"is no CA": newRoot(t, number, false),
	} {
		_, err := boot.New(boot.Config{Decider: &decider{}, Advertise: loopback, IPXERoot: root})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the site's CA") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// directive is a record of a .zinfo (FORMAT.md of go-zbin).
func directive(tag string, offset, length, alignment int) []byte {
	record := []byte(tag)
	for _, field := range []int{offset, length, alignment} {
		record = binary.LittleEndian.AppendUint32(record, uint32(field))
	}
	return record
}

// parts are a build as iPXE's make leaves it before it is compressed: a header
// with the length of the whole, in units of 512, and a body with both places.
func parts(t *testing.T) (flat, info []byte, header int) {
	t.Helper()
	room := strings.Repeat("#", 1017)
	body := "body\n# *PLACEHOLDER START*" + room + "# *PLACEHOLDER END*\n" + string(ipxeFingerprint(t)) + strings.Repeat("text ", 400)
	flat = append([]byte("HEAD\x00\x00\x00\x00"), body...)
	info = append(info, directive("COPY", 0, 8, 1)...)
	info = append(info, directive("PACK", 8, len(body), 1)...)
	info = append(info, directive("ADDW", 4, 512, 0)...)
	return flat, info, 8
}

// TestPartsAreCompressed: a build in parts is patched, then compressed. xz unpacks
// it again.
func TestPartsAreCompressed(t *testing.T) {
	flat, info, header := parts(t)
	dir := t.TempDir()
	write(t, dir, "undionly.kpxe.bin", flat)
	write(t, dir, "undionly.kpxe.zinfo", info)
	write(t, dir, "undionly.kpxe", []byte("an old one"))
	root, fingerprint := rsaRoot(t)
	f := start(t, boot.Config{IPXEDir: dir, IPXERoot: root, DisableDHCPProxy: true})
	build := fetchTFTP(t, f, "undionly.kpxe.0")
	if units := int(binary.LittleEndian.Uint16(build[4:])); !bytes.HasPrefix(build, []byte("HEAD")) || units != (len(build)+511)/512 {
		t.Fatalf("the header of %d bytes says %d units: %q", len(build), units, build[:8])
	}
	framed := int(binary.LittleEndian.Uint32(build[header:]))
	body := unpack(t, build[header+4:header+framed])
	if !strings.Contains(body, "chain "+f.http+"/ipxe/init.ipxe") || !strings.HasPrefix(body, "body\n# *PLACEHOLDER START*\nset n:int32 0\n") ||
		len(body) != len(flat)-header || strings.Count(body, string(fingerprint)) != 1 {
		t.Errorf("%d bytes unpacked: %q", len(body), body[:min(len(body), 300)])
	}
	if log := f.log.text(); strings.Contains(log, "is compressed") {
		t.Errorf("a warning although the build has the authority: %s", log)
	}
	response, err := http.Get(f.http + "/tftp/undionly.kpxe.bin")
	if err != nil {
		t.Fatal(err)
	}
	if _ = response.Body.Close(); response.StatusCode != http.StatusNotFound {
		t.Errorf("the part itself is served: %s", response.Status)
	}
}

// unpack has xz decode a raw LZMA stream, with the header that it lacks: lc 2, lp 0,
// pb 0, the length unknown.
func unpack(t *testing.T, stream []byte) string {
	t.Helper()
	header := append([]byte{2, 0, 0, 0, 1}, bytes.Repeat([]byte{0xff}, 8)...)
	cmd := exec.CommandContext(t.Context(), "xz", "--format=lzma", "-dc")
	cmd.Stdin = bytes.NewReader(append(header, stream...))
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("xz: %v", err)
	}
	return string(text)
}

func TestBadParts(t *testing.T) {
	flat, info, _ := parts(t)
	for name, test := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"no .bin":      {map[string][]byte{"undionly.kpxe.zinfo": info}, "undionly.kpxe.zinfo: undionly.kpxe.bin, which it belongs to, is missing"},
		"another's":    {map[string][]byte{"undionly.kpxe.zinfo": info, "undionly.kpxe.bin": flat[:900]}, "is not followed by"},
		"shorter":      {map[string][]byte{"x.zinfo": info, "x.bin": []byte("HEAD")}, "compress x.bin by x.zinfo: "},
		"no directive": {map[string][]byte{"x.zinfo": []byte("0123456789abcdef"), "x.bin": flat}, "compress x.bin by x.zinfo: "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range test.files {
				write(t, dir, file, content)
			}
			if _, err := boot.New(boot.Config{Decider: &decider{}, Advertise: loopback, IPXEDir: dir}); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
