package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"

	"github.com/bmctl/bmctl/serve/trust"
)

// CheckResult is what one of serve's checks found.
type CheckResult struct {
	// Name is the thing checked: omni, interface, dhcp-proxy (both of its ports), tftp,
	// http, grpc over tls, metrics, image factory. What is not used is not checked.
	Name string
	// Detail says what was found; of a failed check, what is wrong.
	Detail string
	// Err is nil when all is well. It wraps ErrCredentials where Omni refused the key.
	Err error
	// Hint is what to try, if there is something to say.
	Hint string
}

// Check looks at everything that Run needs: Omni and the key, the interface, each
// port (bound and given up again), and the Image Factory. It changes nothing and
// can be run beside a serve that runs elsewhere; on the same host the ports are
// in use then, and the check says so. The configuration must be valid.
func Check(ctx context.Context, cfg Config) ([]CheckResult, error) {
	// The state of a running serve is not touched.
	cfg.StateDir, cfg.StateDirGiven, cfg.AssetCacheDir = "", false, ""

	s, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer s.omni.Close() //nolint:errcheck // nothing is lost with it

	results := append([]CheckResult{s.checkOmni(ctx), s.checkInterface()}, s.checkPorts(ctx)...)

	if !cfg.UseLocalBootAssets {
		results = append(results, checkFactory(ctx, webClient(s.roots), cfg.ImageFactoryBaseURL))
	}

	return results, nil
}

func (s *Server) checkOmni(ctx context.Context) CheckResult {
	r := CheckResult{Name: "omni"}

	ctx, cancel := context.WithTimeout(ctx, omniAsked)
	defer cancel()

	silent, refused := askOmni(ctx, s.state, s.cfg.ID)

	switch {
	case refused != nil:
		r.Err, r.Hint = refused, "OMNI_SERVICE_ACCOUNT_KEY must be the key of the infra provider "+strconv.Quote(s.cfg.ID)
	case silent != nil:
		r.Err, r.Hint = silent, cmp.Or(trust.Hint(silent), "is --omni-api-endpoint right, and may this host reach it?")
	default:
		_, r.Err = s.state.List(ctx, infra.NewMachine("").Metadata())
	}

	r.Detail = fmt.Sprintf("%s as infra provider %q%s", s.cfg.OmniAPIEndpoint, s.cfg.ID, s.omniVersion(ctx))

	return r
}

// omniVersion is Omni's version in brackets, where it tells it.
func (s *Server) omniVersion(ctx context.Context) string {
	v, err := safe.ReaderGetByID[*system.SysVersion](ctx, s.state, system.SysVersionID)
	if err != nil {
		return ""
	}

	return " (" + v.TypedSpec().Value.BackendVersion + ")"
}

func (s *Server) checkInterface() CheckResult {
	r := CheckResult{Name: "interface", Detail: "advertise " + s.advertise.String()}

	interfaces, err := net.Interfaces()
	if err != nil {
		r.Err = err

		return r
	}

	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it is gone in this moment
		}

		for _, a := range addrs {
			if strings.HasPrefix(a.String(), s.advertise.String()+"/") {
				r.Detail = fmt.Sprintf("%s %s  (advertise %s)", i.Name, a, s.advertise)

				return r
			}
		}
	}

	r.Detail = fmt.Sprintf("no interface of this host has %s: right only where something forwards it", s.advertise)

	return r
}

// checkPorts tries every port once, those of a service in one result.
func (s *Server) checkPorts(ctx context.Context) []CheckResult {
	services := map[string]string{"DHCP": "dhcp-proxy", "ProxyDHCP": "dhcp-proxy", "TFTP": "tftp"}

	var results []CheckResult

	for _, trial := range s.boot.TryBind() {
		results = addTrial(results, services[trial.Name], bound(trial.Addr), trial.Err)
	}

	results = tryListen(ctx, results, "http", "HTTP and gRPC", s.cfg.apiAddress())

	if s.cfg.TLSEnabled {
		results = tryListen(ctx, results, "grpc over tls", "gRPC over TLS", s.cfg.tlsAddress())
	}

	// A default one that is in use is no reason for Run to end.
	if s.cfg.MetricsAddressGiven && s.cfg.MetricsAddress != "" {
		results = tryListen(ctx, results, "metrics", "metrics", s.cfg.MetricsAddress)
	}

	return results
}

func tryListen(ctx context.Context, results []CheckResult, name, what, address string) []CheckResult {
	listener, err := listen(ctx, what, address)
	if err != nil {
		return addTrial(results, name, "", err)
	}

	return addTrial(results, name, listener.Addr().String(), listener.Close())
}

// addTrial adds what became of one port to the service that it belongs to.
func addTrial(results []CheckResult, name, addr string, err error) []CheckResult {
	if len(results) == 0 || results[len(results)-1].Name != name {
		results = append(results, CheckResult{Name: name})
	}

	r := &results[len(results)-1]
	r.Detail = strings.Join(append(strings.Fields(strings.ReplaceAll(r.Detail, ",", "")), strings.Fields(addr)...), ", ")
	r.Err = errors.Join(r.Err, err)

	switch {
	case err == nil || r.Hint != "":
	case errors.Is(err, syscall.EADDRINUSE) && name == "dhcp-proxy":
		r.Hint = "same host as the DHCP server? add --disable-dhcp-proxy-broadcast"
	case errors.Is(err, syscall.EADDRINUSE):
		r.Hint = "stop what has the port, or choose another address or port"
	case errors.Is(err, os.ErrPermission):
		r.Hint = "ports below 1024 and single interfaces need root, or CAP_NET_BIND_SERVICE and CAP_NET_RAW as the systemd unit gives them"
	}

	return results
}

func checkFactory(ctx context.Context, web *http.Client, base string) CheckResult {
	r := CheckResult{Name: "image factory", Detail: base}

	ctx, cancel := context.WithTimeout(ctx, omniAsked)
	defer cancel()

	begun := time.Now()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/healthz", nil)
	if err != nil {
		r.Err = err

		return r
	}

	response, err := web.Do(request)
	if err != nil {
		r.Hint = cmp.Or(trust.Hint(err), "machines need it too; without a way out use --use-local-boot-assets")

		if named := (*url.Error)(nil); errors.As(err, &named) {
			err = named.Err // without the address once more
		}

		r.Err = err

		return r
	}

	_ = response.Body.Close() // the status is all we want

	if response.StatusCode >= http.StatusBadRequest {
		r.Err = fmt.Errorf("%s/healthz: %s", base, response.Status)
	}

	r.Detail = fmt.Sprintf("%s (%d ms)", base, time.Since(begun).Milliseconds())

	return r
}
