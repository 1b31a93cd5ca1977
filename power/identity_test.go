package power

import (
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// Whatever order a controller has, the machine's own UUID is recognised.
func TestIdentityIsRecognised(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		u := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Filter(func(b []byte) bool {
			return told([16]byte(b))
		}).Draw(t, "uuid"))

		reversed := u
		for i := range u {
			reversed[15-i] = u[i]
		}

		for name, bytes := range map[string]uuid.UUID{"reversed": reversed, "SMBIOS": swapped(u), "network": u} {
			if id := identityFromBytes(bytes); !id.is(u.String()) || id.text(u.String()) != u.String() {
				t.Errorf("%s: %v is not recognised in %v", name, u, id)
			}
		}

		if !identityFromText(u.String()).is(swapped(u).String()) {
			t.Errorf("%v is not recognised in SMBIOS's order", u)
		}
	})
}

func TestIdentityTellsLikelyText(t *testing.T) {
	t.Parallel()

	u := uuid.MustParse("4c4c4544-0042-4a10-8053-b9c04f4a3232")
	if got := identityFromBytes(swapped(u)).text(""); got != u.String() {
		t.Errorf("got %s, want %s", got, u)
	}
}

func TestIdentityThatIsNotTold(t *testing.T) {
	t.Parallel()

	var ones [16]byte
	for i := range ones {
		ones[i] = 0xff
	}

	if identityFromBytes([16]byte{}) != nil || identityFromBytes(ones) != nil {
		t.Error("all zero and all one are no UUIDs")
	}

	for _, text := range []string{"", "N/A", "00000000-0000-0000-0000-000000000000"} {
		if identityFromText(text) != nil {
			t.Errorf("%q is no UUID", text)
		}
	}
}
