package localapi_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bmctl/bmctl/serve/localapi"
)

// memory is a fleet that remembers.
type memory struct {
	*fleet
	asked []localapi.HistoryQuery
}

func (m *memory) History(query localapi.HistoryQuery) ([]localapi.Event, error) {
	m.asked = append(m.asked, query)

	if query.Machine == "broken" {
		return nil, errors.New("the disk is broken")
	}

	return []localapi.Event{{Seq: 3, At: query.Since, MachineID: query.Machine, Text: "was here"}}, nil
}

func socketOf(t *testing.T, backend localapi.Backend) *localapi.Client {
	t.Helper()

	path := filepath.Join(t.TempDir(), "sock")
	server := localapi.NewServer(backend, slog.New(slog.DiscardHandler))

	if err := server.Listen(path, ""); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- server.Serve(ctx) }()

	client := localapi.Dial(path)

	t.Cleanup(func() {
		client.Close()
		cancel()

		if err := <-done; err != nil {
			t.Error(err)
		}
	})

	return client
}

func TestHistory(t *testing.T) {
	backend := &memory{fleet: newFleet()}
	client := socketOf(t, backend)
	query := localapi.HistoryQuery{Machine: "a b&c", Since: time.Date(2026, 11, 22, 8, 0, 0, 7, time.UTC)}

	events, err := client.History(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff([]localapi.Event{{Seq: 3, At: query.Since, MachineID: query.Machine, Text: "was here"}}, events); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	if _, err := client.History(t.Context(), localapi.HistoryQuery{}); err != nil {
		t.Error(err)
	}

	if diff := cmp.Diff([]localapi.HistoryQuery{query, {}}, backend.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}

	if _, err := client.History(t.Context(), localapi.HistoryQuery{Machine: "broken"}); err == nil || err.Error() != "the disk is broken" {
		t.Errorf("got %v, want the backend's words", err)
	}
}

// A serve that remembers nothing says so, instead of nothing happened.
func TestNoHistory(t *testing.T) {
	if events, err := socketOf(t, newFleet()).History(t.Context(), localapi.HistoryQuery{}); err == nil {
		t.Errorf("got %v, want an error", events)
	}
}
