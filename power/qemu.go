package power

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
)

// qemu is the driver for the HTTP power API of the QEMU machines that
// `talosctl cluster create` starts: GET /status, POST /poweron, /poweroff,
// /reboot, /pxeboot. It has no login, and a boot override only to PXE, for once.
type qemu struct {
	address   string
	client    *http.Client
	transport *http.Transport
}

func newQEMU(target Target) *qemu {
	transport := &http.Transport{DialContext: dialAudible, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}

	return &qemu{
		address:   endpoint(target.Address, target.Port),
		client:    &http.Client{Transport: transport},
		transport: transport,
	}
}

// login implements driver: there is one session for ever.
func (d *qemu) login() int { return 0 }

// close implements driver.
func (d *qemu) close(context.Context) error {
	d.transport.CloseIdleConnections()

	return nil
}

// identify implements driver: the API does not tell.
func (d *qemu) identify(context.Context) (identity, error) { return nil, nil }

// info implements driver.
func (d *qemu) info(ctx context.Context) (Info, error) {
	_, err := d.state(ctx)

	return Info{Protocol: ProtocolQEMU, Vendor: "QEMU", AddressInUse: d.address}, err
}

// state implements driver.
func (d *qemu) state(ctx context.Context) (State, error) {
	var status struct{ PoweredOn *bool }
	if err := d.request(ctx, http.MethodGet, "/status", &status); err != nil {
		return StateUnknown, err
	}

	switch {
	case status.PoweredOn == nil:
		return StateUnknown, nil
	case *status.PoweredOn:
		return StateOn, nil
	default:
		return StateOff, nil
	}
}

// act implements driver. A reboot there is a process that is ended and started.
func (d *qemu) act(ctx context.Context, action Action) error {
	path, ok := map[Action]string{On: "/poweron", Off: "/poweroff", Cycle: "/reboot", Reset: "/reboot"}[action]
	if !ok {
		return fail(ErrUnsupported, "the API of QEMU machines has no %s", action)
	}

	return d.request(ctx, http.MethodPost, path, nil)
}

// setBoot implements driver.
func (d *qemu) setBoot(ctx context.Context, boot Boot) error {
	if boot.Device != DevicePXE || boot.Persistent {
		return fail(ErrUnsupported, "the API of QEMU machines has no boot override but PXE, for once")
	}

	return d.request(ctx, http.MethodPost, "/pxeboot", nil)
}

func (d *qemu) request(ctx context.Context, method, path string, into any) error {
	since := time.Now()

	req, err := http.NewRequestWithContext(ctx, method, "http://"+d.address+path, nil)
	if err != nil {
		return fail(ErrUnreachable, "%v", err).because(err)
	}

	resp, err := d.client.Do(req)
	if err != nil {
		return httpFailure(ctx, err, d.address, since)
	}
	defer drain(resp)

	switch {
	case resp.StatusCode == http.StatusNotFound:
		return fail(ErrUnsupported, "%s has no %s", d.address, path)
	case resp.StatusCode != http.StatusOK:
		return fail(ErrRefused, "%s answered %s with %s", d.address, path, resp.Status)
	case into == nil:
		return nil
	}

	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(into); err != nil {
		return fail(ErrUnsupported, "%s answered %s with no JSON: %v", d.address, path, err)
	}

	return nil
}

// ErrNoQEMUMachine tells that no machine of a state directory has the UUID.
var ErrNoQEMUMachine = errors.New("no QEMU machine with this UUID")

// QEMUTarget finds the machine with the UUID in the state directory of
// `talosctl cluster create`: in the *.config file whose NodeUUID it is. The
// target's address is the machine's gateway, where the API listens. An unreadable
// file is an error, a missing machine ErrNoQEMUMachine.
func QEMUTarget(directory, machine string) (Target, error) {
	want, err := uuid.Parse(machine)
	if err != nil {
		return Target{}, fmt.Errorf("machine %q: %w", machine, err)
	}

	paths, err := filepath.Glob(filepath.Join(directory, "*.config"))
	if err != nil {
		return Target{}, fmt.Errorf("state directory %s: %w", directory, err)
	}

	slices.Sort(paths)

	for _, path := range paths {
		target, found, err := readQEMUConfig(path, want)
		if err != nil {
			return Target{}, fmt.Errorf("%s: %w", path, err)
		}

		if found {
			return target, nil
		}
	}

	return Target{}, fmt.Errorf("%w: %s in %s", ErrNoQEMUMachine, want, directory)
}

// qemuConfig is what is read of a machine's configuration; older versions have
// the gateway and the port elsewhere than newer ones.
type qemuConfig struct {
	NodeUUID     string
	Network      struct{ GatewayAddrs []string }
	GatewayAddrs []string

	APIBindAddress struct{ Port int }
	APIPort        int
}

func readQEMUConfig(path string, want uuid.UUID) (target Target, found bool, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Target{}, false, err
	}

	var config qemuConfig
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&config); err != nil {
		return Target{}, false, err
	}

	if got, err := uuid.Parse(config.NodeUUID); err != nil || got != want {
		return Target{}, false, nil
	}

	gateways := append(config.Network.GatewayAddrs, config.GatewayAddrs...)
	port := cmp.Or(config.APIBindAddress.Port, config.APIPort)

	if len(gateways) == 0 || port == 0 {
		return Target{}, false, errors.New("the gateway's address or the port of the API is missing")
	}

	return Target{Address: gateways[0], Port: port, Protocol: ProtocolQEMU, UUID: want.String()}, true, nil
}
