package power

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"time"
)

// hardware implements hardwareReader.
func (d *redfish) hardware(ctx context.Context) (Hardware, error) {
	s, err := d.system(ctx)
	if err != nil {
		return Hardware{}, err
	}

	h := Hardware{Parts: []Part{{
		Name: "system", Vendor: s.Manufacturer, Model: s.Model,
		PartNumber: s.PartNumber, Serial: s.SerialNumber, AssetTag: s.AssetTag,
	}}}

	for _, read := range []func(context.Context, computerSystem, *Hardware) error{
		d.chassisParts, d.firmwareVersions, d.interfaces,
	} {
		if err := read(ctx, s, &h); err != nil {
			return Hardware{}, err
		}
	}

	return h, nil
}

func (d *redfish) chassisParts(ctx context.Context, s computerSystem, h *Hardware) error {
	all, err := d.chassis(ctx, s)
	if err != nil {
		return err
	}

	for _, c := range all {
		h.Parts = append(h.Parts, Part{
			Name: "chassis " + c.ID, Vendor: c.Manufacturer, Model: c.Model,
			PartNumber: c.PartNumber, Serial: c.SerialNumber, AssetTag: c.AssetTag,
		})

		p, err := d.power(ctx, c)
		if err != nil {
			return err
		}

		for _, x := range p.PowerSupplies {
			h.Parts = append(h.Parts, Part{
				Name: cmp.Or(x.Name, "power supply"), Vendor: x.Manufacturer, Model: x.Model,
				PartNumber: x.PartNumber, Serial: x.SerialNumber,
			})
		}
	}

	return nil
}

func (d *redfish) firmwareVersions(ctx context.Context, s computerSystem, h *Hardware) error {
	add := func(name, version string) {
		if version != "" {
			h.Firmware = append(h.Firmware, Firmware{Name: name, Version: version})
		}
	}

	add("BIOS", s.BiosVersion)

	managers, err := d.managers(ctx, s)
	if err != nil {
		return err
	}

	for _, m := range managers {
		add("BMC", m.FirmwareVersion)
	}

	var service struct{ FirmwareInventory odataLink }
	if err := d.optional(ctx, d.root.UpdateService.ID, &service); err != nil {
		return err
	}

	return d.members(ctx, service.FirmwareInventory.ID, func(raw json.RawMessage) {
		var item struct{ Name, Version string }
		if fits(json.Unmarshal(raw, &item)) && item.Name != "" {
			add(item.Name, item.Version)
		}
	})
}

func (d *redfish) interfaces(ctx context.Context, s computerSystem, h *Hardware) error {
	managers, err := d.managers(ctx, s)
	if err != nil {
		return err
	}

	if err := d.addInterfaces(ctx, "system", s.EthernetInterfaces.ID, h); err != nil {
		return err
	}

	for _, m := range managers {
		if err := d.addInterfaces(ctx, "bmc", m.EthernetInterfaces.ID, h); err != nil {
			return err
		}
	}

	return nil
}

func (d *redfish) addInterfaces(ctx context.Context, owner, path string, h *Hardware) error {
	return d.members(ctx, path, func(raw json.RawMessage) {
		var nic struct {
			ID                  string `json:"Id"`
			MACAddress          string
			PermanentMACAddress string
			IPv4Addresses       []struct{ Address string }
			IPv6Addresses       []struct{ Address string }
		}

		if !fits(json.Unmarshal(raw, &nic)) {
			return
		}

		mac, err := net.ParseMAC(cmp.Or(nic.MACAddress, nic.PermanentMACAddress))
		if err != nil {
			return // not told, or none
		}

		i := Interface{Owner: owner, Name: nic.ID, MAC: mac.String()}

		for _, a := range append(nic.IPv4Addresses, nic.IPv6Addresses...) {
			if ip := net.ParseIP(a.Address); i.Address == "" && ip != nil && !ip.IsUnspecified() {
				i.Address = ip.String()
			}
		}

		h.Interfaces = append(h.Interfaces, i)
	})
}

// light implements lamp: the system's, or that of its chassis.
func (d *redfish) light(ctx context.Context, on bool, length time.Duration) error {
	if on && length > 0 {
		return fail(ErrUnsupported, "Redfish lights the lamp until it is switched off, not for a time")
	}

	s, err := d.system(ctx)
	if err != nil {
		return err
	}

	if body := s.body(on); body != nil {
		return d.patchTagged(ctx, s.Path, s.ETag, body)
	}

	all, err := d.chassis(ctx, s)
	if err != nil {
		return err
	}

	for _, c := range all {
		if body := c.body(on); body != nil && strings.HasPrefix(c.Path, "/") {
			return d.patchTagged(ctx, c.Path, c.ETag, body)
		}
	}

	return fail(ErrUnsupported, "neither the system at %s nor its chassis has a lamp", d.address)
}

// patchTagged writes with the ETag as it came, then as a strong one, then with
// none: controllers that hand out weak ETags refuse them on the way back. One
// that insists on a tag, and gave none, may take any.
func (d *redfish) patchTagged(ctx context.Context, path, etag string, body map[string]any) error {
	var mismatch error

	for _, tag := range etags(etag) {
		err := d.patchMatching(ctx, path, tag, body)

		switch httpStatus(err) {
		case http.StatusPreconditionFailed:
			mismatch = err
		case http.StatusPreconditionRequired:
			if mismatch != nil {
				return mismatch // the tag has changed meanwhile: to be read again
			}

			return d.patchMatching(ctx, path, "*", body)
		default:
			return err
		}
	}

	return mismatch
}

func (d *redfish) patchMatching(ctx context.Context, path, tag string, body map[string]any) error {
	var headers map[string]string
	if tag != "" {
		headers = map[string]string{"If-Match": tag}
	}

	return d.request(ctx, http.MethodPatch, path, headers, body, nil)
}
