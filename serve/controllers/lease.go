package controllers

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bmctl/bmctl/serve/resources"
)

const (
	leaseRenew = 10 * time.Second
	leaseValid = 30 * time.Second
	// heartbeatValid is for how long Omni shows a provider as connected.
	heartbeatValid = 31 * time.Second
	heartbeatEvery = 30 * time.Second
	// leaseLongGone is how far a lease must have run out for that to be believed at
	// once, whoever's clock it was written by.
	leaseLongGone = 10 * time.Minute
)

// lease keeps two serves of one provider id from acting at once: the holder alone
// acts and sends the provider's heartbeat.
type lease struct {
	c *Controller

	mu         sync.Mutex
	validUntil time.Time
	other      string // who holds it, if not we
	refused    string // Omni's refusal, if it refuses us altogether
	lastBeat   time.Time
	skew       time.Duration // of Omni's clock against ours, beyond what the way explains
	skewed     bool          // that was told

	// The other's lease as last seen, and since when it is so by our clock.
	seen   string
	seenAt time.Time
}

func newLease(c *Controller) *lease { return &lease{c: c} }

// idle says why we may not act; empty: we may.
func (l *lease) idle() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	switch {
	case l.refused != "":
		return l.refused
	case l.other != "":
		return l.other
	case time.Now().After(l.validUntil):
		return "waits for the lease"
	}

	if !l.c.cfg.Takeover {
		return l.foreign()
	}

	return ""
}

// foreign says that another provider with our id is alive: a heartbeat that we
// did not send.
func (l *lease) foreign() string {
	health := l.c.known.health()
	if health == nil || health.TypedSpec().Value.LastHeartbeatTimestamp == nil {
		return ""
	}

	// Its age is Omni's word: the other's clock may be wrong.
	at := health.TypedSpec().Value.LastHeartbeatTimestamp.AsTime()
	if l.c.store.ownHeartbeat(at) || time.Now().Add(l.skew).Sub(health.Metadata().Updated()) >= heartbeatValid {
		return ""
	}

	return "another provider with this id is alive: stop it, or start with --takeover"
}

// run renews the lease until ctx ends, and gives it up then.
func (l *lease) run(ctx context.Context) {
	for ctx.Err() == nil {
		before := l.idle()
		next := l.renew(ctx)

		if after := l.idle(); after != before {
			l.changed(after)
		}

		select {
		case <-ctx.Done():
		case <-time.After(next):
		}
	}
}

func (l *lease) changed(idle string) {
	if idle == "" {
		l.c.log.Info("holding the lease: acting on machines")
	} else {
		l.c.log.Warn("not acting on machines", "reason", idle)
	}

	for _, id := range l.c.known.IDs() {
		l.c.Enqueue(id)
	}
}

// renew takes or renews the lease, sends the heartbeat when it is due, and
// returns when to come again.
func (l *lease) renew(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, leaseRenew)
	defer cancel()

	other, err := l.take(ctx)

	l.mu.Lock()
	l.refused, l.other = refusal(err, l.c.cfg.ProviderID), other

	if err == nil && other == "" {
		l.validUntil = time.Now().Add(leaseValid)
	}
	l.mu.Unlock()

	if err != nil {
		l.c.log.Debug("lease not renewed", "error", err)

		return time.Second
	}

	l.c.known.Touch()

	if idle := l.idle(); idle != "" {
		return time.Second
	}

	if time.Since(l.lastBeat) >= heartbeatEvery-leaseRenew/2 {
		if err = l.beat(ctx); err != nil {
			l.c.log.Warn("heartbeat not sent", "error", err)
		}
	}

	return leaseRenew
}

// NotRegistered tells whether Omni refused because it knows no infra provider of
// our id, as after somebody has deleted it there.
func NotRegistered(err error) bool {
	return status.Code(err) == codes.PermissionDenied && strings.Contains(err.Error(), "not registered")
}

// refusal is Omni's refusal in words that say what to do, or "".
func refusal(err error, provider string) string {
	switch status.Code(err) {
	case codes.PermissionDenied:
		if NotRegistered(err) {
			return fmt.Sprintf("Omni does not know an infra provider %q (any more): create it there, with a key for this serve", provider)
		}

		return "Omni refuses our key: " + status.Convert(err).Message()
	case codes.Unauthenticated:
		return "Omni does not accept our key: " + status.Convert(err).Message()
	default:
		return ""
	}
}

// take takes or renews the lease, or says who has it.
func (l *lease) take(ctx context.Context) (other string, err error) {
	me := l.c.store.holder()

	var sent time.Time

	written, err := l.c.cfg.State.ModifyWithResult(ctx, resources.NewLease(l.c.cfg.ProviderID), func(r resource.Resource) error {
		spec := r.(*resources.Lease).TypedSpec().Value //nolint:forcetypeassert // the state returns the type that was asked for
		other = ""

		if spec.Holder != me && spec.Holder != "" && !l.c.cfg.Takeover && l.alive(r, spec.Expires.AsTime()) {
			other = fmt.Sprintf("another serve, on %s, holds the lease until %s: stop it, or start with --takeover",
				spec.Host, spec.Expires.AsTime().UTC().Format(time.TimeOnly+"Z"))

			return nil
		}

		sent = time.Now()
		spec.Holder, spec.Host, spec.Expires = me, l.c.cfg.Host, timestamppb.New(sent.Add(leaseValid))

		return nil
	}, state.WithUpdateOwner(""))
	if err == nil && other == "" {
		l.compareClocks(sent, written.Metadata().Updated())
	}

	return other, err
}

// alive tells whether another's lease is in force. It is as long as it is renewed,
// whatever its holder's clock says, and for the time of a lease after that by ours.
func (l *lease) alive(r resource.Resource, expires time.Time) bool {
	if now := r.Metadata().Version().String(); now != l.seen {
		l.seen, l.seenAt = now, time.Now()
	}

	return time.Since(l.seenAt) < leaseValid && time.Since(expires) < leaseLongGone
}

// beat sends the provider's heartbeat.
func (l *lease) beat(ctx context.Context) error {
	at := time.Now().Truncate(time.Microsecond)

	if err := l.c.store.beat(at); err != nil {
		l.c.log.Warn("state is not kept over a restart", "error", err)
	}

	err := modify(ctx, l.c, infra.NewProviderHealthStatus(l.c.cfg.ProviderID), resources.ProviderHealthStatusController, func(r *infra.ProviderHealthStatus) {
		r.TypedSpec().Value.LastHeartbeatTimestamp = timestamppb.New(at)
		r.TypedSpec().Value.Error = ""
	})
	if err == nil {
		l.lastBeat = time.Now()
	}

	return err
}
