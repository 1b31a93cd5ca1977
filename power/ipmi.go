package power

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// ipmi is the driver for IPMI 2.0 over RMCP+. go-ipmi has the protocol; the
// session's life, the retries and the meaning of what comes back are here.
type ipmi struct {
	target  Target
	address string
	host    *host
	gap     time.Duration
	mode    Mode
	log     *slog.Logger

	session *ipmiSession
	logins  int
}

func newIPMI(target Target, h *host, opts Options) *ipmi {
	return &ipmi{
		target: target, address: endpoint(target.Address, target.Port), host: h,
		gap: opts.IPMIGap, mode: opts.IPMIMode, log: opts.Log.With("bmc", target.Label()),
	}
}

// ipmiCommand is a request: network function, command and data.
type ipmiCommand struct {
	name  string
	netFn types.NetFn
	id    uint8
	data  []byte
	// operator: the command needs more than the privilege USER.
	operator bool
	// once: twice is not as good as once, so it is not sent in a new datagram
	// when the answer was lost.
	once bool
}

// The commands that this driver sends (IPMI 2.0, appendix G).
func commandOf(c types.Command, data ...byte) ipmiCommand {
	return ipmiCommand{name: c.Name, netFn: c.NetFn, id: c.ID, data: data}
}

func (c ipmiCommand) asOperator() ipmiCommand {
	c.operator = true

	return c
}

// login implements driver.
func (d *ipmi) login() int { return d.logins }

// close implements driver.
func (d *ipmi) close(ctx context.Context) error {
	if d.session != nil {
		d.session.end(ctx)
		d.session = nil
	}

	return nil
}

// connect makes sure that there is a session.
func (d *ipmi) connect(ctx context.Context) error {
	if d.session != nil && time.Since(d.session.used) > ipmiIdle {
		d.session.hangUp()
		d.session = nil
	}

	if d.session != nil {
		return nil
	}

	since, pause := time.Now(), newPause(ipmiRestart, ipmiTry)
	crossings := 2

	for {
		err := d.tryCipherSuites(ctx)
		if err == nil {
			return nil
		}

		// A lost datagram is no reason to give up before the deadline.
		f := loginFailure(ctx, err, d.address, since)
		if errors.Is(err, errOutOfStep) && crossings > 0 && !over(ctx) {
			crossings--

			continue
		}

		if f.kind != ErrUnreachable || f.cause != nil || !pause.wait(ctx) {
			return f
		}
	}
}

// tryCipherSuites opens a session with the first suite that the controller
// takes. A wrong password ends it: it is as wrong with the next suite, and each
// try takes a session of the controller's few.
func (d *ipmi) tryCipherSuites(ctx context.Context) error {
	var refused error

	for _, suite := range d.host.suitesInOrder() {
		session, err := openIPMI(ctx, d.target, suite)
		if err == nil {
			d.host.rememberSuite(suite)
			d.session = session
			d.logins++

			return nil
		}

		if !suiteRefused(err) {
			return err
		}

		refused = err
	}

	return refused
}

func (h *host) suitesInOrder() []int {
	h.mu.Lock()
	defer h.mu.Unlock()

	suites := slices.Clone(cipherSuites)
	if i := slices.Index(suites, h.suite); i > 0 {
		suites[0], suites[i] = suites[i], suites[0]
	}

	return suites
}

func (h *host) rememberSuite(suite int) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.suite = suite
}

// command has a command carried out in a session.
func (d *ipmi) command(ctx context.Context, c ipmiCommand) ([]byte, error) {
	if err := d.connect(ctx); err != nil {
		return nil, err
	}

	if c.operator && !d.session.operator {
		if err := d.raise(ctx); err != nil {
			return nil, err
		}
	}

	return d.request(ctx, c)
}

// raise takes the privilege OPERATOR; a session starts as USER (IPMI 2.0,
// section 22.18).
func (d *ipmi) raise(ctx context.Context) error {
	_, err := d.request(ctx, commandOf(types.CommandSetSessionPrivilegeLevel, byte(types.PrivilegeLevelOperator)))

	var f *failure
	if errors.As(err, &f) && f.kind != ErrUnreachable && f.kind != ErrBusy {
		return fail(ErrAuth, "%s does not let user %q be OPERATOR", d.address, d.target.Username)
	}

	if err == nil {
		d.session.operator = true
	}

	return err
}

// request sends in the session that stands. A session in which nothing is
// answered any more is given up.
func (d *ipmi) request(ctx context.Context, c ipmiCommand) ([]byte, error) {
	since := time.Now()

	for _, try := range d.tries(c) {
		if err := d.breathe(ctx); err != nil {
			return nil, noAnswer(ctx, d.address, since)
		}

		data, err := d.session.request(ctx, c, try)
		d.session.commanded = time.Now()

		if answered(err) {
			d.session.used = d.session.commanded

			return data, commandFailure(c, err, d.address)
		}

		if over(ctx) {
			return nil, noAnswer(ctx, d.address, since)
		}
	}

	d.giveUp(ctx)

	f := noAnswer(ctx, d.address, since)
	if f.lost = !c.once; c.once {
		f.detail += "; it may have been carried out all the same"
	}

	return nil, f
}

// tries are how long each datagram of a command is waited for: only another
// one mends a lost answer. What is read is answered from memory, and who is
// slow with that has forgotten the session. What is done may take a controller
// seconds.
func (d *ipmi) tries(c ipmiCommand) []time.Duration {
	switch pace := d.session.pace; {
	case c.once:
		return []time.Duration{ipmiPatience}
	case c.operator:
		return []time.Duration{5 * pace, 5 * pace, ipmiPatience}
	default:
		return []time.Duration{pace, 2 * pace, ipmiTry}
	}
}

