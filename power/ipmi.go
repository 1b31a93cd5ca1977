package power

import (
	"context"
	"errors"
	"log/slog"
	"slices"
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
	// level is the highest privilege that the session may have.
	level types.PrivilegeLevel

	session *ipmiSession
	logins  int
}

func newIPMI(target Target, h *host, opts Options) *ipmi {
	return &ipmi{
		target: target, address: endpoint(target.Address, target.Port), host: h,
		gap: opts.IPMIGap, mode: opts.IPMIMode, log: opts.Log.With("bmc", target.Label()),
		level: types.PrivilegeLevelOperator,
	}
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
		session, err := openIPMI(ctx, d.target, suite, d.level)
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

// state implements driver: Get Chassis Status (IPMI 2.0, section 28.2).
func (d *ipmi) state(ctx context.Context) (State, error) {
	data, err := d.command(ctx, commandOf(types.CommandGetChassisStatus))
	if err != nil {
		return StateUnknown, err
	}

	return chassisPower(data), nil
}

// chassisPower reads bit 0 of Get Chassis Status.
func chassisPower(status []byte) State {
	switch {
	case len(status) == 0:
		return StateUnknown
	case status[0]&1 != 0:
		return StateOn
	default:
		return StateOff
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
