package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/localapi"
)

// listen is net.Listen with an error that an operator can act on.
func listen(ctx context.Context, what, address string) (net.Listener, error) {
	var config net.ListenConfig

	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, boot.BindError(what, "tcp", address, err)
	}

	return listener, nil
}

func (c Config) apiAddress() string {
	return net.JoinHostPort(c.APIListenAddress, strconv.Itoa(c.APIPort))
}

func (c Config) tlsAddress() string {
	return net.JoinHostPort(c.APIListenAddress, strconv.Itoa(c.TLSAPIPort))
}

// bind opens every socket before anything is started; where one fails, those
// before it are given up.
func (s *Server) bind(ctx context.Context) (err error) {
	var bound []func()

	defer func() {
		if err != nil {
			for _, closeIt := range bound {
				closeIt()
			}
		}
	}()

	if s.listener, err = listen(ctx, "HTTP and gRPC", s.cfg.apiAddress()); err != nil {
		return err
	}

	bound = append(bound, func() { _ = s.listener.Close() })

	if err = s.boot.SetHTTPPort(int(s.machinesSee().Port())); err != nil {
		return err
	}

	if err = s.boot.Bind(); err != nil {
		return err
	}

	bound = append(bound, func() { _ = s.boot.Close() })

	if err = s.bindTLS(ctx); err != nil {
		return err
	}

	bound = append(bound, func() {
		if s.tlsListener != nil {
			_ = s.tlsListener.Close()
		}
	})

	if err = s.bindMetrics(ctx); err != nil {
		return err
	}

	bound = append(bound, s.metrics.close)

	if err = s.socket.Listen(s.cfg.SocketPath, s.cfg.SocketGroup); err != nil {
		if s.cfg.SocketGiven || errors.Is(err, localapi.ErrInUse) {
			return fmt.Errorf("local API: %w", err)
		}

		s.log.Warn("no local API: other commands cannot see this serve", "error", err, "hint", "--socket")
		s.socket, err = nil, nil
	}

	return nil
}

// bindMetrics binds the metrics' address. The default one is not worth failing
// over; one that was asked for is.
func (s *Server) bindMetrics(ctx context.Context) error {
	err := s.metrics.bind(ctx, s.cfg.MetricsAddress)
	if err != nil && !s.cfg.MetricsAddressGiven {
		s.log.Warn("no metrics", "error", err, "hint", "--metrics-address")

		return nil
	}

	return err
}
