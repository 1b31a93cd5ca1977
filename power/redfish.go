package power

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"
)

// redfish is the driver for Redfish (DSP0266). gofish has the requests and the
// errors; login, choice of the system, reset and boot override are here,
// because its own take the system that answers first, ignore ActionInfo, log in
// once for good and write the boot override to one resource only.
type redfish struct {
	target    Target
	address   string
	base      string
	client    *http.Client
	transport *http.Transport
	keepMode  bool
	log       *slog.Logger

	api     *gofish.APIClient
	root    serviceRoot
	auth    map[string]string // the headers that authenticate; nil: not logged in
	session string            // its path, empty with Basic authentication
	logins  int
	path    string // of the system that is driven
}

func newRedfish(target Target, opts Options) *redfish {
	scheme := "https"
	if opts.PlainHTTP {
		scheme = "http"
	}

	client, transport := newHTTPClient(target, opts)
	address := endpoint(target.Address, target.RedfishPort)

	return &redfish{
		target: target, address: address, base: scheme + "://" + address,
		client: client, transport: transport,
		keepMode: opts.KeepBootMode, log: opts.Log.With("bmc", target.Label()),
	}
}

// odataLink is a reference to a resource.
type odataLink struct {
	ID string `json:"@odata.id"`
}

// serviceRoot is what the driver reads of the service root.
type serviceRoot struct {
	Version        string `json:"RedfishVersion"`
	Type           string `json:"@odata.type"`
	Vendor         string
	Systems        odataLink
	Managers       odataLink
	SessionService odataLink
	Links          struct{ Sessions odataLink }
}

// computerSystem is what the driver reads of a system.
type computerSystem struct {
	Path         string `json:"@odata.id"`
	ETag         string `json:"@odata.etag"`
	UUID         string
	Manufacturer string
	Model        string
	SerialNumber string
	PowerState   string
	Boot         bootSource
	Settings     struct {
		Object odataLink `json:"SettingsObject"`
	} `json:"@Redfish.Settings"`
	Links struct {
		ManagedBy []odataLink
	}
	Actions struct {
		Reset struct {
			Target     string   `json:"target"`
			Types      []string `json:"ResetType@Redfish.AllowableValues"`
			ActionInfo string   `json:"@Redfish.ActionInfo"`
		} `json:"#ComputerSystem.Reset"`
	}
}

// login implements driver.
func (d *redfish) login() int { return d.logins }

// close implements driver: the session is deleted, the connection closed.
func (d *redfish) close(ctx context.Context) error {
	defer d.transport.CloseIdleConnections()

	session := d.session
	if session == "" || d.api == nil {
		return nil
	}

	err := d.request(ctx, http.MethodDelete, session, nil, nil, nil)
	d.forget()

	switch {
	case isKind(err, ErrAuth), isKind(err, ErrUnsupported):
		return nil // the controller has forgotten it already
	case isKind(err, ErrUnreachable):
		d.log.Info("a redfish session is left to its time-out", "reason", err.Error())

		return nil
	default:
		return err
	}
}

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

// system reads the system that the conversation is about.
func (d *redfish) system(ctx context.Context) (computerSystem, error) {
	if err := d.connect(ctx); err != nil {
		return computerSystem{}, err
	}

	if d.path == "" {
		return d.findSystem(ctx)
	}

	return d.readSystem(ctx, d.path)
}

func (d *redfish) readSystem(ctx context.Context, path string) (computerSystem, error) {
	var s computerSystem

	header, err := d.exchange(ctx, http.MethodGet, path, nil, nil, &s)
	if err != nil {
		return s, err
	}

	s.ETag = cmp.Or(header.Get("ETag"), s.ETag)
	s.Path = path

	return s, nil
}

// findSystem chooses the system with the machine's UUID, or the only one;
// never the first, which is another one every time.
func (d *redfish) findSystem(ctx context.Context) (computerSystem, error) {
	var collection struct{ Members []odataLink }

	path := cmp.Or(d.root.Systems.ID, schemas.DefaultServiceRoot+"Systems")
	if err := d.request(ctx, http.MethodGet, path, nil, nil, &collection); err != nil {
		return computerSystem{}, err
	}

	switch {
	case len(collection.Members) == 0:
		return computerSystem{}, fail(ErrUnsupported, "%s has no system", d.address)
	case len(collection.Members) > 1 && d.target.UUID == "":
		return computerSystem{}, fail(ErrAmbiguous, "%s has %d systems, and it is not known which is meant",
			d.address, len(collection.Members))
	}

	for _, member := range collection.Members {
		s, err := d.readSystem(ctx, member.ID)
		if err != nil {
			return s, err
		}

		if len(collection.Members) == 1 || identityFromText(s.UUID).is(d.target.UUID) {
			d.path = member.ID

			return s, nil
		}
	}

	return computerSystem{}, fail(ErrAmbiguous, "none of the %d systems of %s is %s",
		len(collection.Members), d.address, d.target.UUID)
}

