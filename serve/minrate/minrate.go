// Package minrate gives up HTTP clients that are too slow to be worth a connection.
//
// http.Server's WriteTimeout bounds a whole response, which fits no server of large
// files: an hour may be right for one client and a second too much for another. What
// is bounded here is the time that the server spends waiting for a client to take
// what it asked for, by how much it has taken. Time that the server needs itself, or
// waits for others, is not the client's.
package minrate

import (
	"io"
	"net/http"
	"time"
)

const (
	// Patience is what a client may be waited for at any time, however fast it was.
	Patience = 2 * time.Minute
	// Portion is what a client has to take in a Patience to be waited for ever
	// after: 4 MiB, or 35 KB/s.
	Portion = 4 << 20
	// bodyTimeout is what a client gets to send a body. No request to a handler
	// here needs one, but the server reads it before it answers.
	bodyTimeout = 10 * time.Second
)

// Handler serves through next, and breaks the connection to a client that reads
// slower than a Portion in a Patience, or does not send the body that it announced.
// The writer that next gets passes files on to the kernel's sendfile, as the
// server's own does.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paced := &writer{ResponseWriter: w, control: http.NewResponseController(w), left: Patience}
		if r.ContentLength != 0 {
			_ = paced.control.SetReadDeadline(time.Now().Add(bodyTimeout))
		}

		// What the handler leaves in the server's buffer is sent after it. The next
		// request of the connection gets its own time.
		defer paced.expect()

		next.ServeHTTP(paced, r)
	})
}

// writer gives each write the time that the client has left.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	left    time.Duration
}

// Unwrap is how http.ResponseController finds the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write implements io.Writer.
func (w *writer) Write(data []byte) (n int, err error) {
	w.timed(func() int64 {
		n, err = w.ResponseWriter.Write(data)

		return int64(n)
	})

	return n, err
}

// ReadFrom implements io.ReaderFrom, which the server implements with sendfile for
// a file with a limit. It sends portions, so that each earns its time.
func (w *writer) ReadFrom(source io.Reader) (sent int64, err error) {
	limited, ok := source.(*io.LimitedReader)

	inner, fast := w.ResponseWriter.(io.ReaderFrom)
	if !ok || !fast {
		return io.Copy(writerOnly{w}, source)
	}

	for limited.N > 0 && err == nil {
		part := &io.LimitedReader{R: limited.R, N: min(Portion, limited.N)}
		want := part.N

		w.timed(func() (n int64) {
			n, err = inner.ReadFrom(part)
			sent, limited.N = sent+n, limited.N-n
			want -= n

			return n
		})

		if err == nil && want > 0 {
			break // the source ended before its limit
		}
	}

	return sent, err
}

// timed sends something within the time that is left, and takes account of how long
// that took and of how much was taken.
func (w *writer) timed(send func() int64) {
	begun := time.Now()

	w.expect()

	earned := time.Duration(send()) * (Patience / Portion)
	w.left = min(Patience, w.left-time.Since(begun)+earned)

	// HTTP/2 ends a stream at its deadline, whether something is being sent or not.
	_ = w.control.SetWriteDeadline(time.Time{})
}

// expect sets the deadline of what is written. Where that fails, so does the
// writing, or there is no connection.
func (w *writer) expect() { _ = w.control.SetWriteDeadline(time.Now().Add(w.left)) }

// writerOnly hides ReadFrom from io.Copy.
type writerOnly struct{ io.Writer }
