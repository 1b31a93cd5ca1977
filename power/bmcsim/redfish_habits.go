package bmcsim

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// settingsPath is where the settings object of the machine's own system is.
const settingsPath = root + "/Systems/" + ownSystem + "/SD"

// habits are the faults that show on every path.
func (f *redfishFace) habits(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path

		switch {
		case f.fault(FaultNoAccept) && r.Header.Get("Accept") == "":
			f.refuse(w, http.StatusNotAcceptable, "Base.1.18.HeaderMissing", "There is no Accept header")
		case f.fault(FaultRedirects) && !strings.HasSuffix(path, "/"):
			// As a controller behind address translation: the host is unreachable.
			location := url.URL{Scheme: "https", Host: "192.0.2.1", Path: path + "/", RawQuery: r.URL.RawQuery}
			w.Header().Set("Location", location.String())
			w.WriteHeader(http.StatusMovedPermanently)
		case f.fault(FaultRedirects) && path != root+"/":
			r.URL.Path = strings.TrimSuffix(path, "/")
			next.ServeHTTP(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// etagNow is the ETag as it is sent.
func (f *redfishFace) etagNow() string {
	if f.fault(FaultWeakETag) {
		return "W/" + f.etag.strong()
	}

	return f.etag.strong()
}

// precondition is the status by which a PATCH is refused for its If-Match; 0 is
// none (RFC 9110, 13.1.1).
func (f *redfishFace) precondition(r *http.Request) int {
	match := r.Header.Get("If-Match")

	switch {
	case match == "" && f.fault(FaultNeedsETag):
		return http.StatusPreconditionRequired
	case match != "" && f.fault(FaultRefusesETag),
		match != "" && match != "*" && match != f.etag.strong():
		return http.StatusPreconditionFailed
	default:
		return 0
	}
}

// refusesBoot is the message by which a boot override is refused; properties
// are those that the resource has.
func (f *redfishFace) refusesBoot(p bootPatch, properties object) (id, message string) {
	hasMode := p.BootSourceOverrideMode != nil

	switch {
	case f.fault(FaultBusyInPOST):
		return "iLO.2.37.UnableToModifyDuringSystemPOST", "The machine is in POST"
	case hasMode && (properties["BootSourceOverrideMode"] == nil || f.fault(FaultRefusesMode)):
		return "iLO.2.30.UnsupportedOperation", "BootSourceOverrideMode cannot be written here"
	case !hasMode && f.fault(FaultNeedsMode):
		return "Base.1.18.PropertyMissing", "The property BootSourceOverrideMode is a required property and must be included in the request."
	case p.BootSourceOverrideTarget != nil && *p.BootSourceOverrideTarget == "None" && f.fault(FaultKeepsTarget):
		return "Base.1.18.PropertyValueNotInList", "BootSourceOverrideTarget must not be None"
	case (p.BootSourceOverrideTarget != nil || p.BootSourceOverrideEnabled != nil) && properties["BootSourceOverrideTarget"] == nil:
		return "Ami.1.0.OperationSupportedInFutureStateURI", "The boot override is written elsewhere"
	default:
		return "", ""
	}
}

func (f *redfishFace) hasSettings() bool {
	return f.fault(FaultSettingsAll) || f.fault(FaultSettingsMode) || f.fault(FaultSettingsOther)
}

// systemBoot is the Boot object of the system itself.
func (f *redfishFace) systemBoot(o override) object {
	boot := bootResource(o)

	switch {
	case f.fault(FaultNoBoot), f.fault(FaultSettingsAll):
		return object{"BootOrder": []string{"Boot0001"}}
	case f.fault(FaultNoMode), f.fault(FaultSettingsMode):
		maps.DeleteFunc(boot, func(name string, _ any) bool { return strings.HasPrefix(name, "BootSourceOverrideMode") })
	}

	return boot
}

// settingsBoot is the Boot object of the settings object.
func (f *redfishFace) settingsBoot(o override) object {
	boot := bootResource(o)

	switch {
	case f.fault(FaultSettingsMode):
		maps.DeleteFunc(boot, func(name string, _ any) bool { return !strings.HasPrefix(name, "BootSourceOverrideMode") })
	case !f.fault(FaultSettingsAll):
		return object{"BootOrder": []string{"Boot0001"}}
	}

	return boot
}

func (f *redfishFace) getSettings(w http.ResponseWriter, r *http.Request) {
	if !f.hasSettings() {
		f.refuse(w, http.StatusNotFound, "Base.1.18.ResourceMissingAtURI", "There is no resource at "+r.URL.Path)

		return
	}

	w.Header().Set("ETag", f.etagNow())
	f.reply(w, object{
		"@odata.id":   settingsPath,
		"@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem",
		"Id":          "SD",
		"Name":        "Settings of the system",
		"Boot":        f.settingsBoot(f.owner.chassis.bootOverride()),
	})
}

func (f *redfishFace) patchSettings(w http.ResponseWriter, r *http.Request) {
	f.patchBoot(w, r, f.settingsBoot(override{}))
}

// resetAction is how the system offers its reset.
func (f *redfishFace) resetAction(path string) object {
	action := object{"target": path + "/Actions/ComputerSystem.Reset"}

	switch {
	case f.fault(FaultActionInfoOnly):
		action["@Redfish.ActionInfo"] = path + "/ResetActionInfo"
	case f.fault(FaultMissingComma):
		action["ResetType@Redfish.AllowableValues"] = []string{
			"On", "ForceOff", "GracefulShutdownGracefulRestart", "ForceRestart", "Nmi", "ForceOn",
		}
	default:
		action["ResetType@Redfish.AllowableValues"] = f.resetTypes()
	}

	return action
}

func (f *redfishFace) resetActionInfo(r *http.Request) any {
	return object{
		"@odata.id":   r.URL.Path,
		"@odata.type": "#ActionInfo.v1_3_0.ActionInfo",
		"Id":          "ResetActionInfo",
		"Name":        "Reset Action Info",
		"Parameters":  []object{{"Name": "ResetType", "Required": true, "AllowableValues": f.resetTypes()}},
	}
}
