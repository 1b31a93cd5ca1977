package power

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"
)

// forget drops the login.
func (d *redfish) forget() { d.auth, d.session = nil, "" }

// probe tells whether a Redfish service answers, without logging in.
func (d *redfish) probe(ctx context.Context) error {
	since := time.Now()

	if d.api == nil {
		// The context is that of the calls, given to each of them.
		api, err := gofish.ConnectContext(ctx, gofish.ClientConfig{
			Endpoint: d.base, HTTPClient: d.client, ReuseConnections: true, NoModifyTransport: true,
		})
		if err != nil {
			return d.notRedfish(httpFailure(ctx, err, d.address, since))
		}

		api.Service = nil // gofish's own picture of the service root: large, and not used here
		d.api = api
	}

	var root serviceRoot
	if err := d.request(ctx, http.MethodGet, schemas.DefaultServiceRoot, nil, nil, &root); err != nil {
		return d.notRedfish(err)
	}

	if root.Version == "" && !strings.Contains(root.Type, "ServiceRoot") {
		return fail(ErrUnsupported, "%s does not speak Redfish", d.address)
	}

	d.root = root

	return nil
}

// notRedfish reads the failures of a web server that is no Redfish service.
func (d *redfish) notRedfish(err error) error {
	if isKind(err, ErrRefused) {
		return fail(ErrUnsupported, "%s does not speak Redfish", d.address).because(err)
	}

	return err
}

// connect logs in, where that is still to do.
func (d *redfish) connect(ctx context.Context) error {
	if d.auth != nil {
		return nil
	}

	if err := d.probe(ctx); err != nil {
		return err
	}

	if err := d.openSession(ctx); err != nil {
		return err
	}

	d.logins++
	d.path = ""

	return nil
}

// openSession creates a session. Where there is no session service, or no room
// in it, each request carries the credentials (RFC 7617).
func (d *redfish) openSession(ctx context.Context) error {
	path, err := d.sessionsPath(ctx)
	if err != nil {
		return err
	}

	if path != "" {
		err := d.createSession(ctx, path)
		if err == nil || isKind(err, ErrAuth) || isKind(err, ErrUnreachable) {
			return err
		}

		d.log.Debug("no redfish session: using basic authentication", "reason", err.Error())
	}

	basic := http.Request{Header: http.Header{}}
	basic.SetBasicAuth(d.target.Username, d.target.Password.Reveal())
	d.auth = map[string]string{"Authorization": basic.Header.Get("Authorization")}

	return nil
}

// sessionsPath is where sessions are created; empty where there is no such place.
func (d *redfish) sessionsPath(ctx context.Context) (string, error) {
	if path := d.root.Links.Sessions.ID; path != "" || d.root.SessionService.ID == "" {
		return path, nil
	}

	var service struct{ Sessions odataLink }

	err := d.request(ctx, http.MethodGet, d.root.SessionService.ID, nil, nil, &service)
	if isKind(err, ErrUnreachable) {
		return "", err
	}

	// A session service that must not be read before the login is of no use here.
	return service.Sessions.ID, nil
}

func (d *redfish) createSession(ctx context.Context, path string) error {
	since := time.Now()

	token, err := schemas.CreateSession(d.api.WithContext(ctx), path, d.target.Username, d.target.Password.Reveal())
	if err != nil {
		return httpFailure(ctx, err, d.address, since)
	}

	if token.Token == "" {
		return fail(ErrUnsupported, "%s gave a session without a token", d.address)
	}

	d.auth, d.session = map[string]string{"X-Auth-Token": token.Token}, token.Session

	return nil
}

// request sends a request and reads the answer into what into points to.
func (d *redfish) request(ctx context.Context, method, path string, headers map[string]string, body, into any) error {
	_, err := d.exchange(ctx, method, path, headers, body, into)

	return err
}

// exchange is request, and gives the answer's headers.
func (d *redfish) exchange(
	ctx context.Context, method, path string, headers map[string]string, body, into any,
) (http.Header, error) {
	since := time.Now()
	api := d.api.WithContext(ctx)

	all := map[string]string{}
	for _, part := range []map[string]string{d.auth, headers} {
		for name, value := range part {
			all[name] = value
		}
	}

	var (
		resp *http.Response
		err  error
	)

	switch method {
	case http.MethodPost:
		resp, err = api.PostWithHeaders(path, body, all)
	case http.MethodPatch:
		resp, err = api.PatchWithHeaders(path, body, all)
	case http.MethodDelete:
		resp, err = api.DeleteWithHeaders(path, all)
	default:
		resp, err = api.GetWithHeaders(path, all)
	}

	if err != nil {
		return nil, d.expired(httpFailure(ctx, err, d.address, since))
	}

	if resp.TLS != nil {
		d.certificate = Fingerprint(resp.TLS.PeerCertificates[0])
	}

	return resp.Header, httpFailure(ctx, decodeBody(resp, into), d.address, since)
}

// expired marks a refusal that a new login may cure: sessions time out and
// controllers restart.
func (d *redfish) expired(err error) error {
	var f *failure
	if d.auth == nil || !errors.As(err, &f) || f.status != http.StatusUnauthorized {
		return err
	}

	d.forget()
	f.lost = true

	return f
}
