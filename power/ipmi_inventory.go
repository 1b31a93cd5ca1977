package power

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// hardware implements hardwareReader.
func (d *ipmi) hardware(ctx context.Context) (Hardware, error) {
	device, err := d.command(ctx, commandOf(types.CommandGetDeviceID))
	if err != nil {
		return Hardware{}, err
	}

	var (
		told Info
		h    Hardware
	)

	if told.readDeviceID(device); told.Firmware != "" {
		h.Firmware = append(h.Firmware, Firmware{Name: "BMC", Version: told.Firmware})
	}

	devices, err := d.fruDevices(ctx)
	if err != nil {
		return Hardware{}, err
	}

	for _, f := range devices {
		parts, err := d.fruParts(ctx, f)
		if err != nil {
			return Hardware{}, err
		}

		h.Parts = append(h.Parts, parts...)
	}

	lan, err := d.lanInterface(ctx)
	if lan.MAC != "" {
		h.Interfaces = append(h.Interfaces, lan)
	}

	return h, err
}

// fruDevice is a FRU inventory of the controller; the first one, 0, is its own
// and has no record.
type fruDevice struct {
	id   byte
	name string
}

func (d *ipmi) fruDevices(ctx context.Context) ([]fruDevice, error) {
	devices := []fruDevice{{0, ""}}

	err := d.records(ctx, func(sdr *types.SDR) error {
		l := sdr.FRUDeviceLocator
		if l != nil && l.IsLogicalFRUDevice && l.DeviceAccessAddress == bmcAddress && l.FRUDeviceID_SlaveAddress != 0 {
			devices = append(devices, fruDevice{l.FRUDeviceID_SlaveAddress, plain(l.DeviceIDBytes)})
		}

		return nil
	})
	if isKind(err, ErrUnsupported) || isKind(err, ErrRefused) {
		return devices, nil // there may be no repository at all
	}

	return devices, err
}

// fruParts reads one FRU inventory (IPMI 2.0, section 34; FRU Information
// Storage Definition 1.0, sections 10 to 12).
func (d *ipmi) fruParts(ctx context.Context, f fruDevice) ([]Part, error) {
	raw, err := d.fruData(ctx, f.id)

	switch {
	case isKind(err, ErrUnreachable), isKind(err, ErrAuth):
		return nil, err
	case err != nil:
		return nil, nil //nolint:nilerr // an inventory that is not there, or not to be read, has no parts
	}

	return partsOf(raw, f.name), nil
}

// partsOf are the areas of an inventory; one that holds something else has none.
func partsOf(raw []byte, device string) []Part {
	fru, err := parseFRU(raw)
	if err != nil {
		return nil
	}

	var parts []Part

	add := func(name string, p Part) {
		if p != (Part{}) {
			p.Name = strings.TrimSpace(device + " " + name)
			parts = append(parts, p)
		}
	}

	if c := fru.ChassisInfoArea; c != nil {
		add("chassis", Part{PartNumber: plain(c.PartNumber), Serial: plain(c.SerialNumber)})
	}

	if b := fru.BoardInfoArea; b != nil {
		add("board", Part{
			Vendor: plain(b.Manufacturer), Model: plain(b.ProductName),
			PartNumber: plain(b.PartNumber), Serial: plain(b.SerialNumber),
		})
	}

	if p := fru.ProductInfoArea; p != nil {
		add("product", Part{
			Vendor: plain(p.Manufacturer), Model: plain(p.Name), PartNumber: plain(p.PartModel),
			Serial: plain(p.SerialNumber), AssetTag: plain(p.AssetTag),
		})
	}

	return parts
}

// fruData has go-ipmi read an inventory, which finds out how much the
// controller can send at once.
func (d *ipmi) fruData(ctx context.Context, id byte) ([]byte, error) {
	if err := d.connect(ctx); err != nil {
		return nil, err
	}

	since := time.Now()
	d.session.conn.resume()

	raw, err := d.session.client.GetFRUData(ctx, id)
	if err == nil || answered(err) {
		d.session.used = time.Now()

		return raw, commandFailure(ipmiCommand{name: "Read FRU Data"}, err, d.address)
	}

	if over(ctx) {
		d.session.conn.interrupt()

		return nil, noAnswer(ctx, d.address, since)
	}

	return nil, fail(ErrRefused, "%s: %v", d.address, err)
}

// lanInterface is the controller's own network interface: Get LAN
// Configuration Parameters 3 and 5 (IPMI 2.0, table 23-4). Fourteen means the
// channel that is spoken over; several controllers do not know that and want its number.
func (d *ipmi) lanInterface(ctx context.Context) (Interface, error) {
	const address, mac = 3, 5

	for _, channel := range []byte{14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11} {
		told, err := d.lanParameter(ctx, channel, mac)

		switch {
		case isKind(err, ErrUnreachable):
			return Interface{}, err
		case isKind(err, ErrAuth):
			return Interface{}, nil // a USER may not ask
		case err != nil || len(told) != 6 || !anySet(told):
			continue
		}

		lan := Interface{Owner: "bmc", Name: channelName(channel), MAC: net.HardwareAddr(told).String()}

		if ip, err := d.lanParameter(ctx, channel, address); err == nil && len(ip) == 4 && anySet(ip) {
			lan.Address = net.IP(ip).String()
		}

		return lan, nil
	}

	return Interface{}, nil
}

func channelName(channel byte) string {
	if channel == 14 {
		return ""
	}

	return fmt.Sprintf("channel %d", channel)
}

func anySet(b []byte) bool {
	var all byte
	for _, x := range b {
		all = cmp.Or(all, x)
	}

	return all != 0
}

// lanParameter is the parameter's data, without its revision.
func (d *ipmi) lanParameter(ctx context.Context, channel, parameter byte) ([]byte, error) {
	data, err := d.command(ctx, commandOf(types.CommandGetLanConfigParam, channel, parameter, 0, 0).asOperator())
	if err != nil || len(data) == 0 {
		return nil, err
	}

	return data[1:], nil
}

// light implements lamp: Chassis Identify (IPMI 2.0, section 28.5).
func (d *ipmi) light(ctx context.Context, on bool, length time.Duration) error {
	const longest = 255
	seconds := (length + time.Second - 1) / time.Second

	if on && seconds > longest {
		return fail(ErrUnsupported, "IPMI lights the lamp for %d s at most, or until it is switched off", longest)
	}

	data := []byte{byte(seconds)}

	switch {
	case !on:
		data = []byte{0}
	case length == 0:
		data = []byte{0, 1} // until it is switched off
	}

	_, err := d.command(ctx, commandOf(types.CommandChassisIdentify, data...).asOperator())
	if on && length == 0 && (isKind(err, ErrUnsupported) || isKind(err, ErrRefused)) {
		return fail(ErrUnsupported, "%s lights the lamp for a given time only", d.address).because(err)
	}

	return err
}
