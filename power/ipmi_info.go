package power

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/bougou/go-ipmi/pkg/types"
)

// info implements driver. A controller that has no FRU inventory, or no UUID to
// tell, leaves these fields empty.
func (d *ipmi) info(ctx context.Context) (Info, error) {
	device, err := d.command(ctx, commandOf(types.CommandGetDeviceID))
	if err != nil {
		return Info{}, err
	}

	id, err := d.identify(ctx)
	if err != nil {
		return Info{}, err
	}

	info := Info{Protocol: ProtocolIPMI, Version: "2.0", UUID: id.text(d.target.UUID), AddressInUse: d.address}
	info.readDeviceID(device)

	if raw, err := d.fruData(ctx, 0); err == nil {
		info.readFRU(raw)
	}

	return info, nil
}

// readDeviceID reads Get Device ID (IPMI 2.0, table 20-2).
func (i *Info) readDeviceID(data []byte) {
	if len(data) < 9 {
		return
	}

	i.Firmware = fmt.Sprintf("%d.%02x", data[2]&0x7f, data[3])

	if manufacturer := types.OEM(uint32(data[6]) | uint32(data[7])<<8 | uint32(data[8]&0x0f)<<16); manufacturer != 0 {
		i.Vendor = manufacturer.String()
	}
}

// readFRU reads the product and board areas (FRU Information Storage
// Definition 1.0, sections 11 and 12).
func (i *Info) readFRU(raw []byte) {
	fru, err := parseFRU(raw)
	if err != nil {
		return
	}

	if p := fru.ProductInfoArea; p != nil {
		i.Vendor = cmp.Or(plain(p.Manufacturer), i.Vendor)
		i.Model, i.Serial = plain(p.Name), plain(p.SerialNumber)
	}

	if b := fru.BoardInfoArea; b != nil {
		i.Vendor = cmp.Or(i.Vendor, plain(b.Manufacturer))
		i.Model, i.Serial = cmp.Or(i.Model, plain(b.ProductName)), cmp.Or(i.Serial, plain(b.SerialNumber))
	}
}

func plain(field []byte) string { return strings.Trim(string(field), " \x00") }
