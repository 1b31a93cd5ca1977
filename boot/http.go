package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"time"
)

// decideTimeout bounds a decision; it is to come from memory.
const decideTimeout = 5 * time.Second

// Handler serves what machines ask over HTTP:
//
//	/ipxe/init.ipxe      the script that every iPXE is sent to
//	/ipxe/boot.ipxe      the decision for one machine (uuid, mac, serial, hostname, arch)
//	/ipxe/refused.ipxe   what to do where boot.ipxe was refused
//	/tftp/NAME           the same files as over TFTP, with HEAD and ranges
//	.../autoexec.ipxe    init.ipxe, where iPXE looks for it by itself
//
// Its paths do not overlap with others of the same server if it is mounted at
// /ipxe/, /tftp/ and /autoexec.ipxe. Slow clients are that server's to bound.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ipxe/init.ipxe", s.serveInit)
	mux.HandleFunc("GET /ipxe/autoexec.ipxe", s.serveInit)
	mux.HandleFunc("GET /autoexec.ipxe", s.serveInit)
	mux.HandleFunc("GET /ipxe/boot.ipxe", s.serveBoot)
	mux.HandleFunc("GET /ipxe/refused.ipxe", s.serveRefused)
	mux.HandleFunc("GET /tftp/{name...}", s.serveFile)
	return mux
}

func (s *Server) serveInit(w http.ResponseWriter, r *http.Request) {
	s.writeScript(w, func() (string, error) { return render("init", scriptData{Base: s.baseOf(r)}) })
}

// baseOf is the base URL by which the machine reached us, which is the one that
// works for it. What it says must be an address; else it is the advertised one.
func (s *Server) baseOf(r *http.Request) string {
	if at, err := netip.ParseAddrPort(r.Host); err == nil && at.Addr().Zone() == "" {
		return "http://" + at.String()
	}
	if addr, err := netip.ParseAddr(r.Host); err == nil && addr.Is4() {
		return "http://" + addr.String()
	}
	return s.baseURL(s.config.Advertise)
}

