package minrate_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bmctl/bmctl/serve/minrate"
)

// wire is a listener whose connections are in memory and without a buffer, so that
// time is virtual and the server waits for every byte that is not read.
type wire struct {
	conns chan net.Conn
	done  chan struct{}
}

func (w wire) Accept() (net.Conn, error) {
	select {
	case conn := <-w.conns:
		return conn, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

func (w wire) Close() error   { close(w.done); return nil }
func (w wire) Addr() net.Addr { return &net.TCPAddr{} }

// visit sends a request to a handler, does what the client does next, and returns
// how long the server kept the connection; 0 where it is there still.
func visit(t *testing.T, handler http.HandlerFunc, request string, client func(net.Conn)) (kept time.Duration) {
	t.Helper()

	begun, closed := time.Now(), make(chan time.Duration, 1)
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)

	server := &http.Server{Handler: minrate.Handler(handler), Protocols: protocols, ReadHeaderTimeout: time.Minute, IdleTimeout: time.Hour}
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- time.Since(begun)
		}
	}

	listener := wire{make(chan net.Conn), make(chan struct{})}
	go func() { _ = server.Serve(listener) }()

	ours, theirs := net.Pipe()
	listener.conns <- theirs

	if _, err := io.WriteString(ours, request); err != nil {
		t.Error(err)
	}

	client(ours)
	synctest.Wait()

	select {
	case kept = <-closed:
	default:
	}

	_ = ours.Close()
	_ = server.Close()

	return kept
}

// reads is a client that reads so many bytes a second, of a body of that size.
func reads(t *testing.T, rate, size int, whole bool) func(net.Conn) {
	return func(conn net.Conn) {
		t.Helper()

		const chunk = 4096

		response, err := http.ReadResponse(bufio.NewReaderSize(conn, chunk), nil)
		if err != nil {
			t.Error(err)

			return
		}

		got := 0
		for buffer := make([]byte, chunk); err == nil; {
			var n int
			n, err = response.Body.Read(buffer)
			got += n
			time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
		}

		if (got == size) != whole {
			t.Errorf("at %d bytes a second: %d of %d bytes, %v", rate, got, size, err)
		}
	}
}

// sleeps is a client that does not read.
func sleeps(net.Conn) { time.Sleep(time.Hour - time.Second) }

const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// body answers with a body, by Write or as a file is sent.
func body(size int, asFile bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))

		if asFile {
			_, _ = io.CopyN(w, endless{}, int64(size))

			return
		}

		chunk := strings.Repeat("x", min(size, 1<<12))
		for range size / len(chunk) {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestSlowReaders(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		client  func(net.Conn)
		kept    time.Duration // 0 is for as long as the client wants
	}{
		"does not read a word":            {body(100, false), sleeps, minrate.Patience}, // which leaves with the handler
		"does not read a stream":          {body(1<<20, false), sleeps, minrate.Patience},
		"does not read a file":            {body(64<<20, true), sleeps, minrate.Patience},
		"a small file, slowly":            {body(1<<20, false), reads(t, 10<<10, 1<<20, true), 0},
		"a large file at the least rate":  {body(16<<20, true), reads(t, 40<<10, 16<<20, true), 0},
		"a large stream at the same rate": {body(16<<20, false), reads(t, 40<<10, 16<<20, true), 0},
		"a large file, too slowly":        {body(16<<20, true), reads(t, 30<<10, 16<<20, false), minrate.Patience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if kept := visit(t, c.handler, get, c.client); kept != c.kept {
					t.Errorf("kept for %v, want %v", kept, c.kept)
				}
			})
		})
	}
}

// Below the least rate a stream earns less time than it takes: it ends when the
// patience is used up. Half of the rate takes twice that.
func TestTooSlowAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := visit(t, body(64<<20, false), get, reads(t, minrate.Portion/240, 64<<20, false))
		if kept < 3*time.Minute || kept > 5*time.Minute {
			t.Errorf("kept for %v, want about 4m", kept)
		}
	})
}

// A client that was fast once has no more patience to use up than any other.
func TestFastFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := visit(t, body(256<<20, false), get, func(conn net.Conn) {
			if _, err := io.CopyN(io.Discard, conn, 200<<20); err != nil {
				t.Error(err)
			}

			sleeps(conn)
		})
		if kept != minrate.Patience {
			t.Errorf("kept for %v, want %v", kept, minrate.Patience)
		}
	})
}

// The time that the server needs is not the client's, over HTTP/2 either, where a
// stream ends at its deadline.
func TestSlowHandler(t *testing.T) {
	slow := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(3*8192))

		for range 3 {
			time.Sleep(10 * time.Minute)

			if _, err := w.Write(make([]byte, 8192)); err != nil {
				t.Error(err)
			}
		}
	}

	synctest.Test(t, func(t *testing.T) {
		if kept := visit(t, slow, get, reads(t, 1<<20, 3*8192, true)); kept != 0 {
			t.Errorf("kept for %v", kept)
		}

		visit(t, slow, "", func(conn net.Conn) {
			protocols := &http.Protocols{}
			protocols.SetUnencryptedHTTP2(true)

			transport := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
			defer transport.CloseIdleConnections()

			response, err := (&http.Client{Transport: transport}).Get("http://x/")
			if err != nil {
				t.Error(err)

				return
			}

			got, err := io.Copy(io.Discard, response.Body)
			if response.ProtoMajor != 2 || got != 3*8192 || err != nil {
				t.Errorf("HTTP/%d: %d bytes, %v", response.ProtoMajor, got, err)
			}

			_ = response.Body.Close()
		})
	})
}

// A body that does not come holds nothing for long.
func TestAnnouncedBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := visit(t, body(4096, false), "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", func(conn net.Conn) {
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Error(err)
			}
		})
		if kept < time.Second || kept > 20*time.Second {
			t.Errorf("kept for %v, want about 10s", kept)
		}
	})
}

// One connection may last longer than a patience: each request has its own.
func TestRequestsOfOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := visit(t, body(1<<20, false), get, func(conn net.Conn) {
			for range 4 {
				reads(t, 10<<10, 1<<20, true)(conn)
				time.Sleep(10 * time.Minute)

				if _, err := io.WriteString(conn, get); err != nil {
					t.Fatal(err)
				}
			}

			reads(t, 1<<20, 1<<20, true)(conn)
		})
		if kept != 0 {
			t.Errorf("kept for %v", kept)
		}
	})
}
