package bmcsim

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// sessions are the logins of the Redfish face.
type sessions struct {
	owner *BMC

	mu     sync.Mutex
	next   int
	tokens map[string]string // session id to token
}

func (s *sessions) create() (id, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.tokens == nil {
		s.tokens = map[string]string{}
	}

	s.next++
	id, token = strconv.Itoa(s.next), rand.Text()
	s.tokens[id] = token

	return id, token
}

func (s *sessions) remove(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	_, ok := s.tokens[id]
	delete(s.tokens, id)

	return ok
}

func (s *sessions) valid(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	return token != "" && slices.Contains(slices.Collect(maps.Values(s.tokens)), token)
}

func (s *sessions) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	return slices.Sorted(maps.Keys(s.tokens))
}

func (s *sessions) count() int { return len(s.ids()) }

func (s *sessions) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()

	clear(s.tokens)
}

// authenticated lets through who has a session, or Basic credentials (RFC 7617).
func (f *redfishFace) authenticated(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, basic := r.BasicAuth()

		switch {
		case f.fault(FaultBadLogin):
		case f.sessions.valid(r.Header.Get("X-Auth-Token")), basic && f.owner.users.valid(name, password):
			next(w, r)

			return
		}

		if f.fault(FaultBrokenRefusal) {
			f.breakOff(w)

			return
		}

		w.Header().Set("WWW-Authenticate", `Basic realm="bmcsim"`)
		f.refuse(w, http.StatusUnauthorized, "Base.1.18.NoValidSession", "There is no valid session")
	})
}

// breakOff sends a 401 whose chunked body ends in the middle.
func (f *redfishFace) breakOff(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		f.owner.cfg.Log.Debug("redfish: breaking an answer off", "error", err)

		return
	}

	_, _ = fmt.Fprint(conn, "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{\"err")
	conn.Close()
}

// sessionsPath is where the service says that its sessions are.
func (f *redfishFace) sessionsPath() string {
	if f.fault(FaultSessionsElsewhere) {
		return oldSessionsPath
	}

	return sessionsPath
}

func (f *redfishFace) login(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != f.sessionsPath():
		f.refuse(w, http.StatusBadRequest, "Base.1.18.ResourceNotWritable", "Sessions are elsewhere")

		return
	case r.Header.Get("Authorization") != "":
		f.refuse(w, http.StatusUnsupportedMediaType, "Base.1.18.GeneralError", "A login must not be authenticated")

		return
	}

	var body struct{ UserName, Password string }
	if !f.decode(w, r, &body) {
		return
	}

	if f.fault(FaultSessionLimit) || f.fault(FaultNoSessionService) {
		f.refuse(w, http.StatusServiceUnavailable, "IDRAC.2.8.RAC0218", "The maximum number of user sessions is reached.")

		return
	}

	if f.fault(FaultBadLogin) || !f.owner.users.valid(body.UserName, body.Password) {
		f.refuse(w, http.StatusUnauthorized, "Base.1.18.ResourceAtUriUnauthorized", "Wrong user name or password")

		return
	}

	id, token := f.sessions.create()
	w.Header().Set("X-Auth-Token", token)
	w.Header().Set("Location", f.sessionsPath()+"/"+id)
	f.send(w, http.StatusCreated, object{
		"@odata.id":   sessionsPath + "/" + id,
		"@odata.type": "#Session.v1_6_0.Session",
		"Id":          id,
		"Name":        "Session " + id,
		"UserName":    body.UserName,
	})
}

func (f *redfishFace) logout(w http.ResponseWriter, r *http.Request) {
	if !f.sessions.remove(r.PathValue("id")) {
		f.refuse(w, http.StatusNotFound, "Base.1.18.ResourceMissingAtURI", "There is no such session")

		return
	}

	w.WriteHeader(http.StatusNoContent)
}

func (f *redfishFace) sessionList(*http.Request) any {
	return collection("Session", "SessionService/Sessions", f.sessions.ids()...)
}

func sessionService(*http.Request) any {
	return object{
		"@odata.id":      root + "/SessionService",
		"@odata.type":    "#SessionService.v1_1_8.SessionService",
		"Id":             "SessionService",
		"Name":           "Session Service",
		"ServiceEnabled": true,
		"Sessions":       link(sessionsPath),
	}
}

// Tokens returns the secrets of the open Redfish sessions, sorted: what a test looks
// for where they must not be.
func (b *BMC) Tokens() []string {
	if b.redfish == nil {
		return nil
	}

	s := &b.redfish.sessions

	s.mu.Lock()
	defer s.mu.Unlock()

	return slices.Sorted(maps.Values(s.tokens))
}