// serveBoot decides. A request that does not name a machine leaves nothing but
// an event.
func (s *Server) serveBoot(w http.ResponseWriter, r *http.Request) {
	machine, err := parseMachine(r.URL.Query(), peer(r))
	if err != nil {
		s.recorder.ignored(Event{MAC: machine.MAC, Addr: machine.Addr}, err.Error())
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.askedBy(machine)
	s.recorder.post(record{level: slog.LevelInfo, text: "handle iPXE boot request", attrs: []slog.Attr{
		slog.String("uuid", machine.UUID), slog.String("mac", machine.MAC), slog.String("arch", machine.Arch),
		slog.String("source", machine.Addr.String())}})
	decision := s.decide(r.Context(), machine)
	s.recorder.post(decided(machine, decision))
	s.writeScript(w, func() (string, error) { return scriptFor(decision, s.baseOf(r)) })
}

// decide asks the Decider; whatever cannot be carried out becomes a wait that
// says so.
func (s *Server) decide(ctx context.Context, machine Machine) Decision {
	if Placeholder(machine.UUID) {
		return Decision{Kind: Wait, Reason: fmt.Sprintf("uuid %s is a placeholder that many boards share: set one in the firmware", machine.UUID)}
	}
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	decision, err := s.config.Decider.Decide(ctx, machine)
	if decision.Kind == Disk && decision.Method == "" {
		decision.Method = s.config.DiskMethod
	}
	if err == nil {
		err = decision.check()
	}
	if err != nil {
		return Decision{Kind: Wait, Reason: fmt.Sprintf("no decision yet: %v", err)}
	}
	return decision
}

// decided is the record of a decision.
func decided(m Machine, d Decision) record {
	text := map[Kind]string{
		Agent: "boot machine: Talos agent mode", Talos: "boot machine: Talos over iPXE",
		Disk: "boot machine: from the disk", Wait: "boot machine: wait",
	}[d.Kind]
	return record{
		level: slog.LevelInfo, text: text,
		attrs: []slog.Attr{slog.String("machine_id", m.UUID), slog.String("uuid", m.UUID), slog.String("mac", m.MAC),
			slog.String("arch", m.Arch), slog.String("reason", d.Reason)},
		event: Event{Type: EventScript, MAC: m.MAC, UUID: m.UUID, Addr: m.Addr, Arch: m.Arch, Decision: d.Kind, Reason: d.Reason},
	}
}

// serveRefused follows a boot.ipxe that was answered with an error. iPXE sees
// only that there is no script: here it learns whether that was meant.
func (s *Server) serveRefused(w http.ResponseWriter, r *http.Request) {
	machine, err := parseMachine(r.URL.Query(), peer(r))
	if err != nil {
		reason := scriptData{Decision: Decision{Reason: console(err.Error())}}
		s.writeScript(w, func() (string, error) { return render("refused", reason) })
		return
	}
	decision := s.decide(r.Context(), machine)
	if decision.Kind == Disk && decision.Method == DiskHTTP404 {
		decision.Method = DiskExit
	}
	s.writeScript(w, func() (string, error) { return scriptFor(decision, s.baseOf(r)) })
}

// serveFile serves the loaders, byte ranges and HEAD included: OVMF's HTTP Boot
// asks with HEAD first.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	event := Event{Type: EventLoader, File: cleanName(r.PathValue("name")), Addr: peer(r)}
	event.MAC, event.Arch = s.stations.loads(event.Addr)
	content, ok := s.file(event.File, s.baseOf(r))
	if !ok {
		s.recorder.ignored(event, fmt.Sprintf("there is no file %q", event.File))
		http.NotFound(w, r)
		return
	}
	source := slog.String("source", event.Addr.String())
	s.recorder.post(record{level: slog.LevelInfo, text: "file requested", attrs: []slog.Attr{slog.String("filename", event.File), source}})
	w.Header().Set("Content-Type", "application/octet-stream")
	counted := &countingWriter{ResponseWriter: w}
	http.ServeContent(counted, r, "", time.Time{}, bytes.NewReader(content))
	if r.Method == http.MethodHead {
		return
	}
	event.Bytes, event.Duration = counted.written, time.Since(started)
	s.recorder.post(record{event: event, level: slog.LevelInfo, text: "file sent", attrs: []slog.Attr{
		slog.String("filename", event.File), slog.Int64("bytes", event.Bytes), source}})
}

// file finds a file by its cleaned name, for a machine that reaches us at base.
func (s *Server) file(name, base string) ([]byte, bool) {
	if path.Base(name) == "autoexec.ipxe" {
		script, err := render("init", scriptData{Base: base})
		return []byte(script), err == nil
	}
	content, ok := (*s.loaders.Load())[name]
	return content, ok
}

// countingWriter counts the bytes of a body.
type countingWriter struct {
	http.ResponseWriter
	written int64
}

// Write implements io.Writer.
func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	return n, err
}

// writeScript answers with a script. The refusal that is a method of booting from
// the disk is a 404.
func (s *Server) writeScript(w http.ResponseWriter, render func() (string, error)) {
	script, err := render()
	if errors.Is(err, errNoScript) {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if err != nil {
		s.config.Log.Error("no script", "reason", err.Error())
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	// A machine that went away is no error of ours.
	_, _ = io.WriteString(w, script)
}

// askedBy notes that the machine's NIC got as far as our scripts, and from where.
func (s *Server) askedBy(m Machine) {
	if hardware, err := net.ParseMAC(m.MAC); err == nil && len(hardware) == 6 {
		s.stations.followed([6]byte(hardware))
		s.stations.moved([6]byte(hardware), m.Addr, m.Arch)
	}
}

func peer(r *http.Request) netip.Addr {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr().Unmap()
}
