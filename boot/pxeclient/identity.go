package pxeclient

import (
	"crypto/rand"
	"fmt"
	"net"
)

// MadeUpUUIDPrefix begins every UUID of MadeUpUUID: "bmctl" in ASCII. By it people
// and programs recognise a test among machines.
const MadeUpUUIDPrefix = "626d6374-6c"

// MadeUpUUID returns a new UUID that no machine has: its first five bytes are
// MadeUpUUIDPrefix, the rest is random (version 4 in its form).
func MadeUpUUID() string {
	var u [16]byte
	rand.Read(u[:]) // never fails
	copy(u[:], "bmctl")
	u[6] = u[6]&0x0f | 0x40 // version 4 (RFC 9562, section 5.4)
	u[8] = u[8]&0x3f | 0x80 // its variant
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// MadeUpMAC returns a new Ethernet address that no NIC has: 02:00:00, which is
// locally administered, and three random bytes.
func MadeUpMAC() string {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 0}
	rand.Read(mac[3:]) // never fails
	return mac.String()
}

// MadeUpMAC is MadeUpMAC for this firmware: a Raspberry Pi is recognised by its
// maker's first three bytes, so that a Pi with the same address may exist.
func (f Firmware) MadeUpMAC() string {
	mac := MadeUpMAC()
	if f == RPi {
		return "dc:a6:32" + mac[len("02:00:00"):]
	}
	return mac
}

func uuidBytes(text string) (u [16]byte, err error) {
	var parts [5][]byte
	n, err := fmt.Sscanf(text, "%8x-%4x-%4x-%4x-%12x", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4])
	if err != nil || n != 5 || len(text) != 36 {
		return u, fmt.Errorf("uuid %q is malformed", text)
	}
	at := 0
	for _, p := range parts {
		at += copy(u[at:], p)
	}
	return u, nil
}
