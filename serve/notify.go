package serve

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifyService tells the service manager that everything is bound and started,
// and then, where it watches us, that we live; without one it does nothing
// (sd_notify(3)).
func (s *Server) notifyService(ctx context.Context) {
	s.notify(daemon.SdNotifyReady)

	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("the service manager's watchdog is not understood", "error", err)
	}

	if every <= 0 {
		<-ctx.Done()
		s.notify(daemon.SdNotifyStopping)

		return
	}

	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(every / 3):
			_, _ = s.ctrl.Machines() // a deadlock would hold us here, and the watchdog then ends us
			s.notify(daemon.SdNotifyWatchdog)
		}
	}

	s.notify(daemon.SdNotifyStopping)
}

func (s *Server) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("the service manager was not told", "state", state, "error", err)
	}
}
