package power

import (
	"context"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// examiner is a driver that can tell what its controller is able to.
type examiner interface {
	examine(ctx context.Context) (examination, error)
}

// examination is what a driver finds out for a probe.
type examination struct {
	power         State
	boot, console Support
	health        Health
	notes         []string
}

// logIn asks what needs credentials, in a conversation of its own.
func (p *probe) logIn(ctx context.Context) error {
	h := &host{}
	h.setRedfish(p.result.Redfish, time.Now())

	r, err := p.dialer.router(p.target, h)
	if err != nil {
		return err
	}

	c := newConversation(p.target, h, r, p.dialer.opts.Log)
	// A session that cannot be ended now ends by the controller's own clock.
	defer func() { _ = c.Close() }()

	if err := c.exchange(ctx, priorityAct, p.identify); err != nil {
		return err
	}

	p.result.LoggedIn, p.result.Suite = true, h.suite
	p.noteRefusal(r)

	if err := c.exchange(ctx, priorityAct, c.knowMachine); err != nil {
		return err
	}

	err = c.exchange(ctx, priorityAct, p.examine)
	if a, ok := r.(*auto); ok && err == nil {
		p.lookForConsole(ctx, a)
	}

	return err
}

// identify fills in what Info tells.
func (p *probe) identify(ctx context.Context, d driver) error {
	info, err := d.info(ctx)
	if err != nil {
		return err
	}

	r := &p.result
	r.Protocol, r.Address = info.Protocol, info.AddressInUse
	r.Version, r.Vendor, r.Model = info.Version, info.Vendor, info.Model
	r.Firmware, r.Serial, r.UUID = info.Firmware, info.Serial, info.UUID

	if d, ok := d.(*redfish); ok {
		r.Certificate = d.certificate // of whom the login went to
	}

	return nil
}

// noteRefusal tells people that they are let in over IPMI alone.
func (p *probe) noteRefusal(r router) {
	if a, ok := r.(*auto); ok && a.refusal != nil {
		p.result.Notes = append(p.result.Notes, "Redfish refused the login: "+a.refusal.Error())
	}
}

func (p *probe) examine(ctx context.Context, d driver) error {
	e, ok := d.(examiner)
	if !ok {
		state, err := d.state(ctx)
		p.result.Power, p.result.Boot, p.result.Console = state, SupportUnknown, SupportNo

		return err
	}

	found, err := e.examine(ctx)
	r := &p.result
	r.Power, r.Boot, r.Console, r.Health = found.power, found.boot, found.console, found.health
	r.Notes = append(r.Notes, found.notes...)

	return err
}

// lookForConsole asks IPMI for the console of a controller that speaks both:
// that is where Console goes.
func (p *probe) lookForConsole(ctx context.Context, a *auto) {
	if p.result.Protocol != ProtocolRedfish || !p.result.IPMI {
		return
	}

	limit := 2 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/2)
	}

	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	console, notes, err := a.ipmi.examineConsole(ctx)
	p.result.Console = console
	p.result.Notes = append(p.result.Notes, notes...)

	if err != nil {
		p.result.Console = SupportUnknown
		p.result.Notes = append(p.result.Notes, "the console is IPMI's, and there: "+err.Error())
	}
}

// examine implements examiner.
func (d *ipmi) examine(ctx context.Context) (e examination, err error) {
	status, err := d.command(ctx, commandOf(types.CommandGetChassisStatus))
	if err != nil {
		return e, err
	}

	e.power, e.health = chassisPower(status), chassisHealth(status)

	if e.console, e.notes, err = d.examineConsole(ctx); err != nil {
		return e, err
	}

	_, err = d.command(ctx, commandOf(types.CommandGetSystemBootOptions, bootFlags, 0, 0).asOperator())
	switch {
	case err == nil:
		e.boot = SupportYes
	case isKind(err, ErrUnsupported):
		e.boot, err = SupportNo, nil
	}

	return e, err
}

// chassisHealth reads the fault bits of Get Chassis Status (IPMI 2.0, table
// 28-3): overload and power faults in the first byte, drive and cooling in the third.
func chassisHealth(status []byte) Health {
	const powerFaults, otherFaults = 0x1a, 0x0c

	switch {
	case len(status) < 3:
		return HealthUnknown
	case status[0]&powerFaults != 0 || status[2]&otherFaults != 0:
		return HealthCritical
	default:
		return HealthOK
	}
}

// examineConsole asks whether the channel carries serial over LAN, and whether
// that is switched on (IPMI 2.0, section 24.8, and table 26-5, parameter 1).
func (d *ipmi) examineConsole(ctx context.Context) (Support, []string, error) {
	const channelSelf, enabledParameter, enabled = 0x0e, 1, 0x01

	payloads, err := d.command(ctx, commandOf(types.CommandGetChannelPayloadSupport, channelSelf))

	switch {
	case isKind(err, ErrUnsupported), isKind(err, ErrRefused), err == nil && len(payloads) == 0:
		return SupportUnknown, nil, nil
	case err != nil:
		return SupportUnknown, nil, err
	case payloads[0]&(1<<types.PayloadTypeSOL) == 0:
		return SupportNo, nil, nil
	}

	data, err := d.command(ctx, commandOf(types.CommandGetSOLConfigParam, channelSelf, enabledParameter, 0, 0).asOperator())

	switch {
	case isKind(err, ErrUnreachable), isKind(err, ErrAuth):
		return SupportYes, nil, err
	case err == nil && len(data) > 1 && data[1]&enabled == 0:
		return SupportNo, []string{"serial over LAN is there, but switched off"}, nil
	default:
		return SupportYes, nil, nil
	}
}

// examine implements examiner.
func (d *redfish) examine(ctx context.Context) (e examination, err error) {
	s, err := d.system(ctx)
	if err != nil {
		return e, err
	}

	e.power, e.console = redfishPower(s.PowerState), SupportNo

	if e.health = healthOf(s.Status.HealthRollup); e.health == HealthUnknown {
		e.health = s.Status.health()
	}

	settings, err := d.settings(ctx, s)

	switch {
	case err != nil:
	case settings.Boot.has(overrideTarget):
		e.boot = SupportYes
		e.notes = append(e.notes, fmt.Sprintf("the boot override goes through %s and takes effect with the next reset", settings.Path))
	case s.Boot.has(overrideTarget):
		e.boot = SupportYes
	default:
		e.boot = SupportNo
	}

	return e, err
}
