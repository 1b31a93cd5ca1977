package power

import (
	"context"

	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	lastRecord = 0xffff
	// wholeRecord asks for as much of a record as there is.
	wholeRecord = 0xff
	// recordPart is what every controller can send at once.
	recordPart = 16
	// mostRecords bounds what a controller that never comes to its last record
	// can make us read; the specification's repositories hold fewer.
	mostRecords = 4096
)

// repository is where sensor data records are: the SDR repository (IPMI 2.0,
// section 33) or, where there is none, the device's own (section 35).
type repository struct{ reserve, get types.Command }

func (d *ipmi) repository(ctx context.Context) (repository, error) {
	device, err := d.command(ctx, commandOf(types.CommandGetDeviceID))
	if err != nil {
		return repository{}, err
	}

	// Additional device support, bit 1: SDR repository device (table 20-2).
	if len(device) > 5 && device[5]&0x02 == 0 && device[1]&0x80 != 0 {
		return repository{types.CommandReserveDeviceSDRRepo, types.CommandGetDeviceSDR}, nil
	}

	return repository{types.CommandReserveSDRRepo, types.CommandGetSDR}, nil
}

// records gives every record to visit, until that is in error. Records that
// cannot be parsed are left out: some controllers have such.
func (d *ipmi) records(ctx context.Context, visit func(*types.SDR) error) error {
	repo, err := d.repository(ctx)
	if err != nil {
		return err
	}

	id := uint16(0)

	for range mostRecords {
		raw, next, err := d.record(ctx, repo, id)
		if id == 0 && completionCode(err) == types.CodeRequestedDataNotPresent {
			return nil // it is empty
		}

		if err != nil {
			return err
		}

		if sdr, err := types.ParseSDR(raw, next); err == nil {
			if err := visit(sdr); err != nil {
				return err
			}
		}

		if next == lastRecord || next == id {
			return nil
		}

		id = next
	}

	return nil
}

// record reads a record whole, or in parts where the controller cannot send it
// at once.
func (d *ipmi) record(ctx context.Context, repo repository, id uint16) (raw []byte, next uint16, err error) {
	raw, next, err = d.recordSlice(ctx, repo, 0, id, 0, wholeRecord)
	if !tooLong(completionCode(err)) {
		return raw, next, err
	}

	for tries := 3; ; tries-- {
		raw, next, err = d.recordInParts(ctx, repo, id)
		if completionCode(err) != types.CodeReservationCanceled || tries == 0 {
			return raw, next, err
		}
	}
}

// tooLong are the completion codes by which controllers say that they cannot
// send so much at once.
func tooLong(code types.CompletionCode) bool {
	switch code {
	case types.CodeCannotReturnRequestedDataBytes, types.CodeRequestDataLengthLimitExceeded,
		types.CodeRequestDataLengthInvalid, types.CodeUnspecifiedError:
		return true
	default:
		return false
	}
}

func (d *ipmi) recordInParts(ctx context.Context, repo repository, id uint16) (raw []byte, next uint16, err error) {
	reserved, err := d.command(ctx, commandOf(repo.reserve))
	if err != nil {
		return nil, 0, err
	}

	if len(reserved) < 2 {
		return nil, 0, fail(ErrRefused, "%s gave a reservation of %d bytes", d.address, len(reserved))
	}

	reservation := uint16(reserved[0]) | uint16(reserved[1])<<8

	raw, next, err = d.recordSlice(ctx, repo, reservation, id, 0, byte(types.SDRRecordHeaderSize))
	if err != nil || len(raw) < types.SDRRecordHeaderSize {
		return raw, next, err
	}

	for total := types.SDRRecordHeaderSize + int(raw[4]); len(raw) < total; {
		part, _, err := d.recordSlice(ctx, repo, reservation, id, byte(len(raw)), byte(min(recordPart, total-len(raw))))
		if err != nil {
			return nil, 0, err
		}

		if len(part) == 0 {
			break
		}

		raw = append(raw, part...)
	}

	return raw, next, nil
}

// recordSlice is Get SDR, or Get Device SDR: they are alike (tables 33-5 and 35-3).
func (d *ipmi) recordSlice(
	ctx context.Context, repo repository, reservation, id uint16, offset, count byte,
) (raw []byte, next uint16, err error) {
	data, err := d.command(ctx, commandOf(repo.get,
		byte(reservation), byte(reservation>>8), byte(id), byte(id>>8), offset, count))
	if err != nil {
		return nil, 0, err
	}

	if len(data) < 2 {
		return nil, 0, fail(ErrRefused, "%s answered %s with %d bytes", d.address, repo.get.Name, len(data))
	}

	return data[2:], uint16(data[0]) | uint16(data[1])<<8, nil
}
