package power

import (
	"slices"

	"github.com/google/uuid"
)

// identity is what a controller tells as the UUID of its system: every reading
// of the bytes that some controller means by them, the most likely first. None:
// the controller does not tell.
type identity []uuid.UUID

// identityFromBytes reads the answer to Get System GUID. The specification has
// all bytes reversed (IPMI 2.0, table 20-10); many controllers send SMBIOS's
// order (DSP0134, 7.2.1) or the text's own.
func identityFromBytes(b [16]byte) identity {
	if !told(b) {
		return nil
	}

	reversed := b
	slices.Reverse(reversed[:])

	id := identity{reversed, swapped(b), b}

	// The version and the variant (RFC 9562, 4.1) tell which reading is likely.
	slices.SortStableFunc(id, func(a, b uuid.UUID) int { return plausibility(b) - plausibility(a) })

	return id
}

// identityFromText reads a Redfish system's UUID; some controllers give it in
// SMBIOS's byte order.
func identityFromText(text string) identity {
	u, err := uuid.Parse(text)
	if err != nil || !told(u) {
		return nil
	}

	return identity{u, swapped(u)}
}

// is tells whether the machine's UUID is one of the readings.
func (id identity) is(text string) bool {
	u, err := uuid.Parse(text)

	return err == nil && slices.Contains(id, u)
}

// text is the reading that is the machine's UUID, else the likeliest.
func (id identity) text(want string) string {
	switch {
	case len(id) == 0:
		return ""
	case id.is(want):
		return uuid.MustParse(want).String()
	default:
		return id[0].String()
	}
}

// told tells whether the bytes are a UUID: all zero and all one mean "not set"
// (DSP0134, 7.2.1).
func told(b [16]byte) bool {
	return slices.ContainsFunc(b[:], func(x byte) bool { return x != b[0] }) || b[0] != 0 && b[0] != 0xff
}

// swapped has the first three fields in the other byte order.
func swapped(b [16]byte) uuid.UUID {
	slices.Reverse(b[0:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])

	return b
}

func plausibility(u uuid.UUID) int {
	n := 0
	if v := u.Version(); v >= 1 && v <= 8 {
		n++
	}

	if u.Variant() == uuid.RFC4122 {
		n++
	}

	return n
}
