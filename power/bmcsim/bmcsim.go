// Package bmcsim is a simulated baseboard management controller on real
// sockets: one chassis with an IPMI 2.0 face (RMCP+ over UDP) and a Redfish
// face (HTTPS), and faults that can be switched on by name.
//
// It exists for tests and for the lab. Its IPMI framing and cryptography come
// from go-ipmi's server, so ipmitool and ipmipower are the independent
// witnesses that it speaks the protocol and not only its sibling's dialect.
package bmcsim

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/bmctl/bmctl/power"
)

// PortOff, as a port of a [Config], leaves that face of the controller off.
const PortOff = -1

// Config says what controller to simulate. The zero value is a controller
// without users on 127.0.0.1, any free ports.
type Config struct {
	// UUID is the SMBIOS UUID of the system behind the controller, in text
	// form; made up when empty.
	UUID string
	// Personality is one of Personalities: vendor, model and faults at the start.
	Personality string
	// Vendor, Model and Serial are what both faces tell of the system. Empty:
	// "bmctl", "simulated" and "SIM" with the end of the UUID.
	Vendor, Model, Serial string
	// Users maps the names of the administrators to their passwords, for both
	// faces. IPMI names are at most 16 bytes long, passwords 20.
	Users map[string]string
	// ListenIP is the address of both faces; the zero Addr means 127.0.0.1.
	// On Linux every 127.x.y.z is there without set-up.
	ListenIP netip.Addr
	// IPMIPort and RedfishPort are the ports; 0 is any free one, PortOff none.
	IPMIPort, RedfishPort int
	// PlainHTTP speaks Redfish without TLS.
	PlainHTTP bool
	// RSAKeyExchange leaves TLS 1.2 with RSA key exchange as the only way in, as
	// some controllers have it.
	RSAKeyExchange bool
	// Machine is what the chassis powers; nil is a machine that does nothing.
	Machine Machine
	// On is the power state at the start.
	On bool
	// BootTimeout is how long a boot override over IPMI waits for a power act
	// before the controller drops it, unless boot option 3 was told not to;
	// 0 means the specification's 60 s (IPMI 2.0, table 28-14).
	BootTimeout time.Duration
	// SlowBy is how much later the fault "slow" lets every answer leave;
	// 0 means 1 s.
	SlowBy time.Duration
	// GUIDOrder is the byte order in which IPMI tells the UUID.
	GUIDOrder GUIDOrder
	// CipherSuites are the RMCP+ cipher suites on offer; empty: 3 and 17.
	CipherSuites []int
	// Log is told what arrives, at level debug; nil: nobody is.
	Log *slog.Logger
}

// Machine is what stands behind a chassis. Its methods are called without
// locks held, one at a time and in the order in which power was switched; the
// controller has answered by then. A reset or cycle is PowerOff, then PowerOn.
type Machine interface {
	// PowerOn tells that the power came on, and what the firmware is to boot:
	// the override that this power-on used up, or the zero Boot.
	PowerOn(boot power.Boot)
	// PowerOff tells that the power went.
	PowerOff()
}

// BMC is a running simulated controller. Its methods are safe for concurrent use.
type BMC struct {
	cfg     Config
	uuid    uuid.UUID
	addr    netip.Addr
	chassis *chassis
	faults  *faults
	users   *users
	serial  serial
	started time.Time
	ipmi    *ipmiFace
	redfish *redfishFace

	closeOnce sync.Once
	closeErr  error
}

// Start binds the sockets of the controller and serves on them until Close.
func Start(cfg Config) (*BMC, error) {
	habits, err := cfg.adopt()
	if err != nil {
		return nil, err
	}

	id, err := identity(&cfg)
	if err != nil {
		return nil, err
	}

	fs := newFaults()
	for _, name := range habits {
		if err := fs.set(name, true); err != nil {
			return nil, err
		}
	}

	b := &BMC{
		cfg:     cfg,
		uuid:    id,
		addr:    cfg.ListenIP,
		faults:  fs,
		chassis: newChassis(cfg, fs),
		users:   &users{passwords: maps.Clone(cfg.Users)},
		started: time.Now(),
	}

	if err := b.serve(); err != nil {
		return nil, errors.Join(err, b.Close())
	}

	return b, nil
}

