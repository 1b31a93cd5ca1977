package bmcsim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bmctl/bmctl/power"
)

// The ids of the systems. The second one appears with the fault "two-systems",
// sorts before the machine's own, and does nothing but log what it is asked.
const (
	ownSystem     = "1"
	foreignSystem = "0"
	foreignUUID   = "00000000-0000-4000-8000-00000000000f"
)

// etagCounter counts the changes of the system resource.
type etagCounter struct{ n, asked atomic.Int64 }

func (e *etagCounter) strong() string { return `"` + strconv.FormatInt(e.n.Load(), 10) + `"` }

func (e *etagCounter) changed() { e.n.Add(1) }

// every tells whether this is the first, or another n-th, time.
func (e *etagCounter) every(n int64) bool { return (e.asked.Add(1)-1)%n == 0 }

func (f *redfishFace) systems(*http.Request) any {
	ids := []string{ownSystem}
	if f.fault(FaultNoSystems) {
		ids = nil
	}

	if f.fault(FaultTwoSystems) {
		ids = []string{foreignSystem, ownSystem}
	}

	if f.fault(FaultSlashMembers) {
		for i := range ids {
			ids[i] += "/"
		}
	}

	return collection("ComputerSystem", "Systems", ids...)
}

// system answers for the systems that exist; "busy" is said here.
func (f *redfishFace) system(next http.HandlerFunc) http.Handler {
	return f.authenticated(func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")

		switch {
		case id != ownSystem && !(id == foreignSystem && f.fault(FaultTwoSystems)):
			f.refuse(w, http.StatusNotFound, "Base.1.18.ResourceMissingAtURI", "There is no system "+id)
		case f.fault(FaultUserOnly) && r.Method != http.MethodGet:
			f.refuse(w, http.StatusForbidden, "Base.1.18.InsufficientPrivilege", "The user may not do this")
		case f.fault(FaultDataUnavailable):
			f.refuse(w, http.StatusInternalServerError, "IDRAC.2.8.SYS518", "The data sources are unavailable")
		case f.fault(FaultGatewayTimeout):
			f.page(w, http.StatusGatewayTimeout)
		case f.fault(FaultBusy):
			w.Header().Set("Retry-After", "1")
			f.refuse(w, http.StatusServiceUnavailable, "Base.1.18.ServiceTemporarilyUnavailable", "Try again later")
		default:
			next(w, r)
		}
	})
}

func (f *redfishFace) getSystem(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", f.etagNow(r))

	if r.PathValue("id") == foreignSystem {
		f.reply(w, f.resource(r, foreignSystem, foreignUUID, "FOREIGN", power.StateOn, override{}))

		return
	}

	f.reply(w, f.resource(r, ownSystem, f.owner.UUID(), f.owner.cfg.Serial, f.owner.State(), f.owner.chassis.bootOverride()))
}

func (f *redfishFace) resource(r *http.Request, id, uuid, serial string, state power.State, o override) object {
	path := root + "/Systems/" + id
	resource := object{
		"@odata.id":    path,
		"@odata.type":  "#ComputerSystem.v1_20_0.ComputerSystem",
		"@odata.etag":  f.etagNow(r),
		"Id":           id,
		"Name":         "System " + id,
		"SystemType":   "Physical",
		"Manufacturer": f.owner.cfg.Vendor,
		"Model":        f.owner.cfg.Model,
		"SerialNumber": serial,
		"UUID":         uuid,
		"PowerState":   f.shownState(state),
		"BiosVersion":  "2.4",
		"Status":       object{"State": "Enabled", "Health": f.health()},
		"Boot":         f.systemBoot(o),
		"Links": object{
			"ManagedBy": []object{link(root + "/Managers/1")},
			"Chassis":   []object{link(root + "/Chassis/1")},
		},
		"Actions": object{"#ComputerSystem.Reset": f.resetAction(path)},
	}

	if id == ownSystem {
		resource["EthernetInterfaces"] = link(path + "/EthernetInterfaces")
	}

	if name := f.systemLamp(); name != "" {
		resource[name] = f.lampState(name)
	}

	if f.fault(FaultNoManagedBy) {
		delete(resource["Links"].(object), "ManagedBy")
	}

	if f.hasSettings() {
		resource["@Redfish.Settings"] = object{"SettingsObject": link(settingsPath)}
	}

	return resource
}

