package controllers

import (
	"strings"
	"testing"
)

// Some BMCs refuse a password without a digit or a special character (Supermicro,
// HP Cloudline), some keep 16 characters, and none that ipmitool or a shell would
// have to quote is made.
func TestPasswordSuitsThePolicies(t *testing.T) {
	const (
		digits, special = "0123456789", "-_.+="
		lower, upper    = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	)

	made := map[string]bool{}

	for range 1000 {
		password, err := newPassword()
		if err != nil {
			t.Fatal(err)
		}

		if len(password) != 16 || made[password] {
			t.Fatalf("%q has %d characters, or was made before", password, len(password))
		}

		for _, set := range []string{digits, special, lower, upper} {
			if !strings.ContainsAny(password, set) {
				t.Fatalf("%q has none of %q", password, set)
			}
		}

		if rest := strings.Trim(password, digits+special+lower+upper); rest != "" {
			t.Fatalf("%q has %q", password, rest)
		}

		made[password] = true
	}
}
