// Package power talks to baseboard management controllers (BMCs): power state,
// power actions and the one-shot boot override, over IPMI and Redfish.
//
// It knows machines only as BMC addresses. Who may be switched, and when, is
// decided by the callers.
package power

import (
	"context"
	"errors"
	"io"
	"log/slog"
)

// BMC is one conversation with one controller. All methods are safe for
// concurrent use; the calls of one BMC are carried out one after the other.
//
// Every error wraps exactly one of the kinds ErrUnreachable, ErrAuth,
// ErrRefused, ErrBusy, ErrUnsupported and ErrAmbiguous, and names the target.
// A call whose context has no deadline gets DefaultTimeout.
type BMC interface {
	// Info reports what the controller is and which system it drives.
	Info(ctx context.Context) (Info, error)
	// State reports the chassis power. StateUnknown is a state, not an error:
	// the controller answered, but its answer names none of ours.
	State(ctx context.Context) (State, error)
	// Do carries out the action and returns when the controller's State shows
	// it. An action that the state makes needless sends nothing: On of a machine
	// that is on, Off and Soft of one that is off. Cycle and Reset of a machine
	// that is off are ErrRefused: they would not switch it on. So is an act that
	// the controller accepted and its State does not show by the deadline.
	Do(ctx context.Context, action Action) error
	// SetBoot sets the boot override and reads it back; the zero Boot clears it.
	SetBoot(ctx context.Context, boot Boot) error
	// Closer ends the session on the controller. A second Close is harmless.
	io.Closer
}

// The kinds of failure. Each error of this package wraps exactly one of them.
var (
	// ErrUnreachable: nothing answered, or the answer broke off.
	ErrUnreachable = errors.New("unreachable")
	// ErrAuth: the controller refused the credentials or their privilege.
	ErrAuth = errors.New("authentication failed")
	// ErrRefused: the controller understood and said no.
	ErrRefused = errors.New("refused")
	// ErrBusy: the controller asked to be tried again later, until the deadline.
	ErrBusy = errors.New("busy")
	// ErrUnsupported: the controller lacks the ability.
	ErrUnsupported = errors.New("unsupported")
	// ErrAmbiguous: it cannot be told which system of the controller is meant,
	// or the system is another machine than the one the target names.
	ErrAmbiguous = errors.New("ambiguous")
)

// State is the power state of the chassis.
type State int

// The power states.
const (
	StateUnknown State = iota
	StateOff
	StateOn
)

// String returns "unknown", "off" or "on".
func (s State) String() string {
	switch s {
	case StateOff:
		return "off"
	case StateOn:
		return "on"
	default:
		return "unknown"
	}
}

// Action is something to do to the chassis power.
type Action int

// The actions. Off and Cycle cut the power without asking the operating
// system; Soft asks it (ACPI) and never turns into Off by itself.
const (
	On Action = iota + 1
	Off
	Soft
	Cycle
	Reset
	NMI
)

// String returns the action as the command line spells it.
func (a Action) String() string {
	switch a {
	case On:
		return "on"
	case Off:
		return "off"
	case Soft:
		return "soft"
	case Cycle:
		return "cycle"
	case Reset:
		return "reset"
	case NMI:
		return "nmi"
	default:
		return "action(?)"
	}
}

// Device is what the firmware is told to boot.
type Device int

// The boot devices. DeviceNone means no override: the firmware's own order.
const (
	DeviceNone Device = iota
	DevicePXE
	DeviceDisk
	DeviceSetup
)

// String returns the device as the command line spells it.
func (d Device) String() string {
	switch d {
	case DevicePXE:
		return "pxe"
	case DeviceDisk:
		return "disk"
	case DeviceSetup:
		return "bios"
	default:
		return "none"
	}
}

// Mode is the firmware mode of a boot override.
type Mode int

// The modes. ModeKeep leaves the machine's mode as it is where the protocol
// allows that (IPMI does not: it is sent as UEFI).
const (
	ModeKeep Mode = iota
	ModeUEFI
	ModeBIOS
)

// String returns "keep", "uefi" or "bios".
func (m Mode) String() string {
	switch m {
	case ModeUEFI:
		return "uefi"
	case ModeBIOS:
		return "bios"
	default:
		return "keep"
	}
}

// Boot is a boot override. It holds for the next boot only, unless Persistent.
// The zero Boot means none.
type Boot struct {
	Device     Device
	Mode       Mode
	Persistent bool
}

// Protocol is how a controller is spoken to.
type Protocol string

// The protocols. ProtocolAuto prefers Redfish where it answers and falls back
// to IPMI.
const (
	ProtocolAuto    Protocol = "auto"
	ProtocolIPMI    Protocol = "ipmi"
	ProtocolRedfish Protocol = "redfish"
	// ProtocolQEMU is the HTTP power API of QEMU machines that talosctl started;
	// Target.Port is the API's port.
	ProtocolQEMU Protocol = "qemu"
)

// Info is what a controller says of itself and its system. Fields that it does
// not tell are empty.
type Info struct {
	Protocol     Protocol
	Version      string // of the protocol: "2.0", "1.15.0"
	Vendor       string
	Model        string
	Firmware     string
	Serial       string
	UUID         string // SMBIOS UUID of the system, lower case, in SMBIOS text order
	AddressInUse string // host:port that answered
}

// Target says which controller to talk to, and as whom.
type Target struct {
	// Name is how people call the machine; it stands in errors. Address if empty.
	Name string
	// Address is an IPv4 or IPv6 address or a host name, without a port.
	Address string
	// Port is the IPMI port; 0 means 623.
	Port int
	// RedfishPort is the Redfish port; 0 means 443.
	RedfishPort int
	// Protocol is the way to speak; the empty string means ProtocolAuto.
	Protocol Protocol
	// Username and Password log in. They are sent to the controller only.
	Username string
	Password Secret
	// UUID is the SMBIOS UUID of the machine behind the controller, if known.
	// Where the controller tells its own, an act on another machine's is
	// refused with ErrAmbiguous.
	UUID string
	// Pin is the certificate that Redfish must show, as Fingerprint writes it.
	// Where it is set, no authority needs to vouch for the certificate, and
	// Options.CheckCertificate is not asked.
	Pin string
	// RSAKeyExchange allows TLS 1.2 with RSA key exchange, which has no forward
	// secrecy: some controllers have nothing else (H3C HDM).
	RSAKeyExchange bool
}

// Label is how errors and logs name the target.
func (t Target) Label() string {
	if t.Name != "" {
		return t.Name
	}

	return t.Address
}

// Opener opens conversations. Open may return before the controller was
// asked anything; the first call then tells.
type Opener interface {
	Open(ctx context.Context, target Target) (BMC, error)
}

// Secret holds a password or token and never prints it: every form of
// formatting, logging and encoding gives "***" (or nothing when it is empty).
type Secret struct{ value string }

// NewSecret wraps value.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal returns the secret itself; call it only where it leaves for its peer.
func (s Secret) Reveal() string { return s.value }

// IsZero tells whether there is no secret.
func (s Secret) IsZero() bool { return s.value == "" }

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}

	return "***"
}

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return s.String() }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler, and with it JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
