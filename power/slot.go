package power

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	// slotPatience is how long a target of which nothing is heard keeps its slot.
	slotPatience = 500 * time.Millisecond
	// mostWithout is how many targets of Each may wait for an answer without a
	// slot: each of them has a socket or two.
	mostWithout = 512
)

// slot is the place of one target of Each among those that are visited at a
// time. A target that is silent from the start lends it to another one; should it
// answer after all, it takes a slot again before it goes on. What was heard once
// keeps its slot until the end: acts under way are never more than slots.
//
// A nil *slot is that of a call outside of Each, which needs none.
type slot struct {
	places chan struct{} // one token for each slot that is taken

	mu       sync.Mutex
	taken    bool
	heard    bool
	patience *time.Timer
}

type slotKey struct{}

func withSlot(ctx context.Context, s *slot) context.Context {
	return context.WithValue(ctx, slotKey{}, s)
}

// slotOf is the slot of the target that the call is for, or nil.
func slotOf(ctx context.Context) *slot {
	s, _ := ctx.Value(slotKey{}).(*slot)

	return s
}

// take waits for a slot, where there is none.
func (s *slot) take(ctx context.Context) error {
	if s == nil || s.has() {
		return nil
	}

	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		return fail(ErrBusy, "others were asked until the time was up").because(ctx.Err())
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.taken { // another call of the same target was quicker
		<-s.places
	}

	s.taken = true

	return nil
}

func (s *slot) has() bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.taken
}

// listen begins to wait for the target's first answer.
func (s *slot) listen() {
	if s == nil {
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	switch {
	case s.heard:
	case s.patience == nil:
		s.patience = time.AfterFunc(slotPatience, s.lend)
	default:
		s.patience.Reset(slotPatience)
	}
}

// lend gives the slot of a silent target to another one.
func (s *slot) lend() {
	s.mu.Lock()
	defer s.mu.Unlock()

	if !s.heard {
		s.giveBack()
	}
}

// answered tells that something of the target was heard.
func (s *slot) answered() {
	if s == nil {
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	s.heard = true
}

// leave ends the visit.
func (s *slot) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.patience != nil {
		s.patience.Stop()
	}

	s.heard = true // the timer may run already
	s.giveBack()
}

// giveBack must be called with the lock held.
func (s *slot) giveBack() {
	if s.taken {
		s.taken = false
		<-s.places
	}
}

// audibleConn is a connection whose answers are heard.
type audibleConn struct {
	net.Conn
	slot *slot
}

func (c audibleConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.slot.answered()
	}

	return n, err
}

// dialAudible is a dial whose connection keeps the slot of the target that it is for.
func dialAudible(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}

	return audibleConn{conn, slotOf(ctx)}, nil
}
