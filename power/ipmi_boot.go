package power

import (
	"context"

	"github.com/bougou/go-ipmi/pkg/types"
)

// Boot options (IPMI 2.0, table 28-14).
const (
	bootValidBitClearing = 3
	bootFlags            = 5

	// bootKeepOnTimeout: the flags outlive the 60 s after which the controller
	// else drops them.
	bootKeepOnTimeout = 0x08

	bootFlagValid      = 0x80
	bootFlagPersistent = 0x40
	bootFlagEFI        = 0x20

	// The selectors stand in bits 5:2 of data 2.
	bootSelectorMask     = 0x3c
	bootSelectPXE        = 0x04
	bootSelectDisk       = 0x08
	bootSelectSetup      = 0x18
	bootSelectRemote     = 0x24
	enterpriseSupermicro = 10876
)

// setBoot implements driver: Set System Boot Options, parameter 3 before 5
// (IPMI 2.0, section 28.12), then Get.
func (d *ipmi) setBoot(ctx context.Context, boot Boot) error {
	if boot.Mode == ModeKeep {
		boot.Mode = d.mode
	}

	flags, err := d.bootFlags(ctx, boot)
	if err != nil {
		return err
	}

	if boot.Device != DeviceNone {
		keep := commandOf(types.CommandSetSystemBootOptions, bootValidBitClearing, bootKeepOnTimeout).asOperator()
		if _, err := d.command(ctx, keep); err != nil && !isKind(err, ErrUnsupported) && !isKind(err, ErrRefused) {
			return err
		}
	}

	set := commandOf(types.CommandSetSystemBootOptions, append([]byte{bootFlags}, flags...)...).asOperator()
	if _, err := d.command(ctx, set); err != nil {
		return err
	}

	return d.readBackBoot(ctx, flags)
}

// bootFlags are the five bytes of parameter 5. No override is all zero: the
// valid bit is what must go.
func (d *ipmi) bootFlags(ctx context.Context, boot Boot) ([]byte, error) {
	flags := make([]byte, 5)
	if boot.Device == DeviceNone {
		return flags, nil
	}

	flags[0] = bootFlagValid
	if boot.Persistent {
		flags[0] |= bootFlagPersistent
	}

	if boot.Mode == ModeUEFI {
		flags[0] |= bootFlagEFI
	}

	switch boot.Device {
	case DevicePXE:
		flags[1] = bootSelectPXE
	case DeviceSetup:
		flags[1] = bootSelectSetup
	default:
		selector, err := d.diskSelector(ctx, boot.Mode)
		if err != nil {
			return nil, err
		}

		flags[1] = selector
	}

	return flags, nil
}

// diskSelector knows that Supermicro's UEFI disk is the remote one.
func (d *ipmi) diskSelector(ctx context.Context, mode Mode) (byte, error) {
	if mode != ModeUEFI {
		return bootSelectDisk, nil
	}

	data, err := d.command(ctx, commandOf(types.CommandGetDeviceID))
	if err != nil {
		return 0, err
	}

	if len(data) >= 9 && int(data[6])|int(data[7])<<8|int(data[8]&0x0f)<<16 == enterpriseSupermicro {
		return bootSelectRemote, nil
	}

	return bootSelectDisk, nil
}

// readBackBoot compares the device; mode and persistence are lost on the way
// back by several controllers that heed them, so those are only told.
func (d *ipmi) readBackBoot(ctx context.Context, want []byte) error {
	data, err := d.command(ctx, commandOf(types.CommandGetSystemBootOptions, bootFlags, 0, 0).asOperator())
	if isKind(err, ErrUnsupported) {
		d.log.Warn("the boot override cannot be read back", "reason", err.Error())

		return nil
	}

	if err != nil {
		return err
	}

	const header = 2 // parameter version, parameter
	if len(data) < header+len(want) {
		return fail(ErrRefused, "%s reads the boot override back as %d bytes", d.address, len(data))
	}

	got := data[header:]

	switch {
	case want[0]&bootFlagValid == 0 && got[0]&bootFlagValid != 0:
		return fail(ErrRefused, "%s accepted, but still has a boot override (%x)", d.address, got)
	case want[0]&bootFlagValid != 0 && got[1]&bootSelectorMask != want[1]&bootSelectorMask:
		return fail(ErrRefused, "%s accepted, but reads the boot override back as %x, not %x", d.address, got, want)
	case got[0] != want[0]:
		d.log.Warn("the boot override reads back differently", "set", want, "read", got)
	}

	return nil
}
