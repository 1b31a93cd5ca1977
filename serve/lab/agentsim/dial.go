package agentsim

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	callTimeout = 10 * time.Second // of one attempt
	firstDelay  = 200 * time.Millisecond
	lastDelay   = 5 * time.Second
)

func (a *Agent) dialer() *net.Dialer {
	dialer := &net.Dialer{Timeout: callTimeout}

	if a.LocalAddr.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: a.LocalAddr.AsSlice()}
	}

	return dialer
}

// dialGRPC prepares a connection; it is made by the first call.
func (a *Agent) dialGRPC(address string, secure bool, config *tls.Config) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if secure {
		transport = credentials.NewTLS(config)
	}

	dialer := a.dialer()

	// passthrough: the dialer resolves names, so that LocalAddr applies, and no proxy of the environment is asked.
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}),
	)
}

// retry tries until it works or ctx ends, logging each failure. It returns
// ctx's error or nil.
func (a *Agent) retry(ctx context.Context, what string, try func(context.Context) error) error {
	for delays := (backoff{}); ; {
		attempt, cancel := context.WithTimeout(ctx, callTimeout)
		err := try(attempt)

		cancel()

		if err == nil {
			return nil
		}

		if ctx.Err() != nil {
			return ctx.Err()
		}

		delay := delays.next()
		a.log().Warn("cannot "+what+" yet", "error", err, "again_in", delay)

		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
}

// backoff doubles from firstDelay to lastDelay. The zero value is ready.
type backoff struct{ last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(b.last*2, firstDelay), lastDelay)

	return b.last
}

func sleep(ctx context.Context, duration time.Duration) error {
	timer := time.NewTimer(duration)
	defer timer.Stop()

	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
