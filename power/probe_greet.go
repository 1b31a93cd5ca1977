package power

import (
	"context"
	"errors"
	"slices"
	"time"
)

// greet asks both protocols, or the one that is named, who they are, without a
// login. It fails where neither answers.
func (p *probe) greet(ctx context.Context) error {
	switch p.protocol {
	case ProtocolIPMI, ProtocolRedfish, ProtocolAuto:
	case ProtocolQEMU:
		p.result.Protocol = ProtocolQEMU

		return nil
	default:
		return fail(ErrUnsupported, "protocol %q is not known", p.protocol)
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	type answer struct {
		protocol Protocol
		greeting greeting
		err      error
	}

	asked := map[Protocol]func(context.Context, Target, Options) (greeting, error){
		ProtocolIPMI: greetIPMI, ProtocolRedfish: greetRedfish,
	}
	if p.protocol != ProtocolAuto {
		asked = map[Protocol]func(context.Context, Target, Options) (greeting, error){p.protocol: asked[p.protocol]}
	}

	answers := make(chan answer, len(asked))
	for protocol, ask := range asked {
		go func() {
			g, err := ask(ctx, p.target, p.dialer.opts)
			answers <- answer{protocol, g, err}
		}()
	}

	greetings := map[Protocol]greeting{}
	failures := map[Protocol]error{}

	for range asked {
		a := <-answers
		if a.err != nil {
			failures[a.protocol] = a.err

			continue
		}

		greetings[a.protocol] = a.greeting
		// The other one is not worth the whole time now.
		defer time.AfterFunc(probeGrace, cancel).Stop()
	}

	return p.settle(greetings, failures)
}

// greeting is what a protocol tells without a login.
type greeting struct {
	version, vendor, product string
	suites                   []int
	certificate              string
}

// settle chooses the protocol that answered, Redfish before IPMI, or the
// failure that tells most.
func (p *probe) settle(greetings map[Protocol]greeting, failures map[Protocol]error) error {
	ipmi, isIPMI := greetings[ProtocolIPMI]
	redfish, isRedfish := greetings[ProtocolRedfish]
	r := &p.result
	r.IPMI, r.Redfish, r.Suites = isIPMI, isRedfish, ipmi.suites

	switch {
	case isRedfish:
		r.Protocol, r.Version = ProtocolRedfish, redfish.version
		r.Vendor, r.Model = redfish.vendor, redfish.product
		r.Certificate = redfish.certificate
		r.Address = endpoint(p.target.Address, p.target.RedfishPort)
	case isIPMI:
		r.Protocol, r.Version = ProtocolIPMI, ipmi.version
		r.Address = endpoint(p.target.Address, p.target.Port)

		if err := failures[ProtocolRedfish]; err != nil && layerOf(err) == LayerTLS {
			r.Notes = append(r.Notes, "Redfish: "+err.Error())
		}
	default:
		return worst(failures)
	}

	return nil
}

// worst is the failure that got furthest up.
func worst(failures map[Protocol]error) error {
	order := []Layer{LayerTLS, LayerProtocol, LayerRoute, LayerSilent}
	rank := func(err error) int { return slices.Index(order, layerOf(err)) }

	redfish, ipmi := failures[ProtocolRedfish], failures[ProtocolIPMI]

	switch {
	case ipmi == nil:
		return redfish
	case redfish == nil || rank(ipmi) < rank(redfish):
		return ipmi
	case rank(ipmi) > rank(redfish):
		return redfish
	case layerOf(ipmi) == LayerSilent:
		return bothSilent(redfish, ipmi)
	default:
		return redfish
	}
}

// bothSilent says it of both.
func bothSilent(redfish, ipmi error) error {
	var f *failure
	if !errors.As(redfish, &f) {
		return ipmi
	}

	told := *f
	told.detail += "; " + ipmi.Error()

	return &told
}

// greetRedfish reads the service root, which needs no login (DSP0266, 13.3.2).
func greetRedfish(ctx context.Context, target Target, opts Options) (greeting, error) {
	d := newRedfish(target, opts)
	defer d.transport.CloseIdleConnections()

	if err := d.probe(ctx); err != nil {
		return greeting{}, err
	}

	return greeting{version: d.root.Version, vendor: d.root.Vendor, product: d.root.Product, certificate: d.certificate}, nil
}
