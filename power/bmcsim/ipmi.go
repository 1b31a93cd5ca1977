package bmcsim

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"

	"github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/bmctl/bmctl/power"
)

// lanChannel is the only LAN channel of go-ipmi's server.
const lanChannel = 1

// ipmiFace is the controller as IPMI shows it.
type ipmiFace struct {
	owner  *BMC
	bmc    *bmc.BMC
	server *server.Server
	port   int
	done   chan struct{}

	mu        sync.Mutex
	passwords map[string]string
	slots     map[string]uint8 // user name to IPMI user id
	sessions  map[uint32]struct{}
}

func startIPMI(b *BMC) (*ipmiFace, error) {
	addr, err := net.ResolveUDPAddr("udp", b.listenAddr(b.cfg.IPMIPort))
	if err != nil {
		return nil, err
	}

	conn, err := net.ListenUDP("udp", addr)
	if err != nil {
		return nil, err
	}

	face := &ipmiFace{
		owner:     b,
		port:      conn.LocalAddr().(*net.UDPAddr).Port,
		done:      make(chan struct{}),
		passwords: map[string]string{},
		slots:     map[string]uint8{},
		sessions:  map[uint32]struct{}{},
	}
	if err := face.setUp(conn); err != nil {
		return nil, fmt.Errorf("%w (closing: %v)", err, conn.Close())
	}

	go func() {
		defer close(face.done)
		// Serve ends when the socket is closed; it has no other error.
		_ = face.server.Serve(context.Background())
	}()

	return face, nil
}

func (f *ipmiFace) setUp(conn *net.UDPConn) error {
	hal, err := newHAL(f.owner)
	if err != nil {
		return err
	}

	f.bmc = bmc.New(bmc.DeviceInfo{
		DeviceID: 0x20, DeviceRevision: 1, FirmwareMajor: 1, FirmwareMinor: 0x10, IPMIVersion: 0x20,
		// Chassis, FRU, event log, SDR repository, sensors.
		AdditionalDeviceSupport: 0x8f,
		ManufacturerID:          manufacturerID(f.owner.cfg.Vendor),
	}, f.owner.guid(), hal)

	if suites := f.owner.cfg.CipherSuites; len(suites) > 0 {
		ids := make([]types.CipherSuiteID, len(suites))
		for i, id := range suites {
			ids[i] = types.CipherSuiteID(id)
			if !bmc.SupportedCipherSuite(ids[i]) {
				return fmt.Errorf("cipher suite %d is not one that the simulator has", id)
			}
		}

		f.bmc.SetCipherSuites(ids)
	}

	for _, name := range slices.Sorted(maps.Keys(f.owner.cfg.Users)) {
		if err := f.setUser(name, f.owner.cfg.Users[name]); err != nil {
			return err
		}
	}

	f.server = server.NewServer(f.bmc, newFaultyConn(conn, f.owner.faults, f.owner.cfg.SlowBy),
		server.WithHandlerRegistry(f.registry()))

	return nil
}

// manufacturerID is the IANA enterprise number that Get Device ID tells.
func manufacturerID(vendor string) uint32 {
	return map[string]uint32{"Dell": 674, "HPE": 47196, "Supermicro": 10876, "Lenovo": 19046}[vendor]
}

