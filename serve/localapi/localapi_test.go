package localapi_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("LOCALAPI_TEST_DIE_ON"); path != "" {
		dieListening(path)
	}

	goleak.VerifyTestMain(m)
}

// dieListening leaves a bound socket behind, as a serve that was killed does.
func dieListening(path string) {
	if err := localapi.NewServer(newFleet(), slog.New(slog.DiscardHandler)).Listen(path, ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}

	os.Exit(0) // without Close
}

// fleet is a small serve: machines in memory and the events of what was done.
type fleet struct {
	mu       sync.Mutex
	machines map[string]localapi.Machine
	events   []localapi.Event
	changed  chan struct{} // closed and replaced at each event
	peers    []localapi.Peer
}

func newFleet(machines ...localapi.Machine) *fleet {
	f := &fleet{machines: map[string]localapi.Machine{}, changed: make(chan struct{})}
	for _, machine := range machines {
		f.machines[machine.ID] = machine
	}

	return f
}

func (f *fleet) Machines() (localapi.MachineList, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	list := localapi.MachineList{APIVersion: localapi.APIVersion, Kind: "MachineList"}
	for _, machine := range f.machines {
		list.Items = append(list.Items, machine)
	}

	return list, nil
}

func (f *fleet) Machine(id string) (localapi.Machine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	machine, ok := f.machines[id]
	if !ok {
		return localapi.Machine{}, fmt.Errorf("%w: %s", localapi.ErrNotFound, id)
	}

	return machine, nil
}

func (f *fleet) Health() localapi.Health {
	return localapi.Health{APIVersion: localapi.APIVersion, Kind: "Health", PID: os.Getpid(), Acting: true, TFTP: "127.0.0.1:1069"}
}

func (f *fleet) add(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.events = append(f.events, localapi.Event{Seq: uint64(len(f.events)) + 1, Type: "test", Text: text})
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fleet) since(seq uint64) ([]localapi.Event, uint64, chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()

	newest := uint64(len(f.events))
	switch {
	case seq == localapi.Now:
		seq = newest
	case seq > newest:
		seq = 0
	}

	return f.events[seq:], newest, f.changed
}

func (f *fleet) Events(ctx context.Context, since uint64) iter.Seq[localapi.Event] {
	return func(yield func(localapi.Event) bool) {
		for {
			events, newest, changed := f.since(since)
			for _, event := range events {
				if !yield(event) {
					return
				}
			}

			since = newest

			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}
}

func (f *fleet) Release(_ context.Context, id, reason string, by localapi.Peer) error {
	machine, err := f.Machine(id)
	if err != nil {
		return err
	}

	if machine.Held == "" {
		return fmt.Errorf("%w: %s is not held", localapi.ErrRefused, machine.Name)
	}

	f.mu.Lock()
	machine.Held = ""
	f.machines[id] = machine
	f.peers = append(f.peers, by)
	f.mu.Unlock()
	f.add("released: " + reason)

	return nil
}

// Power implements localapi.Backend: the machine is in a cluster, and its BMC is silent.
func (f *fleet) Power(_ context.Context, id string, act localapi.PowerRequest, by localapi.Peer) error {
	machine, err := f.Machine(id)
	if err != nil {
		return err
	}

	if !act.InCluster {
		return fmt.Errorf("%w: %s", localapi.ErrInCluster, machine.Name)
	}

	f.mu.Lock()
	f.peers = append(f.peers, by)
	f.mu.Unlock()

	return fmt.Errorf("%s: %s %s: %w", machine.Name, act.Action, act.Boot, power.ErrUnreachable)
}

// TestPowerErrorsKeepTheirKind: what the BMC said is told apart from what serve refused.
func TestPowerErrorsKeepTheirKind(t *testing.T) {
	_, client := run(t, newFleet(heldMachine()))

	if err := client.Power(t.Context(), heldID, localapi.PowerRequest{Action: "cycle", Boot: "pxe"}); !errors.Is(err, localapi.ErrInCluster) {
		t.Errorf("got %v, want ErrInCluster", err)
	}

	err := client.Power(t.Context(), heldID, localapi.PowerRequest{Action: "cycle", Boot: "pxe", InCluster: true})
	if !errors.Is(err, power.ErrUnreachable) || !strings.Contains(err.Error(), "cycle pxe") {
		t.Errorf("got %v, want ErrUnreachable with what was asked", err)
	}

	if err := client.Power(t.Context(), "nobody", localapi.PowerRequest{Action: "on"}); !errors.Is(err, localapi.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

const heldID = "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1"

func heldMachine() localapi.Machine {
	return localapi.Machine{
		ID: heldID, Name: "r1n04", Status: localapi.StatusError, Held: "two tunnels", Labels: map[string]string{"rack": "r1"},
		PowerAt: time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC), BMC: localapi.BMC{Protocol: "ipmi", LatencySeconds: 0.031},
	}
}

// run serves the backend on a socket of its own until the test ends.
func run(t *testing.T, backend localapi.Backend) (string, *localapi.Client) {
	t.Helper()

	path := filepath.Join(t.TempDir(), "run", "sock")
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
			t.Errorf("Serve: %v", err)
		}

		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there after Serve: %v", err)
		}
	})

	return path, client
}

