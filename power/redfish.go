package power

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"

	"github.com/stmcginnis/gofish"
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

	certificate string // its fingerprint; empty: none was shown
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
	Product        string
	Systems        odataLink
	Managers       odataLink
	Chassis        odataLink
	UpdateService  odataLink
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
	PartNumber   string
	AssetTag     string
	BiosVersion  string
	PowerState   string
	Status       resourceStatus
	Boot         bootSource
	indicator
	LogServices        odataLink
	EthernetInterfaces odataLink
	Settings           struct {
		Object odataLink `json:"SettingsObject"`
	} `json:"@Redfish.Settings"`
	Links struct {
		ManagedBy []odataLink
		Chassis   []odataLink
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

	if err := d.request(ctx, http.MethodGet, d.systemsPath(), nil, nil, &collection); err != nil {
		return computerSystem{}, err
	}

	switch {
	case len(collection.Members) == 0:
		f := fail(ErrUnsupported, "%s has no system", d.address)
		f.noSystem = true

		return computerSystem{}, f
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

	return redfishPower(s.PowerState), nil
}

// redfishPower reads a PowerState: PoweringOn and PoweringOff are on their way
// to be known (DSP2046, PowerState).
func redfishPower(state string) State {
	switch state {
	case "On", "Paused":
		return StateOn
	case "Off":
		return StateOff
	default:
		return StateUnknown
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

	info := Info{
		Protocol: ProtocolRedfish, Version: d.root.Version,
		Vendor: cmp.Or(s.Manufacturer, d.root.Vendor), Model: s.Model, Serial: s.SerialNumber,
		UUID: identityFromText(s.UUID).text(d.target.UUID), AddressInUse: d.address,
	}

	managers, err := d.managers(ctx, s)
	if len(managers) > 0 {
		info.Firmware = managers[0].FirmwareVersion
	}

	return info, unlessMissing(err)
}
