package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/serve/localapi"
)

// recall asks serve what happened under the ids before Omni had them this time: an
// id that was here already may be a machine that holds something, or a board whose
// id is not its own.
func (a *app) recall(ctx context.Context, chosen []candidate) {
	client := a.serveClient()
	defer client.Close()

	for i, c := range chosen {
		events, err := client.History(ctx, localapi.HistoryQuery{Machine: c.ID})
		if err != nil {
			chosen[i].earlier = "earlier: unknown (serve does not tell)"

			continue
		}

		chosen[i].earlier = earlier(events, c.seen.FirstSeen, time.Now())
	}
}

// earlier sums up the events, the oldest first, from before the machine was first
// seen. Where that is not known, any event may be of this time.
func earlier(events []localapi.Event, firstSeen, now time.Time) string {
	if firstSeen.IsZero() {
		firstSeen = now
	}

	before := 0
	for before < len(events) && events[before].At.Before(firstSeen) {
		before++
	}

	if before == 0 {
		return "earlier: nothing in the event log"
	}

	oldest, last := events[0], events[before-1]

	counted := fmt.Sprintf("%d events", before)
	if before == 1 {
		counted = "1 event"
	}

	return fmt.Sprintf("earlier: it was here %s ago; %s, the last: %s", out.Age(now.Sub(oldest.At)), counted, since(last.Text, last.At, now))
}