// health is the system's own judgement.
func (f *redfishFace) health() string {
	if f.fault(FaultHot) {
		return "Critical"
	}

	return "OK"
}

// shownState is the system's power as it is told: with the fault
// "transitional" a change shows after two more looks.
func (f *redfishFace) shownState(state power.State) string {
	if f.fault(FaultTransitional) && f.looks.Add(-1) >= 0 {
		return map[power.State]string{power.StateOn: "PoweringOn", power.StateOff: "PoweringOff"}[state]
	}

	return powerState(state)
}

func powerState(s power.State) string {
	if s == power.StateOn {
		return "On"
	}

	return "Off"
}

// resetKinds maps Redfish's reset types to acts (Resource.ResetType).
var resetKinds = map[string]ActKind{
	"On": ActOn, "ForceOn": ActOn, "ForceOff": ActOff, "GracefulShutdown": ActSoft,
	"PowerCycle": ActCycle, "ForceRestart": ActReset, "Nmi": ActNMI,
}

func (f *redfishFace) resetTypes() []string {
	types := []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "Nmi"}
	if !f.fault(FaultNoCycle) {
		types = append(types, "PowerCycle")
	}

	return types
}

func (f *redfishFace) resetSystem(w http.ResponseWriter, r *http.Request) {
	var body struct{ ResetType string }
	if !f.decode(w, r, &body) {
		return
	}

	kind := resetKinds[body.ResetType]
	if status, id, message := f.refusesReset(r, body.ResetType, kind); status != 0 {
		f.refuse(w, status, id, message)

		return
	}

	if id := r.PathValue("id"); id != ownSystem {
		f.owner.chassis.note(Act{Kind: kind, Protocol: power.ProtocolRedfish, System: id})
	} else if !f.owner.chassis.switchPower(kind, power.ProtocolRedfish) {
		f.refuse(w, http.StatusConflict, "Base.1.18.ResourceCannotBeReset", "The system is off")

		return
	}

	const looks = 2

	f.etag.changed()
	f.looks.Store(looks)

	switch {
	case f.fault(FaultAlready) && slices.Contains([]ActKind{ActOn, ActOff, ActSoft}, kind):
		f.refuse(w, http.StatusBadRequest, "Base.1.18.GeneralError", "Host is already powered "+strings.ToLower(powerState(f.owner.State())))
	default:
		f.carriedOut(w)
	}
}

