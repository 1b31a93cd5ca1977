package controllers

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bmctl/bmctl/serve/policy"
)

// TestWhatASilentBMCSaidLast is told beside the unknown power, and no longer than
// the silence lasts.
func TestWhatASilentBMCSaidLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &live{}
		misses := func(n int) {
			for range n {
				l.missed(errors.New("no answer"))
				time.Sleep(50 * time.Second)
			}
		}
		want := func(when string, power policy.Power, last string) {
			t.Helper()

			if got := l.powerOf(Machine{}); got != power || l.lastPower() != last {
				t.Errorf("%s: power %v, last %q; want %v, %q", when, got, l.lastPower(), power, last)
			}
		}

		misses(3)
		want("never read", policy.PowerUnknown, "")
		l.read(policy.PowerOn, time.Millisecond)
		want("read", policy.PowerOn, "")
		misses(2)
		want("two misses", policy.PowerOn, "")
		misses(1)
		want("silent", policy.PowerUnknown, "on")
		l.read(policy.PowerOff, time.Millisecond)
		want("back", policy.PowerOff, "")
	})
}
