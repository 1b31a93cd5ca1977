package power

import (
	"cmp"
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"
)

// Options are the ways of a Dialer. The zero value is the default.
type Options struct {
	// Redfish says when ProtocolAuto speaks Redfish.
	Redfish RedfishUse
	// PlainHTTP speaks Redfish over HTTP instead of HTTPS.
	PlainHTTP bool
	// VerifyTLS refuses Redfish certificates that no authority of Roots vouches
	// for. Without it any is accepted: controllers sign their own.
	VerifyTLS bool
	// Roots are the authorities of VerifyTLS and CheckCertificate; nil: the
	// system's.
	Roots *x509.CertPool
	// CheckCertificate, where set, has the last word on a Redfish certificate
	// instead of VerifyTLS: verified is nil or why the certificate is not
	// trusted. An error of it refuses the connection. It is called on every
	// handshake, from several goroutines.
	CheckCertificate func(target Target, certificate *x509.Certificate, verified error) error
	// Fallback, where set, is told when ProtocolAuto comes to speak IPMI although
	// Redfish answers, with why: the login or the certificate is not accepted, an
	// ErrAuth. That is told once; nil then tells that Redfish, which is asked again
	// every 5 min, has let us in. It must not wait, and is called from several
	// goroutines.
	Fallback func(target Target, reason error)
	// KeepBootMode leaves the firmware mode out of Redfish boot overrides.
	KeepBootMode bool
	// IPMIMode is what ModeKeep means over IPMI, which always says one;
	// ModeKeep here is ModeUEFI.
	IPMIMode Mode
	// IPMIGap is the shortest time between two commands in an IPMI session: some
	// controllers freeze under bursts. 0 means 20 ms, a negative value none.
	IPMIGap time.Duration
	// Log is told of fallbacks and of what was read back differently; nil: nobody is.
	Log *slog.Logger
}

// RedfishUse says when ProtocolAuto speaks Redfish.
type RedfishUse int

// The uses.
const (
	// RedfishWhenAvailable prefers Redfish where it answers.
	RedfishWhenAvailable RedfishUse = iota
	// RedfishAlways never falls back to IPMI.
	RedfishAlways
	// RedfishNever leaves Redfish to the targets that name it.
	RedfishNever
)

// Dialer opens conversations. It remembers of each controller what is worth
// asking only once. It is safe for concurrent use.
type Dialer struct {
	opts Options

	mu    sync.Mutex
	hosts map[hostKey]*host
}

var _ Opener = (*Dialer)(nil)

// NewDialer makes a Dialer.
func NewDialer(opts Options) *Dialer {
	opts.IPMIGap = cmp.Or(opts.IPMIGap, 20*time.Millisecond)

	if opts.IPMIMode == ModeKeep {
		opts.IPMIMode = ModeUEFI
	}

	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}

	if opts.Fallback == nil {
		opts.Fallback = func(Target, error) {}
	}

	return &Dialer{opts: opts, hosts: map[hostKey]*host{}}
}

// Open starts a conversation. It asks the controller nothing yet; the errors it
// has are those of a target that cannot be meant.
func (d *Dialer) Open(_ context.Context, target Target) (BMC, error) {
	target = complete(target)
	if target.Address == "" {
		return nil, blame(target, "open", fail(ErrUnreachable, "the address is missing"))
	}

	h := d.host(target)

	r, err := d.router(target, h)
	if err != nil {
		return nil, blame(target, "open", err)
	}

	return newConversation(target, h, r, d.opts.Log), nil
}

// complete fills in the defaults of a target.
func complete(target Target) Target {
	target.Port = cmp.Or(target.Port, 623)
	target.RedfishPort = cmp.Or(target.RedfishPort, 443)
	target.Protocol = cmp.Or(target.Protocol, ProtocolAuto)

	return target
}

// router is the way to the target's drivers; h is what is known of its host.
func (d *Dialer) router(target Target, h *host) (router, error) {
	switch protocol := d.protocol(target); protocol {
	case ProtocolIPMI:
		return only{newIPMI(target, h, d.opts), protocol}, nil
	case ProtocolRedfish:
		return only{newRedfish(target, d.opts), protocol}, nil
	case ProtocolQEMU:
		return only{newQEMU(target), protocol}, nil
	case ProtocolAuto:
		return &auto{
			host: h, ipmi: newIPMI(target, h, d.opts), redfish: newRedfish(target, d.opts),
			log:    d.opts.Log.With("bmc", target.Label()),
			notice: func(reason error) { d.opts.Fallback(target, blame(target, "speak Redfish", reason)) },
		}, nil
	default:
		return nil, fail(ErrUnsupported, "protocol %q is not known", protocol)
	}
}

// protocol is the target's, with the use of Redfish in place of auto.
func (d *Dialer) protocol(target Target) Protocol {
	switch {
	case target.Protocol == ProtocolAuto && d.opts.Redfish == RedfishAlways:
		return ProtocolRedfish
	case target.Protocol == ProtocolAuto && d.opts.Redfish == RedfishNever:
		return ProtocolIPMI
	default:
		return target.Protocol
	}
}

// host is what is known of one controller, whoever talks to it.
type host struct {
	queue   queue
	breaker breaker

	mu       sync.Mutex
	suite    int       // the RMCP+ cipher suite that worked last; 0: none yet
	refused  bool      // Redfish answered and did not let us in, and that was told
	redfish  bool      // whether Redfish is to be spoken,
	askAgain time.Time // and when that answer goes stale
}

type hostKey struct {
	address           string
	port, redfishPort int
}

func (d *Dialer) host(t Target) *host {
	d.mu.Lock()
	defer d.mu.Unlock()

	key := hostKey{t.Address, t.Port, t.RedfishPort}
	if d.hosts[key] == nil {
		d.hosts[key] = &host{}
	}

	return d.hosts[key]
}

// endpoint is host:port, with brackets where IPv6 needs them.
func endpoint(address string, port int) string {
	return net.JoinHostPort(address, strconv.Itoa(port))
}

// only is the router of a target whose protocol is given.
type only struct {
	driver   driver
	protocol Protocol
}

func (o only) route(context.Context) (driver, error)     { return o.driver, nil }
func (o only) outcome(_ driver, err error) (bool, error) { return false, err }
func (o only) serialPort(context.Context) (serialPort, error) {
	if port, ok := o.driver.(serialPort); ok {
		return port, nil
	}

	return nil, fail(ErrUnsupported, "serial over LAN is IPMI's, and this target is spoken to in %s alone", o.protocol)
}
func (o only) close(ctx context.Context) error { return o.driver.close(ctx) }
