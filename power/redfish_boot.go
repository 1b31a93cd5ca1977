package power

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// The properties of the boot override (ComputerSystem.Boot).
const (
	overrideTarget  = "BootSourceOverrideTarget"
	overrideEnabled = "BootSourceOverrideEnabled"
	overrideMode    = "BootSourceOverrideMode"
)

// bootSource is a Boot object. Which properties are there matters as much as
// what they hold, so it stays a map.
type bootSource map[string]json.RawMessage

// text is a property's value; empty where it is absent, null or no string.
func (b bootSource) text(property string) string {
	var s *string
	if json.Unmarshal(b[property], &s) != nil || s == nil {
		return ""
	}

	return *s
}

// has tells whether the property is reported, be it as null.
func (b bootSource) has(property string) bool {
	_, ok := b[property]

	return ok
}

// allows tells whether the value is on offer; what is not listed may be.
func (b bootSource) allows(property, value string) bool {
	var values []string
	if json.Unmarshal(b[property+"@Redfish.AllowableValues"], &values) != nil || len(values) == 0 {
		return true
	}

	return slices.Contains(values, value)
}

// properties is what is written: properties of Boot and their values.
type properties map[string]string

// setBoot implements driver.
func (d *redfish) setBoot(ctx context.Context, boot Boot) error {
	s, err := d.system(ctx)
	if err != nil {
		return err
	}

	settings, err := d.settings(ctx, s)
	if err != nil {
		return err
	}

	if !s.Boot.has(overrideTarget) && !settings.Boot.has(overrideTarget) {
		return fail(ErrUnsupported, "the system at %s has no boot override", d.address)
	}

	plans, err := d.bootPlans(boot, s, settings)
	if err != nil {
		return err
	}

	if err := d.tryPlans(ctx, plans, s, settings); err != nil {
		return err
	}

	return d.readBackBoot(ctx, boot)
}

// settings reads the system's settings object (DSP0266, 9.10); the zero one
// where there is none.
func (d *redfish) settings(ctx context.Context, s computerSystem) (computerSystem, error) {
	path := s.Settings.Object.ID
	if path == "" || samePath(path, s.Path) {
		return computerSystem{}, nil
	}

	settings, err := d.readSystem(ctx, path)
	if isKind(err, ErrUnsupported) {
		return computerSystem{}, nil
	}

	return settings, err
}

