package serve

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/controllers"
)

type waits struct{}

func (waits) Decide(context.Context, boot.Machine) (boot.Decision, error) {
	return boot.Decision{Kind: boot.Wait, Reason: "test"}, nil
}

// oneConn is a listener of one connection.
type oneConn struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l oneConn) Close() error   { close(l.done); return nil }
func (l oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// TestSilentMachines: nobody holds a connection without asking, or without taking
// what it asked for, whatever that was. Time is virtual.
func TestSilentMachines(t *testing.T) {
	for name, c := range map[string]struct {
		says  string
		reads bool // the answers, and then it says nothing more
		kept  time.Duration
	}{
		"nothing at all":         {"", true, 10 * time.Second},
		"half of a header":       {"GET /ipxe/init.ipxe HTTP/1.1\r\nHost: ", true, 10 * time.Second},
		"nothing more":           {"GET /ipxe/init.ipxe HTTP/1.1\r\nHost: x\r\n\r\n", true, 2 * time.Minute},
		"takes no script":        {"GET /ipxe/init.ipxe HTTP/1.1\r\nHost: x\r\n\r\n", false, 2 * time.Minute},
		"takes no decision":      {"GET /ipxe/boot.ipxe?uuid=4c4c4544-0042-3610-8054-b4c04f564433 HTTP/1.1\r\nHost: x\r\n\r\n", false, 2 * time.Minute},
		"takes no loader":        {"GET /tftp/ipxe.efi HTTP/1.1\r\nHost: x\r\n\r\n", false, 2 * time.Minute},
		"takes no error":         {"GET /tftp/nothing HTTP/1.1\r\nHost: x\r\n\r\n", false, 2 * time.Minute},
		"takes no config":        {"GET /config HTTP/1.1\r\nHost: x\r\n\r\n", false, 2 * time.Minute},
		"a header of 100 KB":     {"GET /ipxe/init.ipxe HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 100<<10), true, 0},
		"a body that is to come": {"GET /ipxe/init.ipxe HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", true, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const lingers = time.Second // of the server, where it closes in the middle
				if kept := holdsFor(t, c.says, c.reads); kept < c.kept || kept > c.kept+lingers {
					t.Errorf("kept for %v, want %v", kept, c.kept)
				}
			})
		})
	}
}

// holdsFor is how long a machine that says this holds its connection.
func holdsFor(t *testing.T, says string, reads bool) time.Duration {
	t.Helper()

	service, err := boot.New(boot.Config{Decider: waits{}, Advertise: netip.MustParseAddr("10.0.2.5"), HTTPPort: 50042})
	if err != nil {
		t.Fatal(err)
	}

	s := &Server{log: slog.New(slog.DiscardHandler), boot: service}
	server := s.newHTTP(http.NotFoundHandler())
	begun, closed := time.Now(), make(chan time.Duration, 1)
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- time.Since(begun)
		}
	}

	listener := oneConn{make(chan net.Conn), make(chan struct{})}
	go func() { _ = server.Serve(listener) }()

	ours, theirs := net.Pipe()
	listener.conns <- theirs

	go func() {
		_, _ = io.WriteString(ours, says)
	}()

	if reads {
		go func() { _, _ = io.Copy(io.Discard, ours) }()
	}

	defer server.Close() //nolint:errcheck // nothing is lost
	defer ours.Close()   //nolint:errcheck // as above

	select {
	case kept := <-closed:
		return kept
	case <-time.After(time.Hour):
		return time.Hour
	}
}

// fileListener counts the files that the server hands to its connections whole,
// which is what a TCP connection needs to have the kernel send them.
type fileListener struct {
	net.Listener
	bytes *atomic.Int64
}

func (l fileListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}

	return fileConn{conn.(*net.TCPConn), l.bytes}, nil
}

type fileConn struct {
	*net.TCPConn
	bytes *atomic.Int64
}

func (c fileConn) ReadFrom(source io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(source)

	if limited, ok := source.(*io.LimitedReader); ok {
		source = limited.R
	}

	if _, ok := source.(*os.File); ok {
		c.bytes.Add(n)
	}

	return n, err
}

// TestAssetsAreSentByTheKernel: on their way from the file to the connection nothing
// of what counts and paces them hides the one from the other.
func TestAssetsAreSentByTheKernel(t *testing.T) {
	const size = 9 << 20 // more than two portions

	s := &Server{log: slog.New(slog.DiscardHandler), events: newEventRing()}
	s.cfg.BootAssetsPath, s.cfg.UseLocalBootAssets = t.TempDir(), true
	s.metrics = newMetrics(s)

	var err error
	if s.boot, err = boot.New(boot.Config{Decider: waits{}, Advertise: netip.MustParseAddr("127.0.0.1"), HTTPPort: 50042}); err != nil {
		t.Fatal(err)
	}

	if s.ctrl, err = controllers.New(controllers.Config{
		ProviderID: "bare-metal", Log: s.log,
		State: state.WrapCore(namespaced.NewState(func(namespace string) state.CoreState { return inmem.NewState(namespace) })),
	}); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(filepath.Join(s.cfg.BootAssetsPath, "kernel-amd64"), make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}

	var bytes atomic.Int64

	web := httptest.NewUnstartedServer(nil)
	web.Config, web.Listener = s.newHTTP(http.NotFoundHandler()), fileListener{web.Listener, &bytes}
	web.Start()

	response, err := http.Get(web.URL + "/assets/kernel-amd64")
	if err != nil {
		t.Fatal(err)
	}

	got, err := io.Copy(io.Discard, response.Body)
	if err != nil || got != size {
		t.Errorf("%d bytes, %v", got, err)
	}

	_ = response.Body.Close()
	web.Close() // after which every handler has returned

	// The server reads the first 512 itself, to tell the type by.
	if sent := bytes.Load(); sent != size-512 {
		t.Errorf("%d of %d bytes were handed over as a file", sent, size)
	}
}
