package serve

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/bmctl/bmctl/serve/agent"
	"github.com/bmctl/bmctl/serve/localapi"
)

func (s *Server) newHub() *agent.Hub {
	return agent.New(agent.Config{
		Log:               s.log.With("component", "agent"),
		CallTimeout:       s.cfg.AgentCallTimeout,
		FastWipeTimeout:   s.cfg.AgentFastWipeTimeout,
		ZeroesWipeTimeout: s.cfg.AgentZeroesWipeTimeout,
		TestMode:          s.cfg.AgentTestMode,
		OnChange:          s.agentChanged,
		Admit:             s.admitAgent,
		OnRefused: func(id string, addr netip.Addr, reason string) {
			s.events.add(localapi.Event{At: time.Now(), MachineID: id, Type: "ignored", Text: "agent from " + addr.String() + " refused", Reason: reason})
		},
	})
}

// admitAgent decides whether an agent is believed: one that calls from an address
// which never asked for the machine's boot script may be another machine's.
func (s *Server) admitAgent(id string, addr netip.Addr) error {
	if s.cfg.AgentSourceCheck == "off" || s.ctrl.AskedFrom(id, addr) {
		return nil
	}

	if s.cfg.AgentSourceCheck == "enforce" {
		return fmt.Errorf("%s never asked for the boot script of %s", addr, id)
	}

	s.log.Warn("an agent calls from an address that never asked for its machine's boot script", "machine_id", id, "source", addr.String())
	s.events.add(localapi.Event{
		At: time.Now(), MachineID: id, Type: "agent", Text: "agent calls from " + addr.String(),
		Reason: "that address never asked for the machine's boot script",
	})

	return nil
}

// agentChanged passes a change of a machine's tunnels on. A tunnel that nobody
// has answered on yet is no news.
func (s *Server) agentChanged(id string) {
	connected := s.hub.Connected(id)

	if _, told := s.agents.Load(id); told != connected {
		if connected {
			s.agents.Store(id, true)
		} else {
			s.agents.Delete(id)
		}

		text := "agent gone"
		if connected {
			text = "agent connected"
		}

		s.events.add(localapi.Event{At: time.Now(), MachineID: id, Type: "agent", Text: text})
	}

	s.ctrl.Enqueue(id)
}

// agentsDial is where agents are told to call: host:port, or a URL with TLS.
func (s *Server) agentsDial() string {
	if !s.cfg.TLSEnabled {
		return s.machinesSee().String()
	}

	port := s.cfg.TLSAPIPort
	if s.tlsListener != nil {
		port = s.tlsListener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // a TCP listener
	}

	return "https://" + netip.AddrPortFrom(s.advertise, uint16(port)).String() //nolint:gosec // a port
}