// state implements driver.
func (d *redfish) state(ctx context.Context) (State, error) {
	s, err := d.system(ctx)
	if err != nil {
		return StateUnknown, err
	}

	// PoweringOn and PoweringOff are on their way to be known (DSP2046, PowerState).
	switch s.PowerState {
	case "On", "Paused":
		return StateOn, nil
	case "Off":
		return StateOff, nil
	default:
		return StateUnknown, nil
	}
}

// identify implements driver.
func (d *redfish) identify(ctx context.Context) (identity, error) {
	s, err := d.system(ctx)

	return identityFromText(s.UUID), err
}

// info implements driver. A manager that cannot be read leaves the firmware
// empty.
func (d *redfish) info(ctx context.Context) (Info, error) {
	s, err := d.system(ctx)
	if err != nil {
		return Info{}, err
	}

	return Info{
		Protocol: ProtocolRedfish, Version: d.root.Version,
		Vendor: cmp.Or(s.Manufacturer, d.root.Vendor), Model: s.Model, Serial: s.SerialNumber,
		Firmware: d.firmware(ctx, s), UUID: identityFromText(s.UUID).text(d.target.UUID), AddressInUse: d.address,
	}, nil
}

func (d *redfish) firmware(ctx context.Context, s computerSystem) string {
	managers := s.Links.ManagedBy

	if len(managers) == 0 && d.root.Managers.ID != "" {
		var collection struct{ Members []odataLink }
		if d.request(ctx, http.MethodGet, d.root.Managers.ID, nil, nil, &collection) == nil {
			managers = collection.Members
		}
	}

	if len(managers) == 0 {
		return ""
	}

	var manager struct{ FirmwareVersion string }
	if d.request(ctx, http.MethodGet, managers[0].ID, nil, nil, &manager) != nil {
		return ""
	}

	return manager.FirmwareVersion
}

// resetTypes are Redfish's words for an action, the best first (Resource.ResetType).
var resetTypes = map[Action][]string{
	On:    {"On", "ForceOn"},
	Off:   {"ForceOff"},
	Soft:  {"GracefulShutdown"},
	Cycle: {"PowerCycle"},
	Reset: {"ForceRestart"},
	NMI:   {"Nmi"},
}

// act implements driver.
func (d *redfish) act(ctx context.Context, action Action) error {
	s, err := d.system(ctx)
	if err != nil {
		return err
	}

	reset := s.Actions.Reset
	if reset.Target == "" {
		return fail(ErrUnsupported, "the system at %s has no reset action", d.address)
	}

	allowed, err := d.allowedResets(ctx, s)
	if err != nil {
		return err
	}

	kind := chooseReset(resetTypes[action], allowed)
	if kind == "" {
		return fail(ErrUnsupported, "the system at %s has no reset type for %s (it has %s)",
			d.address, action, strings.Join(allowed, ", "))
	}

	// No If-Match here: some controllers refuse actions that carry one.
	return d.request(ctx, http.MethodPost, reset.Target, nil, map[string]string{"ResetType": kind}, nil)
}

// allowedResets are the reset types on offer; none: the controller does not tell.
func (d *redfish) allowedResets(ctx context.Context, s computerSystem) ([]string, error) {
	reset := s.Actions.Reset
	if len(reset.Types) > 0 || reset.ActionInfo == "" {
		return reset.Types, nil
	}

	var info struct {
		Parameters []struct {
			Name            string
			AllowableValues []string
		}
	}

	err := d.request(ctx, http.MethodGet, reset.ActionInfo, nil, nil, &info)
	if err != nil && !isKind(err, ErrUnsupported) {
		return nil, err
	}

	for _, p := range info.Parameters {
		if p.Name == "ResetType" {
			return p.AllowableValues, nil
		}
	}

	return nil, nil
}

// chooseReset picks a word that is on offer. A firmware that lost the comma
// between two of its words offers both.
func chooseReset(words, allowed []string) string {
	for _, word := range words {
		if len(allowed) == 0 || slices.ContainsFunc(allowed, func(a string) bool { return strings.Contains(a, word) }) {
			return word
		}
	}

	return ""
}
