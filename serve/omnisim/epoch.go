package omnisim

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// epoch marks the bookmarks of watches with the run of the server that gave
// them out. The events behind a bookmark are lost when Omni restarts, and it
// then answers that the bookmark is invalid; the state library can tell only
// processes apart, and a stand-in may be started twice in one.
type epoch struct {
	v1alpha1.StateServer

	mark []byte
}

func newEpoch(server v1alpha1.StateServer) (*epoch, error) {
	mark := make([]byte, 8)
	if _, err := rand.Read(mark); err != nil {
		return nil, fmt.Errorf("make up an epoch: %w", err)
	}

	return &epoch{StateServer: server, mark: mark}, nil
}

// Watch checks the mark of the bookmark that it starts from, and sets it on all
// those that it sends.
func (e *epoch) Watch(req *v1alpha1.WatchRequest, stream v1alpha1.State_WatchServer) error {
	if bookmark := req.GetOptions().GetStartFromBookmark(); bookmark != nil {
		plain, ok := bytes.CutPrefix(bookmark, e.mark)
		if !ok {
			return status.Error(codes.FailedPrecondition, "invalid watch bookmark")
		}

		req.Options.StartFromBookmark = plain
	}

	return e.StateServer.Watch(req, &markedWatch{State_WatchServer: stream, mark: e.mark})
}

type markedWatch struct {
	v1alpha1.State_WatchServer

	mark []byte
}

func (w *markedWatch) Send(response *v1alpha1.WatchResponse) error {
	for _, event := range response.GetEvent() {
		if event.GetBookmark() != nil {
			event.Bookmark = slices.Concat(w.mark, event.GetBookmark())
		}
	}

	return w.State_WatchServer.Send(response)
}
