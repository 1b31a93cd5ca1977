package serve

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/controllers"
	"github.com/bmctl/bmctl/serve/localapi"
)

// backend answers on the local socket.
type backend struct{ s *Server }

// Machines implements localapi.Backend.
func (b *backend) Machines() (localapi.MachineList, error) {
	items, err := b.s.ctrl.Machines()

	return localapi.MachineList{APIVersion: localapi.APIVersion, Kind: "MachineList", Items: items}, kindOf(err)
}

// Machine implements localapi.Backend.
func (b *backend) Machine(id string) (localapi.Machine, error) {
	m, err := b.s.ctrl.View(id)

	return m, kindOf(err)
}

// kindOf adds to a controller's error the kind that crosses the socket. What a BMC
// said has its own already.
func kindOf(err error) error {
	for _, pair := range [...]struct{ from, to error }{
		{controllers.ErrNotFound, localapi.ErrNotFound},
		{controllers.ErrNotHeld, localapi.ErrRefused},
		{controllers.ErrNotPermitted, localapi.ErrRefused},
		{controllers.ErrInCluster, localapi.ErrInCluster},
		{controllers.ErrNotYet, localapi.ErrNotYet},
	} {
		if errors.Is(err, pair.from) {
			return &localapi.RemoteError{Kind: pair.to, Message: err.Error()}
		}
	}

	return err
}

// Health implements localapi.Backend.
func (b *backend) Health() localapi.Health {
	s := b.s
	connected, since, err := s.ctrl.Knowledge().Connection()
	idle := s.ctrl.Idle()

	h := localapi.Health{
		APIVersion: localapi.APIVersion, Kind: "Health", Version: s.cfg.Version, ProviderID: s.cfg.ID, PID: os.Getpid(),
		Omni: s.cfg.OmniAPIEndpoint, OmniConnected: connected, OmniSince: since, OmniRetryAt: s.ctrl.Knowledge().RetryAt(),
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

// History implements localapi.Historian. A part of the log that cannot be read is
// missing from the answer, which is logged.
func (b *backend) History(query localapi.HistoryQuery) ([]localapi.Event, error) {
	events, err := b.s.events.history(query)
	if err != nil {
		b.s.log.Warn("the history is not complete", "error", err)
	}

	return events, nil
}

// Release implements localapi.Backend.
func (b *backend) Release(ctx context.Context, id, reason string, by localapi.Peer) error {
	return kindOf(b.s.ctrl.Release(ctx, id, reason, by.String()))
}

// Power implements localapi.Backend.
func (b *backend) Power(ctx context.Context, id string, act localapi.PowerRequest, by localapi.Peer) error {
	order, err := personAct(act, by)
	if err != nil {
		return fmt.Errorf("%w: %w", localapi.ErrInvalid, err)
	}

	return kindOf(b.s.ctrl.Power(ctx, id, order))
}

// personAct reads a request's words.
func personAct(r localapi.PowerRequest, by localapi.Peer) (controllers.PersonAct, error) {
	act := controllers.PersonAct{InCluster: r.InCluster, By: by.String()}

	actions := map[string]power.Action{
		"": 0, "on": power.On, "off": power.Off, "soft": power.Soft, "cycle": power.Cycle, "reset": power.Reset, "nmi": power.NMI,
	}
	devices := map[string]power.Device{"pxe": power.DevicePXE, "disk": power.DeviceDisk, "bios": power.DeviceSetup, "none": power.DeviceNone}
	modes := map[string]power.Mode{"": power.ModeKeep, "keep": power.ModeKeep, "uefi": power.ModeUEFI, "bios": power.ModeBIOS}

	var ok bool
	if act.Action, ok = actions[r.Action]; !ok {
		return act, fmt.Errorf("action %q: want on, off, soft, cycle, reset or nmi", r.Action)
	}

	if r.Boot == "" {
		if act.Action == 0 {
			return act, errors.New("neither an action nor a boot override")
		}

		return act, nil
	}

	device, knownDevice := devices[r.Boot]
	mode, knownMode := modes[r.Mode]

	if !knownDevice || !knownMode {
		return act, fmt.Errorf("boot %q, mode %q: want pxe, disk, bios or none, and uefi, bios or keep", r.Boot, r.Mode)
	}

	act.Boot = &power.Boot{Device: device, Mode: mode, Persistent: r.Persistent}

	return act, nil
}
