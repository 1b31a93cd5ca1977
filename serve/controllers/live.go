package controllers

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/policy"
)

// live is what we know of a machine beside the resources: it is lost with the
// process and found out again. It is guarded by Controller.mu.
type live struct {
	// power as last read, when, and how long the reading took.
	power   policy.Power
	powerAt time.Time
	latency time.Duration
	// lost: so many readings failed that power is not to be believed any more.
	lost bool
	// misses counts failed readings in a row, since firstMiss; bmcErr is the last.
	misses    int
	firstMiss time.Time
	bmcErr    string
	// distrustBMC is why acts through the stored BMC access would be wrong.
	distrustBMC string
	protocol    power.Protocol
	// polling: a reading is under way or waits for a slot; pollAt is when one is
	// wanted besides the regular ones, after an act.
	polling bool
	pollAt  time.Time

	// agentGoneAt is since when no agent is connected; zero while one is.
	agentGoneAt time.Time
	agentSince  time.Time

	// job is the act that runs, cancel ends it; wiped is a wipe that succeeded
	// and is not recorded yet.
	job      policy.Act
	jobSince time.Time
	cancel   context.CancelFunc
	wiped    *wiped

	// backoffs of acts that failed, by act.
	backoffs map[policy.Act]backoff

	// boot is what the machine last asked for, serial what it then told.
	boot   bootState
	serial string

	bmc      power.BMC
	bmcSpec  string // of the access that bmc was opened with
	lastText string
	lastAt   time.Time

	futureStart time.Time // that was told of
}

// bootState is what was last seen of a machine on the network.
type bootState struct {
	asked     bool // for its script, since start
	stage     string
	stageAt   time.Time
	mac       string
	addr      string
	serial    string // as first seen
	vendor    string // of the system, and its model
	model     string
	firstSeen time.Time
	attempt   attempt
}

// backoff is when an act that failed may be tried again, and why it failed.
type backoff struct {
	failures int
	retryAt  time.Time
	text     string
}

// failed notes a failed act and sets when to try again: full jitter below an
// exponential bound of at most 5 minutes.
func (l *live) failed(act policy.Act, err error) {
	const first, longest = time.Second, 5 * time.Minute

	b := l.backoffs[act]

	bound := longest
	if b.failures < 9 {
		bound = min(longest, first<<b.failures)
	}

	if l.backoffs == nil {
		l.backoffs = map[policy.Act]backoff{}
	}

	l.backoffs[act] = backoff{failures: b.failures + 1, retryAt: time.Now().Add(bound/2 + rand.N(bound/2)), text: err.Error()}
}

// pollAfterAct is how soon after an act the power is read, whatever the act said:
// a machine may fall back, and what a refused or lost order did is not certain.
const pollAfterAct = 5 * time.Second

// idle notes that the act under way is over.
func (l *live) idle() {
	l.job, l.cancel = policy.ActNone, nil
	l.pollAt = time.Now().Add(pollAfterAct)
}

// wait is how long an act that failed must wait; it is not positive if it need not.
func (l *live) wait(act policy.Act) time.Duration { return time.Until(l.backoffs[act].retryAt) }

// failure is what went wrong last and still does, or "".
func (l *live) failure() string {
	var worst backoff

	for _, b := range l.backoffs {
		if b.retryAt.After(worst.retryAt) {
			worst = b
		}
	}

	return worst.text
}

// read notes a power reading.
func (l *live) read(p policy.Power, took time.Duration) {
	l.power, l.powerAt, l.latency, l.lost = p, time.Now(), took, false
	l.misses, l.firstMiss, l.bmcErr, l.distrustBMC = 0, time.Time{}, "", ""
}

// missed notes a reading that failed. One missed poll is not news: the power
// becomes unknown after 3 misses in 90 s.
func (l *live) missed(err error) {
	const misses, age = 3, 90 * time.Second

	if l.misses == 0 {
		l.firstMiss = time.Now()
	}

	l.misses++
	l.bmcErr = err.Error()

	l.lost = l.misses >= misses && time.Since(l.firstMiss) >= age
}

// powerOf is the power as it is to be reported: before the first reading since
// start it is what the last run recorded. Acts read it anew in any case.
func (l *live) powerOf(m Machine) policy.Power {
	switch {
	case l.lost:
		return policy.PowerUnknown
	case l.powerAt.IsZero():
		return m.recordedPower()
	default:
		return l.power
	}
}

// lastPower is what was read before the BMC fell silent.
func (l *live) lastPower() string {
	if !l.lost || l.powerAt.IsZero() {
		return ""
	}

	return powerWord(l.power)
}

func powerWord(p policy.Power) string { return [...]string{"unknown", "off", "on"}[p] }

func toPolicy(s power.State) policy.Power {
	switch s {
	case power.StateOn:
		return policy.PowerOn
	case power.StateOff:
		return policy.PowerOff
	default:
		return policy.PowerUnknown
	}
}
