package serve

import (
	"context"
	"time"

	"github.com/bmctl/bmctl/serve/eventlog"
)

// keepEvents begins to write events to --state-dir, and returns what ends it: the
// last events, those of the end itself, are written, unless the disk hangs.
func (s *Server) keepEvents() (end func()) {
	if s.keptIn == "" {
		return func() {}
	}

	log := eventlog.New(eventlog.Config{Dir: s.keptIn, Log: s.log.With("component", "event log"), Notice: s.events.add})
	s.events.keepIn(log)

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})

	go func() {
		defer close(done)

		log.Run(ctx)
	}()

	return func() {
		cancel()

		select {
		case <-done:
		case <-time.After(drainTime):
			s.log.Error("the last events are not written: the disk does not answer")
		}
	}
}