func samePath(a, b string) bool { return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/") }

// bootPlans are the bodies to try, the best first; the next one is for a
// controller that refuses what the one before holds.
func (d *redfish) bootPlans(boot Boot, s, settings computerSystem) ([]properties, error) {
	mode, modeText := s.Boot, s.Boot.text(overrideMode)
	if !mode.has(overrideMode) {
		mode, modeText = settings.Boot, settings.Boot.text(overrideMode)
	}

	if boot.Device == DeviceNone {
		return clearPlans(vendorOf(s, d.root), modeText), nil
	}

	basic := properties{overrideTarget: redfishTargets[boot.Device], overrideEnabled: "Once"}
	if boot.Persistent {
		basic[overrideEnabled] = "Continuous"
	}

	for _, property := range []string{overrideTarget, overrideEnabled} {
		if !s.Boot.allows(property, basic[property]) || !settings.Boot.allows(property, basic[property]) {
			return nil, fail(ErrUnsupported, "the system at %s does not offer %s %s", d.address, property, basic[property])
		}
	}

	wish := modeText
	if boot.Mode != ModeKeep && !d.keepMode && mode.has(overrideMode) {
		wish = redfishModes[boot.Mode]
	}

	if wish == "" {
		return dedupe(basic, without(basic, overrideEnabled, s)), nil
	}

	full := maps.Clone(basic)
	full[overrideMode] = wish

	// Writing the mode that is there already starts a job on some controllers,
	// which loses the override.
	if wish == modeText && !echoesMode(vendorOf(s, d.root)) {
		return dedupe(basic, without(basic, overrideEnabled, s), full), nil
	}

	return dedupe(full, basic, without(basic, overrideEnabled, s)), nil
}

var redfishTargets = map[Device]string{DevicePXE: "Pxe", DeviceDisk: "Hdd", DeviceSetup: "BiosSetup"}

var redfishModes = map[Mode]string{ModeUEFI: "UEFI", ModeBIOS: "Legacy"}

// clearPlans are the bodies that clear the override.
func clearPlans(vendor, mode string) []properties {
	disabled := properties{overrideEnabled: "Disabled"}
	none := properties{overrideEnabled: "Disabled", overrideTarget: "None"}
	full := properties{overrideEnabled: "Disabled", overrideTarget: "None", overrideMode: mode}

	switch {
	case mode == "":
		full = none
	case echoesMode(vendor):
		return dedupe(full, none, disabled)
	}

	if keepsTarget(vendor) {
		return dedupe(disabled, none, full)
	}

	return dedupe(none, full, disabled)
}

// without leaves a property out that has the value already; nil where not.
func without(p properties, property string, s computerSystem) properties {
	if s.Boot.text(property) != p[property] {
		return nil
	}

	q := maps.Clone(p)
	delete(q, property)

	return q
}

// dedupe leaves out repeated and missing plans.
func dedupe(plans ...properties) []properties {
	var out []properties
	for _, p := range plans {
		if p != nil && !slices.ContainsFunc(out, func(q properties) bool { return maps.Equal(p, q) }) {
			out = append(out, p)
		}
	}

	return out
}

// tryPlans writes the first plan that the controller takes. Only what is
// refused as such is tried another way.
func (d *redfish) tryPlans(ctx context.Context, plans []properties, s, settings computerSystem) error {
	var err error
	for _, plan := range plans {
		if err = d.writeBoot(ctx, plan, s, settings); err == nil {
			return nil
		}

		if !isKind(err, ErrRefused) && !isKind(err, ErrUnsupported) {
			return err
		}
	}

	// Some controllers take it in the settings object, which does not list it.
	if settings.Path != "" && !settings.Boot.has(overrideTarget) && d.patch(ctx, settings, plans[0]) == nil {
		return nil
	}

	return err
}

// writeBoot writes each property where it is listed: in the settings object or
// in the system itself.
func (d *redfish) writeBoot(ctx context.Context, plan properties, s, settings computerSystem) error {
	toSystem, toSettings := properties{}, properties{}

	for property, value := range plan {
		if settings.Boot.has(property) {
			toSettings[property] = value
		} else {
			toSystem[property] = value
		}
	}

	if len(toSettings) > 0 {
		if err := d.patch(ctx, settings, toSettings); err != nil {
			return err
		}
	}

	if len(toSystem) == 0 {
		return nil
	}

	return d.patch(ctx, s, toSystem)
}

func (d *redfish) patch(ctx context.Context, s computerSystem, boot properties) error {
	return d.patchTagged(ctx, s.Path, s.ETag, map[string]any{"Boot": boot})
}

// etags are the If-Match headers to try; the empty one is none.
func etags(tag string) []string {
	strong := strings.TrimPrefix(tag, "W/")
	strong = strings.Replace(strong, `-gzip"`, `"`, 1)

	var tags []string
	for _, t := range []string{tag, strong, strings.Trim(strong, `"`)} {
		if t != "" && t != `""` && !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}

	return append(tags, "")
}

// readBackBoot compares device and whether there is an override at all; mode
// and persistence that differ are only told.
func (d *redfish) readBackBoot(ctx context.Context, want Boot) error {
	s, err := d.system(ctx)
	if err != nil {
		return err
	}

	target, enabled, mode := s.Boot.text(overrideTarget), s.Boot.text(overrideEnabled), s.Boot.text(overrideMode)

	// A settings object shows the new value until the next reset applies it.
	if settings, err := d.settings(ctx, s); err == nil && settings.Boot.has(overrideTarget) {
		target, enabled = settings.Boot.text(overrideTarget), settings.Boot.text(overrideEnabled)
	}

	active := target != "" && target != "None" && enabled != "Disabled"

	switch {
	case want.Device == DeviceNone && active:
		return fail(ErrRefused, "%s accepted, but still has a boot override to %s", d.address, target)
	case want.Device == DeviceNone:
		return nil
	case !active || target != redfishTargets[want.Device]:
		return fail(ErrRefused, "%s accepted, but reads the boot override back as %q, %q", d.address, target, enabled)
	case want.Persistent != (enabled == "Continuous"), want.Mode != ModeKeep && mode != "" && mode != redfishModes[want.Mode]:
		d.log.Warn("the boot override reads back differently", "enabled", enabled, "mode", mode)
	}

	return nil
}
