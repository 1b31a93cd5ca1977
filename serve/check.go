package serve

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/omni/client/pkg/omni/resources/infra"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
)

// CheckResult is what one of serve's checks found.
type CheckResult struct {
	// Name is the thing checked: omni, interface, dhcp-proxy, tftp, http, image factory.
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

	results := []CheckResult{s.checkOmni(ctx), s.checkInterface()}
	results = append(results, s.checkBoot(), s.checkHTTP(ctx))

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
		r.Err, r.Hint = silent, hintFor(silent, "is --omni-api-endpoint right, and may this host reach it?")
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

// hintFor is the hint for a server that does not answer, or whose certificate is
// not trusted.
func hintFor(err error, silent string) string {
	if strings.Contains(err.Error(), x509.UnknownAuthorityError{}.Error()) {
		return "an authority of your own goes into --extra-ca-file"
	}

	return silent
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

func (s *Server) checkBoot() CheckResult {
	r := CheckResult{Name: "network boot"}

	if r.Err = s.boot.Bind(); r.Err != nil {
		r.Hint = "same host as the DHCP server? add --disable-dhcp-proxy-broadcast"

		return r
	}

	addrs := s.boot.Addrs()
	r.Detail = strings.Join(strings.Fields(bound(addrs.DHCP)+" "+bound(addrs.ProxyDHCP)+" "+bound(addrs.TFTP)), ", ")
	r.Err = s.boot.Close()

	return r
}

func (s *Server) checkHTTP(ctx context.Context) CheckResult {
	addr := net.JoinHostPort(s.cfg.APIListenAddress, strconv.Itoa(s.cfg.APIPort))
	r := CheckResult{Name: "http and grpc", Detail: addr}

	var lc net.ListenConfig

	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		r.Err = err

		return r
	}

	r.Err = listener.Close()

	return r
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
		r.Err, r.Hint = err, hintFor(err, "machines need it too; without a way out use --use-local-boot-assets")

		return r
	}

	_ = response.Body.Close() // the status is all we want

	if response.StatusCode >= http.StatusBadRequest {
		r.Err = fmt.Errorf("%s/healthz: %s", base, response.Status)
	}

	r.Detail = fmt.Sprintf("%s (%d ms)", base, time.Since(begun).Milliseconds())

	return r
}
