package bmcsim

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/bmctl/bmctl/power"
)

// redfishFace is the controller as Redfish shows it (DSP0266).
type redfishFace struct {
	owner    *BMC
	server   *http.Server
	port     int
	sessions sessions
	etag     etagCounter
	looks    atomic.Int32 // at the power state, before a change of it shows
	done     chan struct{}
}

func startRedfish(b *BMC) (*redfishFace, error) {
	config, err := tlsConfig(b.addr, b.cfg.RSAKeyExchange)
	if err != nil {
		return nil, err
	}

	listener, err := net.Listen("tcp", b.listenAddr(b.cfg.RedfishPort))
	if err != nil {
		return nil, err
	}

	face := &redfishFace{
		owner:    b,
		port:     listener.Addr().(*net.TCPAddr).Port,
		sessions: sessions{owner: b},
		done:     make(chan struct{}),
	}
	face.server = &http.Server{
		Handler:   face.observe(face.routes()),
		TLSConfig: config,
		// HTTP/2 refuses the cipher suites that some controllers have alone.
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(b.cfg.Log.Handler(), slog.LevelDebug),
	}

	go func() {
		defer close(face.done)

		err := face.serve(faultyListener{listener, b.faults})
		if !errors.Is(err, http.ErrServerClosed) {
			b.cfg.Log.Error("redfish face ended", "error", err)
		}
	}()

	return face, nil
}

func (f *redfishFace) serve(listener net.Listener) error {
	if f.owner.cfg.PlainHTTP {
		return f.server.Serve(listener)
	}

	return f.server.ServeTLS(listener, "", "")
}

func (f *redfishFace) close() error {
	err := f.server.Close()
	<-f.done

	return err
}

// fault tells whether the Redfish face has the fault.
func (f *redfishFace) fault(name string) bool {
	return f.owner.faults.on(power.ProtocolRedfish, name)
}

// observe logs requests and delays answers.
func (f *redfishFace) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.owner.cfg.Log.Debug("redfish", "method", r.Method, "path", r.URL.Path, "encoding", r.Header.Get("Accept-Encoding"))

		if f.fault(FaultSlow) && !pause(r.Context(), f.owner.cfg.SlowBy) {
			return
		}

		w.Header().Set("OData-Version", "4.0")
		f.habits(next).ServeHTTP(w, r)
	})
}

// pause waits, and tells whether the client is still there.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// routes is the resource tree. The service root and the login need no
// authentication (DSP0266, 13.3.2).
func (f *redfishFace) routes() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, resource func(*http.Request) any) {
		mux.Handle("GET "+path, f.authenticated(func(w http.ResponseWriter, r *http.Request) {
			f.reply(w, resource(r))
		}))
	}

	mux.HandleFunc("GET /redfish", func(w http.ResponseWriter, _ *http.Request) {
		f.reply(w, object{"v1": root + "/"})
	})
	mux.HandleFunc("GET "+root, f.serviceRoot)
	mux.HandleFunc("GET "+root+"/{$}", f.serviceRoot)

	for _, path := range []string{sessionsPath, oldSessionsPath} {
		mux.HandleFunc("POST "+path, f.login)
		get(path, f.sessionList)
		mux.Handle("DELETE "+path+"/{id}", f.authenticated(f.logout))
	}

	get(root+"/SessionService", sessionService)

	get(root+"/Systems", f.systems)
	for _, slash := range []string{"", "/{$}"} {
		mux.Handle("GET "+root+"/Systems/{id}"+slash, f.system(f.getSystem))
		mux.Handle("PATCH "+root+"/Systems/{id}"+slash, f.system(f.patchSystem))
	}

	mux.Handle("GET "+settingsPath, f.authenticated(f.getSettings))
	mux.Handle("PATCH "+settingsPath, f.authenticated(f.patchSettings))
	get(root+"/Systems/{id}/ResetActionInfo", f.resetActionInfo)
	mux.Handle("POST "+root+"/Systems/{id}/Actions/ComputerSystem.Reset", f.system(f.resetSystem))

	f.hardwareRoutes(mux)
	mux.Handle("/", f.authenticated(func(w http.ResponseWriter, r *http.Request) {
		f.refuse(w, http.StatusNotFound, "Base.1.18.ResourceMissingAtURI", "There is no resource at "+r.URL.Path)
	}))

	return mux
}

const (
	root         = "/redfish/v1"
	sessionsPath = root + "/SessionService/Sessions"
	// oldSessionsPath is where older services have their sessions.
	oldSessionsPath = root + "/Sessions"
)

// object is a JSON object on its way out.
type object = map[string]any

func link(path string) object { return object{"@odata.id": path} }

// collection is a resource collection with the ids as members.
func collection(kind, path string, ids ...string) object {
	members := make([]object, len(ids))
	for i, id := range ids {
		members[i] = link(root + "/" + path + "/" + id)
	}

	return object{
		"@odata.id":           root + "/" + path,
		"@odata.type":         "#" + kind + "Collection." + kind + "Collection",
		"Name":                kind + " Collection",
		"Members@odata.count": len(ids),
		"Members":             members,
	}
}

func (f *redfishFace) serviceRoot(w http.ResponseWriter, _ *http.Request) {
	resource := object{
		"@odata.id":      root + "/",
		"@odata.type":    "#ServiceRoot.v1_15_0.ServiceRoot",
		"Id":             "RootService",
		"Name":           "Root Service",
		"RedfishVersion": "1.15.0",
		"UUID":           f.owner.UUID(),
		"Vendor":         f.owner.cfg.Vendor,
		"Product":        f.owner.cfg.Model,
		"Systems":        link(root + "/Systems"),
		"Managers":       link(root + "/Managers"),
		"Chassis":        link(root + "/Chassis"),
	}
	if !f.fault(FaultNoSessionService) {
		resource["SessionService"] = link(root + "/SessionService")
		resource["Links"] = object{"Sessions": link(f.sessionsPath())}
	}

	f.reply(w, resource)
}

// reply sends a resource.
func (f *redfishFace) reply(w http.ResponseWriter, resource any) {
	f.send(w, http.StatusOK, resource)
}

func (f *redfishFace) send(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)

	if err := json.NewEncoder(w).Encode(body); err != nil {
		f.owner.cfg.Log.Debug("redfish: sending an answer", "error", err)
	}
}

// refuse sends an error with one message (DSP0266, 8.6).
func (f *redfishFace) refuse(w http.ResponseWriter, status int, id, message string) {
	info := object{
		"@odata.type": "#Message.v1_1_1.Message", "MessageId": id, "Message": message, "Severity": "Warning",
	}

	switch {
	case f.fault(FaultHTMLErrors):
		f.page(w, status)
	case f.fault(FaultInfoObject):
		f.send(w, status, object{"error": object{"code": id, "message": message, "@Message.ExtendedInfo": info}})
	default:
		f.send(w, status, object{"error": object{
			"code": id, "message": message, "@Message.ExtendedInfo": []object{info},
		}})
	}
}

// page sends an error as a page for people.
func (f *redfishFace) page(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<html><body>%s</body></html>", http.StatusText(status))
}

// decode reads a request body, or refuses it.
func (f *redfishFace) decode(w http.ResponseWriter, r *http.Request, into any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(into)
	if err == nil {
		return true
	}

	f.refuse(w, http.StatusBadRequest, "Base.1.18.MalformedJSON", fmt.Sprintf("The body is no JSON: %v", err))

	return false
}
