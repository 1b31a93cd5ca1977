package power

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Prober finds out what answers at an address.
type Prober interface {
	// Probe asks what the target is, and reads only. Without a login first: RMCP
	// ping (ASF 2.0, 3.2.4.2), channel authentication capabilities and cipher
	// suites (IPMI 2.0, sections 22.13 and 22.15), and the Redfish service root;
	// both protocols at the same time, unless the target names one. Unless
	// anonymous, it then logs in and asks what Info, State and the abilities tell.
	//
	// The result holds what was learnt, also beside an error. The error says what
	// failed and ProbeResult.Layer where; both are zero where nothing did. A dark
	// address takes the whole time of the context (DefaultTimeout where it has no
	// deadline), two sockets and no memory to speak of, so many may be probed at
	// once. Nothing that an earlier call found out is used, and nothing that
	// failed earlier keeps it from asking.
	Probe(ctx context.Context, target Target, anonymous bool) (ProbeResult, error)
}

var _ Prober = (*Dialer)(nil)

// ProbeResult is what a probe learnt. What it did not learn is zero.
type ProbeResult struct {
	// Protocol is the one that a conversation with the target speaks; empty:
	// nothing answered.
	Protocol Protocol
	// Version is the protocol's: "2.0", "1.15.0".
	Version string
	// Address is host:port that answered in that protocol.
	Address string
	// IPMI and Redfish tell which of them answered without a login, whichever is
	// preferred.
	IPMI, Redfish bool
	// Suites are the RMCP+ cipher suites that the controller lists, in its order;
	// none where it does not tell.
	Suites []int
	// Suite is the one that the login used.
	Suite int
	// Certificate is what Redfish showed, as Fingerprint writes it; empty over
	// plain HTTP, and where Redfish did not answer.
	Certificate string

	Vendor, Model, Firmware, Serial string
	// UUID is the system's, as in Info; unless logged in it stays empty (a
	// Redfish service root has the service's own).
	UUID string

	// LoggedIn tells that the credentials were taken.
	LoggedIn bool
	// Power is the state of the system, StateUnknown where it is not told.
	Power State
	// Boot and Console are whether there is a boot override and a serial console.
	Boot, Console Support
	// Health is the system's own judgement of itself.
	Health Health
	// Took is how long the probe lasted.
	Took time.Duration
	// Layer is where it failed; LayerNone: nowhere.
	Layer Layer
	// Notes are for people, one sentence each without a full stop: "the boot
	// override goes through /redfish/v1/Systems/1/SD and takes effect with the
	// next reset".
	Notes []string
}

// Support is whether a controller can do something.
type Support int

// The answers. SupportUnknown: it was not found out.
const (
	SupportUnknown Support = iota
	SupportNo
	SupportYes
)

// String returns "?", "no" or "yes".
func (s Support) String() string {
	switch s {
	case SupportNo:
		return "no"
	case SupportYes:
		return "yes"
	default:
		return "?"
	}
}

// Layer is what of a probe failed.
type Layer string

// The layers, from the network up.
const (
	LayerNone Layer = ""
	// LayerRoute: there is no way to the address, its name does not resolve, or
	// the host says that nothing listens there (ErrUnreachable).
	LayerRoute Layer = "no route"
	// LayerSilent: nothing came back (ErrUnreachable).
	LayerSilent Layer = "silent"
	// LayerProtocol: something answers that is no controller (ErrUnsupported).
	LayerProtocol Layer = "protocol"
	// LayerTLS: the handshake failed or the certificate is not accepted.
	LayerTLS Layer = "tls"
	// LayerLogin: user or password are refused, or no session was free (ErrAuth,
	// ErrBusy).
	LayerLogin Layer = "login"
	// LayerPrivilege: the user is known but may not do what is needed (ErrAuth).
	LayerPrivilege Layer = "privilege"
	// LayerSystem: the controller has no system, or it cannot be told which is
	// meant, or it is another machine than the target's (ErrUnsupported,
	// ErrAmbiguous).
	LayerSystem Layer = "no system"
)

// probeGrace is how long the slower protocol is waited for once the other has
// answered.
const probeGrace = time.Second

// Probe implements Prober.
func (d *Dialer) Probe(ctx context.Context, target Target, anonymous bool) (result ProbeResult, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}

	target = complete(target)
	p := &probe{dialer: d, target: target, protocol: d.protocol(target)}

	since := time.Now()
	err = p.run(ctx, anonymous)
	p.result.Took = time.Since(since)

	return p.result, blame(target, "probe", err)
}

// probe is one Probe under way.
type probe struct {
	dialer   *Dialer
	target   Target
	protocol Protocol
	result   ProbeResult
}

func (p *probe) run(ctx context.Context, anonymous bool) error {
	if p.target.Address == "" {
		p.result.Layer = LayerRoute

		return fail(ErrUnreachable, "the address is missing")
	}

	if err := p.greet(ctx); err != nil {
		p.result.Layer = layerOf(err)

		return err
	}

	if anonymous {
		return nil
	}

	if err := p.logIn(ctx); err != nil {
		p.result.Layer = layerOf(err)

		return err
	}

	return nil
}

// layerOf says where a failure lies.
func layerOf(err error) Layer {
	var f *failure

	switch {
	case !errors.As(err, &f):
		return LayerSilent
	case f.privilege:
		return LayerPrivilege
	case isTLS(err):
		return LayerTLS
	case f.kind == ErrUnreachable && isRoute(err):
		return LayerRoute
	case f.kind == ErrUnreachable:
		return LayerSilent
	case f.kind == ErrAuth, f.kind == ErrBusy:
		return LayerLogin
	case f.noSystem, f.kind == ErrAmbiguous:
		return LayerSystem
	default:
		return LayerProtocol
	}
}

// isTLS tells whether the handshake failed. crypto/tls shows an alert as the
// network's error with one of two operations of its own.
func isTLS(err error) bool {
	var (
		alert  *net.OpError
		record tls.RecordHeaderError
	)

	return errors.Is(err, errCertificate) || errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &record) ||
		errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error")
}

// isRoute tells whether the network itself said that it cannot be done.
func isRoute(err error) bool {
	var name *net.DNSError

	for _, number := range []syscall.Errno{
		syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EACCES, syscall.EINVAL,
	} {
		if errors.Is(err, number) {
			return true
		}
	}

	return errors.As(err, &name) && !name.IsTimeout
}
