package agent

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/jhump/grpctunnel"
	agentpb "github.com/siderolabs/talos-metal-agent/api/agent"
)

// tunnel is one open tunnel and what its Hellos told.
//
// Order is kept by the hub's count of opened tunnels, not by the wall clock,
// because the question is always the same: did the host at the other end answer
// after that other tunnel had been opened?
type tunnel struct {
	id      string
	addr    netip.AddrPort
	since   time.Time
	opened  uint64 // the hub's count when it was opened, itself included
	channel grpctunnel.TunnelChannel
	agent   agentpb.AgentServiceClient

	// Guarded by the hub's mutex.
	answered uint64 // the hub's count when the newest answered Hello was sent; 0: none
	missed   int    // Hellos in a row without an answer
}

// alive tells whether somebody answered on the tunnel; it is closed before too
// many misses make that untrue.
func (t *tunnel) alive() bool { return t.answered > 0 }

// answers tells whether the latest Hello was answered.
func (t *tunnel) answers() bool { return t.alive() && t.missed == 0 }

// outlived tells whether t has been silent ever since newer was opened and
// newer is alive: what an older boot of the same machine leaves behind.
func (t *tunnel) outlived(newer *tunnel) bool {
	return newer.opened > t.opened && newer.alive() && t.answered < newer.opened
}

// conflict finds two tunnels from different addresses of which the older one
// answered after the newer one, itself alive, had been opened.
func conflict(tunnels []*tunnel) (older, newer netip.Addr, found bool) {
	for i, a := range tunnels {
		for _, b := range tunnels[i+1:] {
			if a.addr.Addr() != b.addr.Addr() && b.alive() && a.answered >= b.opened {
				return a.addr.Addr(), b.addr.Addr(), true
			}
		}
	}

	return older, newer, false
}

// watch says Hello on the tunnel until it ends. It begins with all tunnels of
// the machine, so that leftovers are found out when a new one comes.
func (h *Hub) watch(t *tunnel) {
	h.check(t.id)

	ticker := time.NewTicker(h.cfg.HelloInterval)
	defer ticker.Stop()

	for {
		select {
		case <-t.channel.Done():
			return
		case <-ticker.C:
			h.hello(t)
		}
	}
}

// check says Hello on all tunnels of the machine at once and returns when each
// was answered or given up, within HelloTimeout.
func (h *Hub) check(id string) {
	h.mu.Lock()
	tunnels := slices.Clone(h.tunnels[id])
	h.mu.Unlock()

	var hellos sync.WaitGroup
	for _, t := range tunnels {
		hellos.Go(func() { h.hello(t) })
	}

	hellos.Wait()
}

// hello asks for a sign of life and records what came of it.
func (h *Hub) hello(t *tunnel) {
	h.mu.Lock()
	sent := h.opened
	h.mu.Unlock()

	ctx, cancel := context.WithTimeout(t.channel.Context(), h.cfg.HelloTimeout)
	defer cancel()

	err := detached(ctx, func() error {
		_, err := t.agent.Hello(ctx, &agentpb.HelloRequest{})

		return err
	})
	if h.record(t, sent, err) {
		h.changed(t.id)
	}
}

// record notes the outcome of a Hello that was sent at the given count, closes
// the tunnels that are now known to be dead, and tells whether anything changed.
func (h *Hub) record(t *tunnel, sent uint64, err error) bool {
	h.mu.Lock()
	before, beforeConflict := t.answers(), h.inConflict(t.id)

	if err == nil {
		t.missed, t.answered = 0, max(t.answered, sent)
	} else {
		t.missed++
	}

	dead := t.missed >= maxMisses ||
		t.missed > 0 && slices.ContainsFunc(h.tunnels[t.id], t.outlived)
	change := before != t.answers() || beforeConflict != h.inConflict(t.id)
	h.mu.Unlock()

	if dead && t.channel.Context().Err() == nil {
		h.cfg.Log.Warn("agent does not answer", "machine_id", t.id, "source", t.addr.String(), "reason", err.Error())
		t.channel.Close()
	}

	return change
}

// inConflict is Conflict for callers that hold the mutex.
func (h *Hub) inConflict(id string) bool {
	_, _, found := conflict(h.tunnels[id])

	return found
}

// detached runs call in a goroutine and returns when it does or the context
// ends. A tunnel whose peer stopped reading can hold a sender beyond its
// context; the goroutine then ends with the tunnel.
func detached(ctx context.Context, call func() error) error {
	done := make(chan error, 1)
	go func() { done <- call() }()

	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
