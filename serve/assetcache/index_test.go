package assetcache

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzIndex: whatever an index holds, it names no file outside of the directory, and
// one that is accepted means the same when it is written and read again.
func FuzzIndex(f *testing.F) {
	id := strings.Repeat("5a", 32)
	good := index{
		Assets:   []Asset{{Key: Key{id, "v1.13.7", "kernel-amd64"}, Size: 3, SHA256: id, Added: time.Unix(1_700_000_000, 0).UTC()}},
		Boots:    []Boot{{BootKey: BootKey{Wish: id, Version: "v1.13.7", Arch: "amd64"}, Kernel: "https://f/image/" + id + "/v1.13.7/kernel-amd64", Args: []string{"a=b"}}},
		Partials: []partial{{Key: Key{id, "v1.13.7", "initramfs-amd64.xz"}, Validator: `"x"`}},
	}

	data, err := good.encode()
	if err != nil {
		f.Fatal(err)
	}

	if _, err := parseIndex(data); err != nil {
		f.Fatal(err)
	}

	f.Add(data)
	f.Add([]byte(strings.ReplaceAll(string(data), "kernel-amd64", "../../etc/passwd")))
	f.Add([]byte(strings.ReplaceAll(string(data), "https://f", "https://user:hush@f")))
	f.Add([]byte(`{"format":1}`))
	f.Add([]byte("{"))

	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := parseIndex(data)
		if err != nil {
			return
		}

		for _, asset := range x.Assets {
			if filepath.Base(asset.name()) != asset.name() || !ours(asset.name()) || asset.Size <= 0 {
				t.Errorf("accepted %+v", asset)
			}
		}

		for _, boot := range x.Boots {
			if text := strings.Join(append(boot.Args, boot.Origins()...), " "); strings.ContainsAny(text, "\n\r@?") && !strings.ContainsAny(strings.Join(boot.Args, ""), "@?") {
				t.Errorf("accepted %+v", boot)
			}
		}

		once, err := x.encode()
		if err != nil {
			t.Fatal(err)
		}

		again, err := parseIndex(once)
		if err != nil {
			t.Fatalf("%v:\n%s", err, once)
		}

		if twice, err := again.encode(); err != nil || string(twice) != string(once) {
			t.Errorf("%v:\n%s\nbecame\n%s", err, once, twice)
		}
	})
}

func TestParseKey(t *testing.T) {
	id := strings.Repeat("5a", 32)

	for path, ok := range map[string]bool{
		"/image/" + id + "/v1.13.7/kernel-amd64":                          true,
		"/talos/image/" + id + "/v1.14.0-alpha.1/initramfs-arm64.xz":      true,
		"/image/" + id + "/v1.13.7/metal-amd64-secureboot-uki.efi":        true,
		"/image/" + id + "/v1.13.7/metal-amd64.iso":                       false,
		"/image/" + id + "/v1.13.7/../kernel-amd64":                       false,
		"/image/" + id + "/../kernel-amd64":                               false,
		"/image/" + id + "/v1..%2f/kernel-amd64":                          false,
		"/image/" + strings.ToUpper(id) + "/v1.13.7/kernel-amd64":         false,
		"/image/" + id[1:] + "/v1.13.7/kernel-amd64":                      false,
		"/image/" + id + "/v1.13.7/kernel-amd64/":                         false,
		"/image/x/image/" + id + "/v1.13.7/kernel-amd64":                  false,
		"/image/" + id + "/v" + strings.Repeat("1", 70) + "/kernel-amd64": false,
		"": false,
	} {
		if key, err := ParseKey(path); (err == nil) != ok || ok && !strings.HasSuffix(path, key.Path()) {
			t.Errorf("%s: %+v, %v; want accepted: %v", path, key, err, ok)
		}
	}

	for origin, ok := range map[string]bool{
		"https://f/image/" + id + "/v1.13.7/kernel-amd64":            true,
		"https://u:hush@f/image/" + id + "/v1.13.7/kernel-amd64":     false,
		"https://f/image/" + id + "/v1.13.7/kernel-amd64?sig=hush":   false,
		"ftp://f/image/" + id + "/v1.13.7/kernel-amd64":              false,
		"https://u:hush@f\x7f/image/" + id + "/v1.13.7/kernel-amd64": false,
	} {
		_, err := KeyOf(origin)
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want accepted: %v, and no secret told", origin, err, ok)
		}
	}
}
