package cli

import (
	"context"
	"iter"
	"time"

	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/tui"
)

// Events implements tui.Source: serve's events, and while there is no serve the
// changes of the inventory's power.
func (s *tuiSource) Events(ctx context.Context) iter.Seq2[tui.Event, error] {
	return func(yield func(tui.Event, error) bool) {
		for ctx.Err() == nil {
			var err error

			if s.kind != sourceInventory {
				if err = s.serveEvents(ctx, yield); err == nil {
					return
				}
			}

			if s.kind == sourceServe || s.kind == sourceAuto && (!away(err) || len(s.a.file.Hosts) == 0) {
				yield(tui.Event{}, err)

				return
			}

			if !s.inventoryEvents(ctx, yield) {
				return
			}
		}
	}
}

// serveEvents yields serve's events and the changes of the inventory's power. It
// returns nil when the reader wants no more.
func (s *tuiSource) serveEvents(ctx context.Context, yield func(tui.Event, error) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	events := make(chan localapi.Event)
	ended := make(chan error, 1)

	go func() { ended <- s.listen(ctx, events) }()

	for {
		var event tui.Event

		select {
		case err := <-ended:
			return err
		case event = <-s.inventory.changes:
		case e := <-events:
			event = viewEvent(e)
		}

		if !yield(event, nil) {
			return nil
		}
	}
}

func viewEvent(e localapi.Event) tui.Event {
	return tui.Event{
		At: e.At, MachineID: e.MachineID, MAC: e.MAC, Type: e.Type, Text: e.Text, Reason: e.Reason,
		Address: e.Address, Interface: e.Interface, Arch: e.Arch, File: e.File, Bytes: e.Bytes,
		Duration: time.Duration(e.DurationSeconds * float64(time.Second)), Decision: e.Decision,
	}
}

// listen passes serve's events on, from where it stopped the last time. The end
// of ctx is no error.
func (s *tuiSource) listen(ctx context.Context, events chan<- localapi.Event) error {
	s.mu.Lock()
	since := s.since
	s.mu.Unlock()

	for event, err := range s.client.Events(ctx, since) {
		if err != nil {
			return err
		}

		s.mu.Lock()
		s.since, s.last[event.MachineID] = event.Seq, event
		s.mu.Unlock()

		select {
		case events <- event:
		case <-ctx.Done():
			return nil
		}
	}

	return nil
}

// inventoryEvents goes on until serve answers, and returns false when the reader
// wants no more.
func (s *tuiSource) inventoryEvents(ctx context.Context, yield func(tui.Event, error) bool) bool {
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()

	for {
		select {
		case <-ctx.Done():
			return false
		case event := <-s.inventory.changes:
			if !yield(event, nil) {
				return false
			}
		case <-ticker.C:
			if s.kind == sourceInventory {
				continue
			}

			if _, err := s.client.Health(ctx); err == nil {
				return true
			}
		}
	}
}
