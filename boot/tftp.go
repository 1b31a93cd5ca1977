package boot

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pin/tftp/v3"
)

const (
	// tftpBlockSize fills an Ethernet frame: 1500 less IP, UDP and TFTP headers.
	tftpBlockSize = 1468
	tftpTimeout   = time.Second
	tftpRetries   = 5
)

// serveTFTP serves the loaders until the context ends.
func (s *Server) serveTFTP(ctx context.Context, conn net.PacketConn) error {
	server := tftp.NewServer(func(name string, to io.ReaderFrom) error { return s.sendFile(ctx, name, to) }, nil)
	server.SetBlockSize(tftpBlockSize)
	server.SetTimeout(tftpTimeout)
	server.SetRetries(tftpRetries)
	if s.config.TFTPSinglePort {
		server.EnableSinglePort()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		server.Shutdown()
	}()
	err := server.Serve(conn)
	if ctx.Err() != nil {
		<-ended
		return nil
	}
	return fmt.Errorf("serve TFTP: %w", err)
}

func (s *Server) sendFile(ctx context.Context, name string, to io.ReaderFrom) error {
	started := time.Now()
	event := Event{Type: EventLoader, File: cleanName(name)}
	if peer, ok := to.(tftp.OutgoingTransfer); ok {
		remote := peer.RemoteAddr()
		event.Addr, _ = netip.AddrFromSlice(remote.IP)
		event.Addr = event.Addr.Unmap()
	}
	s.recorder.post(record{level: slog.LevelInfo, text: "file requested",
		attrs: []slog.Attr{slog.String("filename", event.File), slog.String("source", event.Addr.String())}})
	content, ok := s.file(event.File, s.baseURL(s.config.Advertise))
	if !ok {
		s.recorder.ignored(event, fmt.Sprintf("there is no file %q", name))
		return fmt.Errorf("there is no file %q", event.File)
	}
	sent, err := to.ReadFrom(&interruptible{ctx, bytes.NewReader(content)})
	event.Bytes, event.Duration = sent, time.Since(started)
	if err != nil && sizeProbe(sent, err) {
		return nil
	}
	if err != nil {
		s.recorder.ignored(event, fmt.Sprintf("sending %q ended after %d bytes: %v", event.File, sent, err))
		return nil
	}
	s.recorder.post(record{event: event, level: slog.LevelInfo, text: "file sent", attrs: []slog.Attr{
		slog.String("filename", event.File), slog.Int64("bytes", sent), slog.String("source", event.Addr.String())}})
	return nil
}

// sizeProbe recognises a client that only wanted the size: EDK2 and others take
// it from the option acknowledgement, abort, and ask again for the file.
func sizeProbe(sent int64, err error) bool {
	return sent <= tftpBlockSize && strings.Contains(err.Error(), "code=")
}

// interruptible is a file whose reading ends with the context.
type interruptible struct {
	ctx context.Context
	*bytes.Reader
}

// Read implements io.Reader.
func (r *interruptible) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