// breathe keeps the gap between two commands: some controllers freeze under
// bursts.
func (d *ipmi) breathe(ctx context.Context) error {
	rest := d.gap - time.Since(d.session.commanded)
	if rest <= 0 {
		return ctx.Err()
	}

	timer := time.NewTimer(rest)
	defer timer.Stop()

	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// giveUp drops a session that seems dead. It says goodbye all the same, without
// waiting for it: the controller may only have been slow.
func (d *ipmi) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()

	d.session.end(ctx)
	d.session = nil
}

// answered tells whether the controller answered, be it with a refusal.
func answered(err error) bool {
	_, refused := types.IsResponseError(err)

	return err == nil || refused
}

// commandFailure reads a completion code (IPMI 2.0, table 5-2).
func commandFailure(c ipmiCommand, err error, address string) error {
	refusal, ok := types.IsResponseError(err)
	if !ok {
		return err
	}

	code := refusal.CompletionCode()

	return fail(completionKind(code), "%s answered %s with completion code %02Xh (%s)",
		address, c.name, uint8(code), strings.ToLower(code.String()))
}

func completionKind(code types.CompletionCode) error {
	switch code {
	case types.CodeNodeBusy, types.CodeProcessTimeout, types.CodeOutOfSpace,
		types.CodeCannotProvideResponseSDRRInUpdate, types.CodeCannotProvideResponseFirmwareUpdate,
		types.CodeCannotProvideResponseBMCInitialize:
		return ErrBusy
	case types.CodeInsufficientPrivilege:
		return ErrAuth
	case types.CodeInvalidCommand, types.CodeInvalidCommandForLUN, types.CodeParameterOutOfRange,
		types.CodeRequestDataFieldInvalid, types.CodeIllegalCommand, types.CodeParameterNotSupported,
		types.CodeSubFnDisabled:
		return ErrUnsupported
	default:
		return ErrRefused
	}
}

// state implements driver: Get Chassis Status (IPMI 2.0, section 28.2).
func (d *ipmi) state(ctx context.Context) (State, error) {
	data, err := d.command(ctx, commandOf(types.CommandGetChassisStatus))
	if err != nil {
		return StateUnknown, err
	}

	switch {
	case len(data) == 0:
		return StateUnknown, nil
	case data[0]&1 != 0:
		return StateOn, nil
	default:
		return StateOff, nil
	}
}

// act implements driver: Chassis Control (IPMI 2.0, section 28.3).
func (d *ipmi) act(ctx context.Context, action Action) error {
	control, ok := map[Action]byte{Off: 0, On: 1, Cycle: 2, Reset: 3, NMI: 4, Soft: 5}[action]
	if !ok {
		return fail(ErrUnsupported, "IPMI has no %s", action)
	}

	c := commandOf(types.CommandChassisControl, control).asOperator()
	c.once = action == Cycle || action == Reset || action == NMI

	_, err := d.command(ctx, c)

	return err
}

// identify implements driver: Get System GUID (IPMI 2.0, section 22.14).
func (d *ipmi) identify(ctx context.Context) (identity, error) {
	data, err := d.command(ctx, commandOf(types.CommandGetSystemGUID))

	switch {
	case isKind(err, ErrUnsupported), isKind(err, ErrRefused), err == nil && len(data) < 16:
		return nil, nil
	case err != nil:
		return nil, err
	default:
		return identityFromBytes([16]byte(data)), nil
	}
}

// info implements driver. A controller that has no FRU inventory, or no UUID to
// tell, leaves these fields empty.
func (d *ipmi) info(ctx context.Context) (Info, error) {
	device, err := d.command(ctx, commandOf(types.CommandGetDeviceID))
	if err != nil {
		return Info{}, err
	}

	id, err := d.identify(ctx)
	if err != nil {
		return Info{}, err
	}

	info := Info{Protocol: ProtocolIPMI, Version: "2.0", UUID: id.text(d.target.UUID), AddressInUse: d.address}
	info.readDeviceID(device)

	if raw, err := d.session.client.GetFRUData(ctx, 0); err == nil {
		info.readFRU(raw)
	}

	return info, nil
}

// readDeviceID reads Get Device ID (IPMI 2.0, table 20-2).
func (i *Info) readDeviceID(data []byte) {
	if len(data) < 9 {
		return
	}

	i.Firmware = fmt.Sprintf("%d.%02x", data[2]&0x7f, data[3])

	if manufacturer := types.OEM(uint32(data[6]) | uint32(data[7])<<8 | uint32(data[8]&0x0f)<<16); manufacturer != 0 {
		i.Vendor = manufacturer.String()
	}
}

// readFRU reads the product and board areas (FRU Information Storage
// Definition 1.0, sections 11 and 12).
func (i *Info) readFRU(raw []byte) {
	fru, err := types.ParseFRU(raw)
	if err != nil {
		return
	}

	if p := fru.ProductInfoArea; p != nil {
		i.Vendor = cmp.Or(plain(p.Manufacturer), i.Vendor)
		i.Model, i.Serial = plain(p.Name), plain(p.SerialNumber)
	}

	if b := fru.BoardInfoArea; b != nil {
		i.Vendor = cmp.Or(i.Vendor, plain(b.Manufacturer))
		i.Model, i.Serial = cmp.Or(i.Model, plain(b.ProductName)), cmp.Or(i.Serial, plain(b.SerialNumber))
	}
}

func plain(field []byte) string { return strings.Trim(string(field), " \x00") }