// identity fills in what the configuration leaves out.
func identity(cfg *Config) (uuid.UUID, error) {
	id := uuid.New()

	if cfg.UUID != "" {
		var err error
		if id, err = uuid.Parse(cfg.UUID); err != nil {
			return id, fmt.Errorf("simulated controller: UUID %q: %w", cfg.UUID, err)
		}
	}

	cfg.UUID = id.String()
	cfg.Vendor = cmp.Or(cfg.Vendor, "bmctl")
	cfg.Model = cmp.Or(cfg.Model, "simulated")
	cfg.Serial = cmp.Or(cfg.Serial, "SIM"+cfg.UUID[24:])
	cfg.BootTimeout = cmp.Or(cfg.BootTimeout, time.Minute)
	cfg.SlowBy = cmp.Or(cfg.SlowBy, time.Second)

	if !cfg.ListenIP.IsValid() {
		cfg.ListenIP = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}

	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}

	return id, nil
}

func (b *BMC) serve() error {
	if b.cfg.IPMIPort != PortOff {
		face, err := startIPMI(b)
		if err != nil {
			return fmt.Errorf("simulated controller: IPMI: %w", err)
		}

		b.ipmi = face
	}

	if b.cfg.RedfishPort != PortOff {
		face, err := startRedfish(b)
		if err != nil {
			return fmt.Errorf("simulated controller: Redfish: %w", err)
		}

		b.redfish = face
	}

	return nil
}

// listenAddr is where a face with the port listens.
func (b *BMC) listenAddr(port int) string {
	return net.JoinHostPort(b.addr.String(), strconv.Itoa(port))
}

// Addr is the address of both faces.
func (b *BMC) Addr() netip.Addr { return b.addr }

// UUID is the system's SMBIOS UUID in text form, lower case.
func (b *BMC) UUID() string { return b.uuid.String() }

// IPMIPort is the UDP port of the IPMI face, PortOff without one.
func (b *BMC) IPMIPort() int {
	if b.ipmi == nil {
		return PortOff
	}

	return b.ipmi.port
}

// RedfishPort is the TCP port of the Redfish face, PortOff without one.
func (b *BMC) RedfishPort() int {
	if b.redfish == nil {
		return PortOff
	}

	return b.redfish.port
}

// State is the power of the chassis.
func (b *BMC) State() power.State { return b.chassis.state() }

// Boot is the boot override that the next power-on will use.
func (b *BMC) Boot() power.Boot { return b.chassis.bootOverride().boot() }

// Lit tells whether the lamp is on by which the machine is found.
func (b *BMC) Lit() bool { return b.chassis.isLit() }

// Acts returns what arrived so far, oldest first.
func (b *BMC) Acts() []Act { return b.chassis.log() }

// SetUser creates the administrator, or changes his password, on both faces:
// what an agent on the machine does over its local interface.
func (b *BMC) SetUser(name, password string) error {
	b.users.set(name, password)

	if b.ipmi == nil {
		return nil
	}

	return b.ipmi.setUser(name, password)
}

// SetFault switches a fault on or off. A name may stand behind "ipmi:" or
// "redfish:" to touch that face only. An unknown name is an error that lists
// the known ones.
func (b *BMC) SetFault(name string, on bool) error {
	if err := b.faults.set(name, on); err != nil || b.ipmi == nil {
		return err
	}

	return b.ipmi.refreshUsers()
}

// Faults returns the names of the faults that are on, sorted.
func (b *BMC) Faults() []string { return b.faults.list() }

// DropSessions forgets every session on both faces without telling anybody, as
// a controller does that restarts.
func (b *BMC) DropSessions() {
	if b.ipmi != nil {
		b.ipmi.dropSessions()
	}

	if b.redfish != nil {
		b.redfish.sessions.drop()
	}
}

// Sessions is the number of open sessions on both faces.
func (b *BMC) Sessions() int {
	n := 0
	if b.ipmi != nil {
		n += b.ipmi.bmc.Sessions.Count()
	}

	if b.redfish != nil {
		n += b.redfish.sessions.count()
	}

	return n
}

// Close ends the controller: the sockets are closed, the call to the Machine
// that is under way is waited for, and no other is made. A second Close
// returns what the first did.
func (b *BMC) Close() error {
	b.closeOnce.Do(func() {
		var errs []error
		if b.ipmi != nil {
			errs = append(errs, b.ipmi.close())
		}

		if b.redfish != nil {
			errs = append(errs, b.redfish.close())
		}

		b.chassis.close()
		b.closeErr = errors.Join(errs...)
	})

	return b.closeErr
}

// users are the administrators of the Redfish face; the IPMI face keeps its own.
type users struct {
	mu        sync.Mutex
	passwords map[string]string
}

func (u *users) set(name, password string) {
	u.mu.Lock()
	defer u.mu.Unlock()

	if u.passwords == nil {
		u.passwords = map[string]string{}
	}

	u.passwords[name] = password
}

func (u *users) valid(name, password string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()

	want, ok := u.passwords[name]

	return ok && want == password
}
