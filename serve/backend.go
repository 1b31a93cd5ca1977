package serve

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"

	"github.com/bmctl/bmctl/serve/controllers"
	"github.com/bmctl/bmctl/serve/localapi"
)

// backend answers on the local socket.
type backend struct{ s *Server }

// Machines implements localapi.Backend.
func (b *backend) Machines() localapi.MachineList {
	return localapi.MachineList{APIVersion: localapi.APIVersion, Kind: "MachineList", Items: b.s.ctrl.Machines()}
}

// Machine implements localapi.Backend.
func (b *backend) Machine(id string) (localapi.Machine, error) {
	m, err := b.s.ctrl.View(id)
	if errors.Is(err, controllers.ErrNotFound) {
		return m, fmt.Errorf("%s: %w", id, localapi.ErrNotFound)
	}

	return m, err
}

// Health implements localapi.Backend.
func (b *backend) Health() localapi.Health {
	s := b.s
	connected, since, err := s.ctrl.Knowledge().Connection()
	idle := s.ctrl.Idle()

	h := localapi.Health{
		APIVersion: localapi.APIVersion, Kind: "Health", Version: s.cfg.Version, ProviderID: s.cfg.ID, PID: os.Getpid(),
		Omni: s.cfg.OmniAPIEndpoint, OmniConnected: connected, OmniSince: since,
		Acting: idle == "", ActingReason: idle,
		HTTP: s.machinesSee().String(),
	}

	if err != nil {
		h.OmniError = err.Error()
	}

	addrs := s.boot.Addrs()
	h.DHCP, h.ProxyDHCP, h.TFTP = bound(addrs.DHCP), bound(addrs.ProxyDHCP), bound(addrs.TFTP)

	return h
}

// bound is an address that is listened on, or "".
func bound(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}

	return a.String()
}

// Events implements localapi.Backend.
func (b *backend) Events(ctx context.Context, since uint64) iter.Seq[localapi.Event] {
	return b.s.events.follow(ctx, since)
}

// Release implements localapi.Backend.
func (b *backend) Release(ctx context.Context, id, reason string, by localapi.Peer) error {
	err := b.s.ctrl.Release(ctx, id, reason, by.String())

	switch {
	case errors.Is(err, controllers.ErrNotFound):
		return fmt.Errorf("%s: %w", id, localapi.ErrNotFound)
	case errors.Is(err, controllers.ErrNotHeld):
		return fmt.Errorf("%w: %w", localapi.ErrRefused, err)
	default:
		return err
	}
}