// carriedOut answers what was carried out.
func (f *redfishFace) carriedOut(w http.ResponseWriter) {
	switch {
	case f.fault(FaultTaskGone):
		w.Header().Set("Location", "/redfish/v1/TaskService/Tasks/7") // nothing is there
		w.WriteHeader(http.StatusAccepted)
	case f.fault(FaultAccepted):
		w.WriteHeader(http.StatusAccepted)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// refusesReset is how a reset is refused that does not even reach the chassis;
// status 0: it is not.
func (f *redfishFace) refusesReset(r *http.Request, resetType string, kind ActKind) (status int, id, message string) {
	switch {
	case !slices.Contains(f.resetTypes(), resetType):
		return http.StatusBadRequest, "Base.1.18.ActionParameterNotSupported",
			fmt.Sprintf("The value %q for the parameter ResetType is not supported", resetType)
	case f.fault(FaultConflict):
		return http.StatusConflict, "IDRAC.2.8.ActionParameterValueConflict", "The value is in conflict with the state"
	case f.fault(FaultNotInThisState):
		return http.StatusBadRequest, "iLO.0.10.InvalidOperationForSystemState", "Power is off"
	case f.fault(FaultNoIfMatch) && r.Header.Get("If-Match") != "":
		return http.StatusPreconditionFailed, "Base.1.18.PreconditionFailed", "There is nothing to match"
	case f.fault(FaultNMI501) && kind == ActNMI:
		return http.StatusNotImplemented, "Base.1.0.GeneralError", "Power state Nmi is not supported"
	default:
		return 0, "", ""
	}
}

// bootTargets maps Redfish's boot sources to IPMI's selectors.
var bootTargets = map[string]byte{
	"None": selectNone, "Pxe": selectPXE, "Hdd": selectDisk, "Cd": selectCD, "BiosSetup": selectSetup, "Usb": selectUSB,
}

func bootResource(o override) object {
	target, enabled, mode := "None", "Disabled", "Legacy"

	if o.enabled {
		enabled = "Once"
		if o.persistent {
			enabled = "Continuous"
		}

		for name, selector := range bootTargets {
			if selector == o.selector {
				target = name
			}
		}
	}

	if o.uefi {
		mode = "UEFI"
	}

	return object{
		"BootSourceOverrideTarget":                          target,
		"BootSourceOverrideEnabled":                         enabled,
		"BootSourceOverrideMode":                            mode,
		"BootSourceOverrideTarget@Redfish.AllowableValues":  []string{"None", "Pxe", "Hdd", "Cd", "BiosSetup", "Usb"},
		"BootSourceOverrideEnabled@Redfish.AllowableValues": []string{"Disabled", "Once", "Continuous"},
		"BootSourceOverrideMode@Redfish.AllowableValues":    []string{"Legacy", "UEFI"},
	}
}

// bootPatch is what a PATCH says of the override; nil is left as it is.
type bootPatch struct {
	BootSourceOverrideTarget  *string
	BootSourceOverrideEnabled *string
	BootSourceOverrideMode    *string
}

func (f *redfishFace) patchSystem(w http.ResponseWriter, r *http.Request) {
	properties := f.systemBoot(f.owner.chassis.bootOverride())
	if f.fault(FaultSettingsHidden) {
		properties = object{} // they are listed, and not to be written
	}

	f.patchBoot(w, r, properties)
}

// patchBoot writes to a resource whose Boot object has the properties.
func (f *redfishFace) patchBoot(w http.ResponseWriter, r *http.Request, properties object) {
	if status := f.precondition(r); status != 0 {
		f.refuse(w, status, "Base.1.18.PreconditionFailed", "The ETag is not the current one")

		return
	}

	var body struct {
		Boot *bootPatch
		Lamp *bool `json:"LocationIndicatorActive"`
	}
	if !f.decode(w, r, &body) {
		return
	}

	switch {
	case body.Lamp != nil && f.systemLamp() != "":
		f.owner.chassis.light(*body.Lamp, time.Time{})
		w.WriteHeader(http.StatusNoContent)

		return
	case body.Boot == nil:
		f.refuse(w, http.StatusBadRequest, "Base.1.18.PropertyNotWritable", "Only Boot and the lamp can be written")

		return
	}

	if id, message := f.refusesBoot(*body.Boot, properties); id != "" {
		f.refuse(w, http.StatusBadRequest, id, message)

		return
	}

	o, err := body.Boot.apply(f.owner.chassis.bootOverride())
	if err != nil {
		f.refuse(w, http.StatusBadRequest, "Base.1.18.PropertyValueNotInList", err.Error())

		return
	}

	if mode := body.Boot.BootSourceOverrideMode; f.fault(FaultModeLosesBoot) && mode != nil && *mode == properties["BootSourceOverrideMode"] {
		o.enabled = false
	}

	if body.Boot.BootSourceOverrideMode == nil && f.fault(FaultModeFallsBack) {
		o.uefi = false
	}

	if id := r.PathValue("id"); id == foreignSystem {
		f.owner.chassis.note(Act{Kind: ActBootSet, Protocol: power.ProtocolRedfish, System: id, Boot: o.boot()})
	} else {
		f.owner.chassis.setBoot(o, power.ProtocolRedfish)
	}

	f.etag.changed()
	f.carriedOut(w)
}

func (p bootPatch) apply(o override) (override, error) {
	if p.BootSourceOverrideTarget != nil {
		selector, ok := bootTargets[*p.BootSourceOverrideTarget]
		if !ok {
			return o, fmt.Errorf("BootSourceOverrideTarget has no value %q", *p.BootSourceOverrideTarget)
		}

		o.selector = selector
	}

	if p.BootSourceOverrideEnabled != nil {
		switch *p.BootSourceOverrideEnabled {
		case "Disabled":
			o.enabled, o.persistent = false, false
		case "Once":
			o.enabled, o.persistent = true, false
		case "Continuous":
			o.enabled, o.persistent = true, true
		default:
			return o, fmt.Errorf("BootSourceOverrideEnabled has no value %q", *p.BootSourceOverrideEnabled)
		}
	}

	if p.BootSourceOverrideMode != nil {
		switch mode := *p.BootSourceOverrideMode; {
		case strings.EqualFold(mode, "UEFI"):
			o.uefi = true
		case strings.EqualFold(mode, "Legacy"):
			o.uefi = false
		default:
			return o, fmt.Errorf("BootSourceOverrideMode has no value %q", mode)
		}
	}

	return o, nil
}
