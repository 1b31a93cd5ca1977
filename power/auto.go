package power

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"
)

// How long the answer to "do you speak Redfish?" holds. Each expires: a
// controller that was restarting when it was asked is asked again.
const (
	redfishYesHolds     = 10 * time.Minute
	redfishNoHolds      = time.Minute
	redfishRefusedHolds = 5 * time.Minute
	redfishProbe        = 3 * time.Second
)

// auto prefers Redfish where it answers and lets us in.
type auto struct {
	host    *host
	ipmi    *ipmi
	redfish *redfish
	log     *slog.Logger
	notice  func(reason error) // Options.Fallback for this target

	// refusal is Redfish's last refusal of the login. Guarded by the queue.
	refusal error
}

// route asks whether Redfish answers, where that is not known.
func (a *auto) route(ctx context.Context) (driver, error) {
	yes, known := a.host.speaksRedfish(time.Now())
	if !known {
		yes = a.probe(ctx)
	}

	if yes {
		return a.redfish, nil
	}

	return a.ipmi, nil
}

// probe looks for the service root, in at most half of the time there is: the
// rest is for IPMI.
func (a *auto) probe(ctx context.Context) bool {
	limit := redfishProbe
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/2)
	}

	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	err := a.redfish.probe(ctx)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return false // nothing was learnt
	}

	a.refusal = nil
	a.host.setRedfish(err == nil, time.Now())

	switch {
	case isKind(err, ErrAuth): // it is there, and its certificate is another one
		a.refused(err, "redfish's certificate is not accepted: speaking IPMI for now")
	case err != nil:
		a.log.Debug("redfish does not answer: speaking IPMI", "reason", err.Error())
	}

	return err == nil
}

// refused notes why Redfish is not spoken for a while, though it answers. It
// is told once, not each time that Redfish was asked again.
func (a *auto) refused(err error, what string) {
	a.refusal = err

	if news := a.host.refusedRedfish(time.Now()); news {
		a.log.Warn(what, "reason", err.Error())
		a.notice(err)
	}
}

// accepted notes that Redfish let us in.
func (a *auto) accepted() {
	if news := a.host.acceptedRedfish(time.Now()); news {
		a.log.Info("redfish lets us in again")
		a.notice(nil)
	}
}

// outcome learns from how a call fared.
func (a *auto) outcome(d driver, err error) (again bool, reported error) {
	switch {
	case d == driver(a.ipmi):
		return false, a.explained(err)
	case err == nil:
		a.accepted()
	case isKind(err, ErrAuth):
		// An agent-made IPMI user may have no Redfish rights.
		a.refused(err, "redfish refused the login: speaking IPMI for now")

		return true, err
	case isKind(err, ErrUnreachable):
		a.host.forgetRedfish()
	}

	return false, err
}

// explained adds to IPMI's failure why Redfish was not used. The login is
// refused where both refuse it, and where nothing of IPMI is there at all; a
// controller that is silent on IPMI may yet let us in.
func (a *auto) explained(err error) error {
	var f, refusal *failure
	if !errors.As(err, &f) || !errors.As(a.refusal, &refusal) {
		return err
	}

	told, other := *f, "; over Redfish: "+refusal.detail
	if errors.Is(f.cause, syscall.ECONNREFUSED) {
		told, other = *refusal, "; over IPMI: "+f.detail
	}

	told.detail += other

	return &told
}

// serialPort implements router: the console is IPMI's, whatever else is spoken.
func (a *auto) serialPort(context.Context) (serialPort, error) { return a.ipmi, nil }

func (a *auto) close(ctx context.Context) error {
	return errors.Join(a.ipmi.close(ctx), a.redfish.close(ctx))
}

func (h *host) speaksRedfish(now time.Time) (yes, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()

	return h.redfish, now.Before(h.askAgain)
}

func (h *host) setRedfish(yes bool, now time.Time) {
	holds := redfishNoHolds
	if yes {
		holds = redfishYesHolds
	}

	h.mu.Lock()
	defer h.mu.Unlock()

	h.redfish, h.askAgain = yes, now.Add(holds)
}

func (h *host) refusedRedfish(now time.Time) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()

	news = !h.refused
	h.redfish, h.refused, h.askAgain = false, true, now.Add(redfishRefusedHolds)

	return news
}

func (h *host) acceptedRedfish(now time.Time) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()

	news = h.refused
	h.redfish, h.refused, h.askAgain = true, false, now.Add(redfishYesHolds)

	return news
}

func (h *host) forgetRedfish() {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.askAgain = time.Time{}
}
