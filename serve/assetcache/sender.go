package assetcache

import (
	"io"
	"net/http"
	"path"
	"strconv"
	"time"
)

// Watch serves through handler with the patience that the cache has with its own
// files: a machine that does not read is given up, and sendfile is kept. Each
// transfer is told to served; its Key names the file alone, by the last word of the
// path.
func Watch(handler http.Handler, served func(Transfer)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		sent := &sender{ResponseWriter: w, control: http.NewResponseController(w)}
		handler.ServeHTTP(sent, r)

		sent.expectBy(time.Time{}) // the connection serves the next request

		if r.Method == http.MethodGet && sent.bytes > 0 && !sent.refused {
			served(Transfer{Key: Key{File: path.Base(r.URL.Path)}, Request: r, Bytes: sent.bytes, Duration: time.Since(begun), Complete: sent.complete})
		}
	})
}

// sender counts what is sent, and gives up a machine that does not read. Files go
// through the kernel's sendfile, as they do without it.
type sender struct {
	http.ResponseWriter
	control  *http.ResponseController
	bytes    int64
	complete bool
	refused  bool // what is sent is the reason why there is no file
}

// Unwrap is how http.ResponseController finds the connection.
func (s *sender) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (s *sender) WriteHeader(status int) {
	s.refused = status >= http.StatusBadRequest
	s.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (s *sender) Write(data []byte) (int, error) {
	s.expectBy(time.Now().Add(patience))

	n, err := s.ResponseWriter.Write(data)
	s.bytes += int64(n)

	return n, err
}

// ReadFrom implements io.ReaderFrom, which the server implements with sendfile for
// a file with a limit. It sends portions, each of which has its time.
func (s *sender) ReadFrom(source io.Reader) (sent int64, err error) {
	limited, ok := source.(*io.LimitedReader)

	inner, fast := s.ResponseWriter.(io.ReaderFrom)
	if !ok || !fast {
		return io.Copy(writerOnly{s}, source)
	}

	for limited.N > 0 && err == nil {
		s.expectBy(time.Now().Add(patience))

		var n int64
		want := min(portion, limited.N)
		n, err = inner.ReadFrom(&io.LimitedReader{R: limited.R, N: want})
		sent, s.bytes, limited.N = sent+n, s.bytes+n, limited.N-n

		if err == nil && n < want {
			err = io.ErrUnexpectedEOF
		}
	}

	s.complete = err == nil
	s.expectBy(time.Time{})

	return sent, err
}

// writerOnly hides ReadFrom from io.Copy.
type writerOnly struct{ io.Writer }

// expectBy sets the deadline of what is written. Where that fails, so does the
// writing, or there is no connection.
func (s *sender) expectBy(at time.Time) { _ = s.control.SetWriteDeadline(at) }

func setLength(w http.ResponseWriter, total int64) {
	if total >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(total, 10))
	}
}