func TestSnapshotAndHealthCrossTheSocketUnchanged(t *testing.T) {
	backend := newFleet(heldMachine())
	_, client := run(t, backend)

	list, err := client.Machines(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	sent, err := backend.Machines()
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(sent, list); diff != "" {
		t.Errorf("machines differ (-sent +received):\n%s", diff)
	}

	machine, err := client.Machine(t.Context(), heldID)
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(heldMachine(), machine); diff != "" {
		t.Errorf("machine differs (-sent +received):\n%s", diff)
	}

	health, err := client.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(backend.Health(), health); diff != "" {
		t.Errorf("health differs (-sent +received):\n%s", diff)
	}
}

func TestUnknownMachineIsNotFound(t *testing.T) {
	_, client := run(t, newFleet())

	for _, id := range []string{"nobody", "../health", "a b", "ü"} {
		_, err := client.Machine(t.Context(), id)
		if !errors.Is(err, localapi.ErrNotFound) {
			t.Errorf("Machine(%q) = %v, want ErrNotFound", id, err)
		}
	}
}

func TestReleaseKnowsWhoAsked(t *testing.T) {
	backend := newFleet(heldMachine())
	_, client := run(t, backend)

	if err := client.Release(t.Context(), heldID, "board was replaced"); err != nil {
		t.Fatal(err)
	}

	want := []localapi.Peer{{Known: true, PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid()}}
	if diff := cmp.Diff(want, backend.peers); diff != "" {
		t.Errorf("peers differ (-want +got):\n%s", diff)
	}

	err := client.Release(t.Context(), heldID, "again")
	if !errors.Is(err, localapi.ErrRefused) || !strings.Contains(err.Error(), "r1n04 is not held") {
		t.Errorf("second release: %v, want ErrRefused with the backend's words", err)
	}

	if err := client.Release(t.Context(), heldID, ""); !errors.Is(err, localapi.ErrInvalid) {
		t.Errorf("release without a reason: %v, want ErrInvalid", err)
	}

	if err := client.Release(t.Context(), "nobody", "x"); !errors.Is(err, localapi.ErrNotFound) {
		t.Errorf("release of nobody: %v, want ErrNotFound", err)
	}
}

func collect(t *testing.T, events iter.Seq2[localapi.Event, error], count int) []string {
	t.Helper()

	var texts []string

	for event, err := range events {
		if err != nil {
			t.Fatalf("after %v: %v", texts, err)
		}

		texts = append(texts, fmt.Sprint(event.Seq, " ", event.Text))
		if len(texts) == count {
			break
		}
	}

	return texts
}

func TestEventsGoOnWhereTheyWereCutOff(t *testing.T) {
	backend := newFleet()
	for i := range 4 {
		backend.add(fmt.Sprint("event ", i))
	}

	_, client := run(t, backend)

	for since, want := range map[uint64][]string{
		0:  {"1 event 0", "2 event 1", "3 event 2", "4 event 3"},
		2:  {"3 event 2", "4 event 3"},
		99: {"1 event 0", "2 event 1"}, // of an earlier run
	} {
		got := collect(t, client.Events(t.Context(), since), len(want))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("since %d (-want +got):\n%s", since, diff)
		}
	}
}

func TestEventsArriveWhileTheyHappen(t *testing.T) {
	backend := newFleet()
	backend.add("old")

	_, client := run(t, backend)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string)

	go func() {
		defer close(got)

		for event, err := range client.Events(ctx, localapi.Now) {
			got <- fmt.Sprint(event.Text, err)
		}
	}()

	// A stream that starts now may start before or after the first of these; it
	// never sees "old", and none twice.
	stop := make(chan struct{})
	go func() {
		defer close(stop)

		for ctx.Err() == nil {
			backend.add("new")
			time.Sleep(time.Millisecond)
		}
	}()

	for range 3 {
		if text := <-got; text != "new<nil>" {
			t.Fatalf("got %q", text)
		}
	}

	cancel()

	for text := range got {
		if text != "new<nil>" {
			t.Errorf("after cancel: %q, want the stream to end without an error", text)
		}
	}

	<-stop
}

func TestEndOfServeEndsTheStreamWithAnError(t *testing.T) {
	backend := newFleet()
	backend.add("first")

	path := filepath.Join(t.TempDir(), "sock")
	server := localapi.NewServer(backend, slog.New(slog.DiscardHandler))

	if err := server.Listen(path, ""); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	done := make(chan error, 1)

	go func() { done <- server.Serve(ctx) }()

	client := localapi.Dial(path)
	defer client.Close()

	var last error

	for _, err := range client.Events(t.Context(), 0) {
		last = err

		cancel()
	}

	if !errors.Is(last, localapi.ErrNotRunning) {
		t.Errorf("stream ended with %v, want ErrNotRunning", last)
	}

	if err := <-done; err != nil {
		t.Error(err)
	}

	_, err := client.Machines(t.Context())
	if !errors.Is(err, localapi.ErrNotRunning) || !strings.Contains(err.Error(), path) {
		t.Errorf("after the end: %v, want ErrNotRunning and the path", err)
	}
}

func TestSinceThatIsNoNumberIsRefused(t *testing.T) {
	path, _ := run(t, newFleet())
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}

	defer transport.CloseIdleConnections()

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/v1/events?since=-1", nil)
	if err != nil {
		t.Fatal(err)
	}

	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}

	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}

	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d, want 400", response.StatusCode)
	}
}

func TestClientWithoutServe(t *testing.T) {
	client := localapi.Dial(filepath.Join(t.TempDir(), "none"))

	if _, err := client.Machines(t.Context()); !errors.Is(err, localapi.ErrNotRunning) {
		t.Errorf("Machines: %v, want ErrNotRunning", err)
	}

	for _, err := range client.Events(t.Context(), 0) {
		if !errors.Is(err, localapi.ErrNotRunning) {
			t.Errorf("Events: %v, want ErrNotRunning", err)
		}
	}
}
