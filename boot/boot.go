// Package boot answers machines that boot from the network: ProxyDHCP, TFTP and
// iPXE over HTTP. What a machine boots is decided by a Decider; this package
// knows how to say it to every firmware.
package boot

import (
	"context"
	"net/netip"
	"time"
)

// Decider says what a machine is to boot.
//
// It is called again and again for one machine: for each NIC that tries, and for
// every attempt of its firmware. It must therefore be quick, answer from what is
// known already, and change nothing that a second call would notice.
type Decider interface {
	// Decide returns the decision, or an error when nothing sensible can be said
	// (the machine is then told to wait and ask again, with the error as reason).
	Decide(ctx context.Context, machine Machine) (Decision, error)
}

// Machine is what a boot script request tells about the machine that asks.
type Machine struct {
	// UUID is the SMBIOS UUID, in lower case; well formed, but not to be trusted:
	// boards share UUIDs.
	UUID string
	// MAC is the NIC that asks, lower case with colons; empty if not told.
	MAC string
	// Serial and Hostname are the firmware's words; empty if not told.
	Serial   string
	Hostname string
	// Manufacturer and Product are those of the system (SMBIOS type 1); empty if not
	// told.
	Manufacturer, Product string
	// Arch is "amd64" or "arm64".
	Arch string
	// Addr is where the request came from.
	Addr netip.Addr
}

// Kind is what a decision comes down to.
type Kind int

// The kinds of decision.
const (
	// Wait: the machine is told why on its console, sleeps and asks again.
	Wait Kind = iota
	// Agent: Talos in agent mode.
	Agent
	// Talos: the Talos that a cluster wants, over the network.
	Talos
	// Disk: the machine's own disk.
	Disk
)

// String returns "wait", "agent", "talos" or "disk".
func (k Kind) String() string {
	switch k {
	case Agent:
		return "agent"
	case Talos:
		return "talos"
	case Disk:
		return "disk"
	default:
		return "wait"
	}
}

// DiskMethod is how iPXE is made to boot the machine's own disk.
type DiskMethod string

// The disk methods. HTTP404 makes the script request itself fail, which some
// setups chain on.
const (
	DiskExit    DiskMethod = "ipxe-exit"
	DiskSanboot DiskMethod = "ipxe-sanboot"
	DiskHTTP404 DiskMethod = "http-404"
)

// Decision is what a machine shall boot, and why.
type Decision struct {
	Kind Kind
	// Reason is for humans; it is shown unchanged on the machine's console, in
	// logs and in events. Never empty.
	Reason string
	// Kernel and Initrd are URLs and Args the kernel's arguments (Agent, Talos).
	// ${uuid} and the like are left for iPXE to expand. Initrd is empty where Kernel
	// is a unified kernel image, which brings its own.
	Kernel string
	Initrd string
	Args   []string
	// Chain, if set, is the URL of an iPXE script that does it all; Kernel,
	// Initrd and Args are then empty.
	Chain string
	// Method applies to Disk; empty means DiskExit.
	Method DiskMethod
	// RetryAfter applies to Wait; 0 means 15 s.
	RetryAfter time.Duration
}

// EventType says at which step of its boot a machine was seen.
type EventType string

// The steps. EventIgnored is a packet or request that got no answer; its
// Reason says why. EventRival is another server that answers machines, Addr, and
// its Reason what will happen and what to configure.
const (
	EventDiscover EventType = "discover"
	EventRequest  EventType = "request"
	EventLoader   EventType = "loader"
	EventScript   EventType = "script"
	EventKernel   EventType = "kernel"
	EventInitrd   EventType = "initrd"
	EventAsset    EventType = "asset"
	EventIgnored  EventType = "ignored"
	EventRival    EventType = "rival"
)

// Event is something that a machine asked and what it got.
type Event struct {
	Type EventType
	Time time.Time
	MAC  string
	// UUID is what the machine says; in DHCP it does so in option 97, where some
	// firmware has the bytes in another order.
	UUID string
	// Firmware is who asks over DHCP: BIOS, UEFI, UEFI HTTP Boot, U-Boot, Raspberry
	// Pi or iPXE.
	Firmware string
	// Addr is the address that asked.
	Addr netip.Addr
	// Interface is the network interface of a DHCP packet, if known.
	Interface string
	Arch      string
	// File is the file offered or sent; Bytes and Duration of a finished transfer.
	File     string
	Bytes    int64
	Duration time.Duration
	// Decision is the kind of a script's decision.
	Decision Kind
	// Reason says why the answer was what it was.
	Reason string
}