// setUser creates or changes an administrator in the first free slot from 2 on
// (slot 1 is the null user, IPMI 2.0 section 6.9.1).
func (f *ipmiFace) setUser(name, password string) error {
	if len(name) > bmc.MaxUserNameLen || len(password) > bmc.MaxPasswordLen {
		return fmt.Errorf("user %q: names are at most %d bytes, passwords %d",
			name, bmc.MaxUserNameLen, bmc.MaxPasswordLen)
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	slot, ok := f.slots[name]
	if !ok {
		slot = uint8(len(f.slots) + 2)
		f.slots[name] = slot
	}

	f.passwords[name] = password

	return f.store(slot, name, password)
}

func (f *ipmiFace) store(slot uint8, name, password string) error {
	if f.owner.faults.on(power.ProtocolIPMI, FaultBadLogin) {
		password = rand.Text()[:16]
	}

	level := bmc.PrivilegeLevelAdministrator

	switch {
	case f.fault(FaultUserOnly):
		level = bmc.PrivilegeLevelUser
	case f.fault(FaultOperatorOnly):
		level = bmc.PrivilegeLevelOperator
	}

	return f.bmc.Users.Upsert(slot, func(u *bmc.User) error {
		u.Name, u.Enabled = name, true
		u.SetPassword([]byte(password))
		u.ChannelAccess[lanChannel] = bmc.UserChannelAccess{
			MaxPrivilege: level, Enabled: true,
		}

		return nil
	})
}

// refreshUsers writes the passwords anew, real or not, as the faults say.
func (f *ipmiFace) refreshUsers() error {
	f.mu.Lock()
	defer f.mu.Unlock()

	for name, slot := range f.slots {
		if err := f.store(slot, name, f.passwords[name]); err != nil {
			return err
		}
	}

	return nil
}

func (f *ipmiFace) dropSessions() {
	f.mu.Lock()
	defer f.mu.Unlock()

	for id := range f.sessions {
		// A session that its owner has closed is not there any more: fine.
		_ = f.bmc.Sessions.Close(id)
	}

	clear(f.sessions)
}

func (f *ipmiFace) close() error {
	err := f.server.Close()
	<-f.done

	return err
}

// guid is the UUID as IPMI tells it.
func (b *BMC) guid() [16]byte {
	id := [16]byte(b.uuid)

	switch b.cfg.GUIDOrder {
	case GUIDSMBIOS:
		slices.Reverse(id[0:4])
		slices.Reverse(id[4:6])
		slices.Reverse(id[6:8])
	case GUIDNetwork:
	default:
		slices.Reverse(id[:])
	}

	return id
}

// GUIDOrder is the byte order in which a controller tells its system's UUID
// over IPMI. All three are found on real controllers.
type GUIDOrder int

// The byte orders.
const (
	// GUIDReversed is the specification's: every byte the other way round, node
	// first (IPMI 2.0, table 20-10).
	GUIDReversed GUIDOrder = iota
	// GUIDSMBIOS is SMBIOS's: the first three fields little-endian (DSP0134, 7.2.1).
	GUIDSMBIOS
	// GUIDNetwork is the text's own order (RFC 9562).
	GUIDNetwork
)

// registry is go-ipmi's command set with ours over it: its own lacks Get System
// GUID and NMI, takes soft shutdown for a warm reset, keeps no boot option 3
// and lets a user of level USER set boot options.
func (f *ipmiFace) registry() *handlers.Registry {
	reg := handlers.NewRegistry()
	reg.Use(f.observe)
	handlers.RegisterAllHandlers(reg)

	c := &ipmiChassis{chassis: f.owner.chassis, faults: f.owner.faults}
	reg.RegisterFunc(types.CommandGetChassisStatus, c.status)
	reg.RegisterFunc(types.CommandChassisControl, c.control)
	reg.RegisterFunc(types.CommandChassisIdentify, c.identify)
	reg.RegisterFunc(types.CommandSetSystemBootOptions, operator(c.setBootOption))
	reg.RegisterFunc(types.CommandGetSystemBootOptions, operator(c.getBootOption))
	reg.RegisterFunc(types.CommandGetSystemGUID, f.systemGUID)
	ipmiHardware{f.owner}.register(reg)

	return reg
}

// operator lets only sessions of level OPERATOR and up through (IPMI 2.0,
// appendix G).
func operator(h handlers.HandlerFunc) handlers.HandlerFunc {
	return func(ctx context.Context, hctx *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
		if hctx.Session != nil && hctx.Session.PrivilegeLevel < bmc.PrivilegeLevelOperator {
			return nil, types.CodeInsufficientPrivilege, nil
		}

		return h(ctx, hctx, req)
	}
}

// observe remembers sessions, logs commands and answers "busy".
func (f *ipmiFace) observe(next handlers.Handler) handlers.Handler {
	return handlers.HandlerFunc(func(ctx context.Context, hctx *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
		if hctx.Session != nil {
			f.begin(hctx.Session)
		}

		resp, code, err := f.habits(next).Handle(ctx, hctx, req)
		f.owner.cfg.Log.Debug("ipmi", "command", hctx.Command.Name, "request", hex.EncodeToString(redact(hctx, req)), "code", uint8(code))

		return resp, code, err
	})
}

// begin notes a session at its first command, which has the privilege USER
// (IPMI 2.0, section 22.18); go-ipmi's server starts with the highest.
func (f *ipmiFace) begin(s *bmc.Session) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if _, known := f.sessions[s.BMCID]; !known {
		f.sessions[s.BMCID] = struct{}{}
		s.PrivilegeLevel = bmc.PrivilegeLevelUser
	}
}

// redact keeps passwords out of the log.
func redact(hctx *handlers.HandlerContext, req []byte) []byte {
	if hctx.Command == types.CommandSetUserPassword {
		return req[:min(len(req), 2)]
	}

	return req
}

// systemGUID answers Get System GUID (IPMI 2.0, section 22.14).
func (f *ipmiFace) systemGUID(context.Context, *handlers.HandlerContext, []byte) ([]byte, types.CompletionCode, error) {
	if f.owner.faults.on(power.ProtocolIPMI, FaultNoGUID) {
		return nil, types.CodeInvalidCommand, nil
	}

	id := f.owner.guid()

	return id[:], types.CodeOK, nil
}
