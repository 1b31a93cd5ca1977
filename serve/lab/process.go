package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/bmctl/bmctl/serve/localapi"
)

// process is a running serve.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // after done
}

// serveStart bounds how long serve may take until it has bound its ports.
const serveStart = 20 * time.Second

// SocketPath is the local socket of the lab's serve.
func (l *Lab) SocketPath() string { return filepath.Join(l.cfg.Dir, "sock") }

// StartServe starts serve and waits until it answers. A later serve gets the
// ports of the first, as a restarted service has.
func (l *Lab) StartServe(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(l.cfg.Dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the child has it

	cmd := exec.Command(l.cfg.Exe, append([]string{"serve"}, l.serveFlags()...)...) //nolint:gosec // our own binary
	cmd.Env = append(slices.Clone(l.cfg.Environ),
		"OMNI_ENDPOINT="+l.Omni().Endpoint(), "OMNI_SERVICE_ACCOUNT_KEY="+l.Omni().ProviderKey(), "BMCTL_CONFIG="+l.configPath())
	cmd.Stderr = log
	cmd.SysProcAttr = childAttributes()

	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start serve: %w", err)
	}

	p := &process{cmd: cmd, done: make(chan struct{})}

	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()

	l.mu.Lock()
	l.serve = p
	l.mu.Unlock()

	return l.awaitServe(ctx, p)
}

func (l *Lab) serveFlags() []string {
	l.mu.Lock()
	defer l.mu.Unlock()

	flags := []string{
		"--api-listen-address=127.0.0.1", "--api-advertise-address=127.0.0.1", "--dhcp-proxy-iface-or-ip=127.0.0.1",
		"--api-port=" + port(l.ports.HTTP), "--dhcp-port=" + port(l.ports.DHCP),
		"--pxe-port=" + port(l.ports.ProxyDHCP), "--tftp-port=" + port(l.ports.TFTP),
		"--image-factory-base-url=" + l.factory.url, "--image-factory-pxe-base-url=" + l.factory.url,
		"--redfish-port=" + strconv.Itoa(max(1, l.redfishPort)),
		"--min-reboot-interval=" + l.cfg.MinRebootInterval.String(), "--poll-interval=2s", "--poll-timeout=3s",
		"--state-dir=" + filepath.Join(l.cfg.Dir, "state"), "--socket=" + l.SocketPath(), "--metrics-address=",
		"--log-format=json", "--max-disruptions=1000",
	}

	return append(flags, l.cfg.ServeFlags...)
}

func port(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) }

// awaitServe waits until serve tells on its socket what it has bound.
func (l *Lab) awaitServe(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, serveStart)
	defer cancel()

	client := localapi.Dial(l.SocketPath())
	defer client.Close()

	for {
		health, err := client.Health(ctx)
		if err == nil && health.PID == p.cmd.Process.Pid {
			return l.servesAt(health)
		}

		select {
		case <-p.done:
			return fmt.Errorf("serve ended at once (%w); its log is %s", p.err, filepath.Join(l.cfg.Dir, "serve.log"))
		case <-ctx.Done():
			return fmt.Errorf("serve does not answer on %s: %w", l.SocketPath(), ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (l *Lab) servesAt(health localapi.Health) error {
	var (
		ports servePorts
		errs  []error
	)

	for text, addr := range map[string]*netip.AddrPort{
		health.DHCP: &ports.DHCP, health.ProxyDHCP: &ports.ProxyDHCP, health.TFTP: &ports.TFTP, health.HTTP: &ports.HTTP,
	} {
		var err error

		*addr, err = netip.ParseAddrPort(text)
		errs = append(errs, err)
	}

	l.mu.Lock()
	l.ports = ports
	l.mu.Unlock()

	return errors.Join(errs...)
}

// waitServe returns the ports of serve, once there are any.
func (l *Lab) waitServe(ctx context.Context) (servePorts, error) {
	for {
		l.mu.Lock()
		ports := l.ports
		l.mu.Unlock()

		if ports.DHCP.IsValid() {
			return ports, nil
		}

		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return ports, err
		}
	}
}

// ServeEnded tells that serve ended without having been told to.
func (l *Lab) ServeEnded() bool {
	l.mu.Lock()
	p := l.serve
	l.mu.Unlock()

	if p == nil {
		return false
	}

	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// StopServe ends serve as a service manager does, and waits for it.
func (l *Lab) StopServe() error { return l.endServe(syscall.SIGTERM) }

// KillServe ends serve as the kernel does when memory runs out, and waits for it.
func (l *Lab) KillServe() {
	_ = l.endServe(syscall.SIGKILL) // that it was killed is what it says
}

func (l *Lab) endServe(signal syscall.Signal) error {
	const patience = 10 * time.Second

	l.mu.Lock()
	p := l.serve
	l.serve = nil
	l.mu.Unlock()

	if p == nil {
		return nil
	}

	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}

	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill() // it had its time
		<-p.done

		return fmt.Errorf("serve did not end within %s", patience)
	}

	if p.err != nil && signal != syscall.SIGKILL {
		return fmt.Errorf("serve: %w", p.err)
	}

	return nil
}
