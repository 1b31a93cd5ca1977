package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	// drainTimeout is how long running requests may take after the end of Serve's
	// context; event streams end at once.
	drainTimeout = time.Second
	// writeTimeout bounds one write to a client that does not read.
	writeTimeout = 10 * time.Second
	readTimeout  = 10 * time.Second
	maxBody      = 64 << 10
)

// Server answers on the socket for a Backend. Listen first, then Serve.
type Server struct {
	backend Backend
	log     *slog.Logger
	socket  *socket
}

// NewServer returns a server that is not bound yet.
func NewServer(backend Backend, log *slog.Logger) *Server {
	return &Server{backend: backend, log: log}
}

// Listen binds the unix socket at path with mode 0660 and, unless it is empty,
// the group. The last directory of the path is made when it is missing. What a
// dead process left is replaced; where a live one serves, the error wraps
// ErrInUse and nothing is touched.
func (s *Server) Listen(path, group string) error {
	bound, err := listen(path, group)
	if err != nil {
		return err
	}

	s.socket = bound

	return nil
}

// Serve answers until ctx ends, gives running requests one second, removes the
// socket and returns nil. Any other return is a failure of the socket.
func (s *Server) Serve(ctx context.Context) error {
	if s.socket == nil {
		return errors.New("local API: Serve without Listen")
	}

	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: readTimeout, // a ReadTimeout would cut event streams off
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerOf(conn))
		},
	}

	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { drained <- drain(context.WithoutCancel(ctx), server) })

	err := server.Serve(s.socket)
	if stop() {
		return errors.Join(fmt.Errorf("local API: %w", err), s.socket.Close())
	}

	return errors.Join(<-drained, s.socket.Close())
}

// Close gives up a socket that was bound and is not served.
func (s *Server) Close() error {
	if s.socket == nil {
		return nil
	}

	return s.socket.Close()
}

func drain(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()

	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return server.Close()
	}

	return err
}

type peerKey struct{}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/machines", s.machines)
	mux.HandleFunc("GET /v1/machines/{id}", s.machine)
	mux.HandleFunc("GET /v1/health", s.health)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("POST /v1/machines/{id}/release", s.release)
	mux.HandleFunc("POST /v1/machines/{id}/power", s.power)

	if historian, ok := s.backend.(Historian); ok {
		mux.HandleFunc("GET /v1/history", func(w http.ResponseWriter, r *http.Request) { s.history(historian, w, r) })
	}

	return mux
}

// history answers ?machine=ID&since=TIME (RFC 3339), both optional.
func (s *Server) history(historian Historian, w http.ResponseWriter, r *http.Request) {
	query := HistoryQuery{Machine: r.URL.Query().Get("machine")}

	if text := r.URL.Query().Get("since"); text != "" {
		var err error
		if query.Since, err = time.Parse(time.RFC3339, text); err != nil {
			s.fail(w, fmt.Errorf("%w: since is not a time: %q", ErrInvalid, text))

			return
		}
	}

	events, err := historian.History(query)
	if err != nil {
		s.fail(w, err)

		return
	}

	if events == nil {
		events = []Event{}
	}

	s.answer(w, http.StatusOK, EventList{APIVersion: APIVersion, Kind: "EventList", Items: events})
}

func (s *Server) machines(w http.ResponseWriter, _ *http.Request) {
	list, err := s.backend.Machines()
	if err != nil {
		s.fail(w, err)

		return
	}

	s.answer(w, http.StatusOK, list)
}

func (s *Server) machine(w http.ResponseWriter, r *http.Request) {
	machine, err := s.backend.Machine(r.PathValue("id"))
	if err != nil {
		s.fail(w, err)

		return
	}

	s.answer(w, http.StatusOK, NewMachineDocument(machine))
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, http.StatusOK, s.backend.Health())
}

func (s *Server) release(w http.ResponseWriter, r *http.Request) {
	request, err := decode[ReleaseRequest](w, r)
	if err == nil && request.Reason == "" {
		err = fmt.Errorf("%w: a release needs a reason", ErrInvalid)
	}

	if err == nil {
		err = s.backend.Release(r.Context(), r.PathValue("id"), request.Reason, peerIn(r))
	}

	s.done(w, err)
}

func (s *Server) power(w http.ResponseWriter, r *http.Request) {
	request, err := decode[PowerRequest](w, r)
	if err == nil {
		err = s.backend.Power(r.Context(), r.PathValue("id"), request, peerIn(r))
	}

	s.done(w, err)
}

func peerIn(r *http.Request) Peer {
	peer, _ := r.Context().Value(peerKey{}).(Peer)

	return peer
}

// decode reads a request's body, which must hold nothing that is not known.
func decode[T any](w http.ResponseWriter, r *http.Request) (request T, err error) {
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
		return request, err
	}

	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()

	if err := decoder.Decode(&request); err != nil {
		return request, fmt.Errorf("%w: %w", ErrInvalid, err)
	}

	// What follows may take long; that the client went away must still be noticed.
	return request, http.NewResponseController(w).SetReadDeadline(time.Time{})
}

// done ends a request that has nothing to tell but how it went.
func (s *Server) done(w http.ResponseWriter, err error) {
	if err != nil {
		s.fail(w, err)

		return
	}

	w.WriteHeader(http.StatusNoContent)
}

// events streams server-sent events (HTML standard, section 9.2), each with its
// number as id, so that a client can go on where it was cut off: by ?since=N or
// the header Last-Event-ID. Without either it starts now.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	since, err := sinceOf(r)
	if err != nil {
		s.fail(w, err)

		return
	}

	control := http.NewResponseController(w)

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)

	if err := control.Flush(); err != nil {
		return
	}

	for event := range s.backend.Events(r.Context(), since) {
		if err := writeEvent(w, control, event); err != nil {
			s.log.Debug("event stream ended", "reason", err)

			return
		}
	}
}

func sinceOf(r *http.Request) (uint64, error) {
	text := r.URL.Query().Get("since")
	if text == "" {
		text = r.Header.Get("Last-Event-ID")
	}

	if text == "" {
		return Now, nil
	}

	since, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: since is not a number: %q", ErrInvalid, text)
	}

	return since, nil
}

func writeEvent(w http.ResponseWriter, control *http.ResponseController, event Event) error {
	data, err := json.Marshal(event)
	if err != nil {
		return err
	}

	if err := control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}

	if _, err := fmt.Fprintf(w, "id: %d\ndata: %s\n\n", event.Seq, data); err != nil {
		return err
	}

	return control.Flush()
}

func (s *Server) answer(w http.ResponseWriter, status int, document any) {
	data, err := json.Marshal(document)
	if err != nil {
		s.log.Error("local API: encode the answer", "error", err)
		http.Error(w, "encode the answer", http.StatusInternalServerError)

		return
	}

	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		s.log.Debug("local API: set the write deadline", "error", err)
	}

	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)

	if _, err := w.Write(append(data, '\n')); err != nil {
		s.log.Debug("local API: client went away", "error", err)
	}
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	detail, status := ErrorDetail{Code: "internal", Message: err.Error()}, http.StatusInternalServerError

	for _, known := range wireKinds() {
		if errors.Is(err, known.kind) {
			detail.Code, status = known.code, known.status

			break
		}
	}

	s.answer(w, status, ErrorDocument{Error: detail})
}
