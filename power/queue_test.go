package power

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestQueueLetsTheUrgentFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q queue

		if err := q.enter(t.Context(), priorityPoll); err != nil {
			t.Fatal(err)
		}

		order := make(chan string, 5)
		for _, who := range []struct {
			name     string
			priority priority
		}{
			{"poll 1", priorityPoll}, {"verify 1", priorityVerify}, {"act 1", priorityAct},
			{"poll 2", priorityPoll}, {"act 2", priorityAct},
		} {
			go func() {
				if err := q.enter(t.Context(), who.priority); err != nil {
					t.Error(err)
				}

				order <- who.name
				q.leave()
			}()
			synctest.Wait() // they queue up in this order
		}

		q.leave()
		synctest.Wait()
		close(order)

		var got []string
		for name := range order {
			got = append(got, name)
		}

		if want := []string{"act 1", "act 2", "verify 1", "poll 1", "poll 2"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestQueueGivesUpAtTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q queue

		if err := q.enter(t.Context(), priorityPoll); err != nil {
			t.Fatal(err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()

		err := q.enter(ctx, priorityAct)
		if !isKind(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want busy", err)
		}

		// Who gave up is not in the way of the next one.
		q.leave()

		if err := q.enter(t.Context(), priorityPoll); err != nil {
			t.Error(err)
		}
	})
}

func TestBreakerRestsLongerEachTime(t *testing.T) {
	t.Parallel()

	var b breaker

	now := time.Unix(1_800_000_000, 0)

	for i := range breakerPatience - 1 {
		b.silent(now)

		if rest, n := b.rest(now); rest > 0 || n != i+1 {
			t.Fatalf("after %d failures the rest is %s (%d)", i+1, rest, n)
		}
	}

	for i, longest := range []time.Duration{2, 4, 8, 16, 32, 60, 60} {
		b.silent(now)

		if rest, _ := b.rest(now); rest < 0 || rest > longest*time.Second {
			t.Errorf("rest %d is %s, want at most %s", i, rest, longest*time.Second)
		}
	}

	b.answered()

	if rest, n := b.rest(now); rest > 0 || n != 0 {
		t.Errorf("after an answer the rest is %s (%d)", rest, n)
	}
}

func TestAnswersOnRedfishExpire(t *testing.T) {
	t.Parallel()

	var h host

	now := time.Unix(1_800_000_000, 0)
	if _, known := h.speaksRedfish(now); known {
		t.Error("known before it was asked")
	}

	for _, c := range []struct {
		name  string
		learn func()
		yes   bool
		holds time.Duration
	}{
		{"yes", func() { h.setRedfish(true, now) }, true, redfishYesHolds},
		{"no", func() { h.setRedfish(false, now) }, false, redfishNoHolds},
		{"refused", func() { h.refusedRedfish(now) }, false, redfishRefusedHolds},
	} {
		c.learn()

		if yes, known := h.speaksRedfish(now.Add(c.holds - 1)); yes != c.yes || !known {
			t.Errorf("%s: just before it expires the answer is %t, known %t", c.name, yes, known)
		}

		if _, known := h.speaksRedfish(now.Add(c.holds)); known {
			t.Errorf("%s has not expired", c.name)
		}
	}

	h.setRedfish(true, now)
	h.forgetRedfish()

	if _, known := h.speaksRedfish(now); known {
		t.Error("known after it was forgotten")
	}
}

func TestPauseStaysWithinTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()

		since, tries := time.Now(), 0
		for p := newPause(100*time.Millisecond, time.Second); p.wait(ctx); tries++ {
		}

		if took := time.Since(since); took > 10*time.Second || took < 9*time.Second || tries < 10 {
			t.Errorf("%d pauses in %s", tries, took)
		}
	})
}
