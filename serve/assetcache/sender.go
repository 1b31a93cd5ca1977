package assetcache

import (
	"io"
	"net/http"
	"path"
	"strconv"
	"time"
)

// Watch serves through handler, with sendfile where the server has it. Each transfer
// is told to served; its Key names the file alone, by the last word of the path.
func Watch(handler http.Handler, served func(Transfer)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		sent := &sender{ResponseWriter: w}
		handler.ServeHTTP(sent, r)

		if r.Method == http.MethodGet && sent.bytes > 0 && !sent.refused {
			served(Transfer{Key: Key{File: path.Base(r.URL.Path)}, Request: r, Bytes: sent.bytes, Duration: time.Since(begun), Complete: sent.complete})
		}
	})
}

// sender counts what is sent. Files go through the kernel's sendfile, as they do
// without it.
type sender struct {
	http.ResponseWriter
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
	n, err := s.ResponseWriter.Write(data)
	s.bytes += int64(n)

	return n, err
}

// ReadFrom implements io.ReaderFrom, which the server implements with sendfile for
// a file with a limit. A file that is shorter than that is not complete.
func (s *sender) ReadFrom(source io.Reader) (int64, error) {
	n, err := io.Copy(s.ResponseWriter, source)
	s.bytes += n

	limited, ok := source.(*io.LimitedReader)
	s.complete = err == nil && (!ok || limited.N == 0)

	return n, err
}

func setLength(w http.ResponseWriter, total int64) {
	if total >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(total, 10))
	}
}
