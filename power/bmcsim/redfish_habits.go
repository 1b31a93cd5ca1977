package bmcsim

import (
	"bytes"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// settingsPath is where the settings object of the machine's own system is.
const settingsPath = root + "/Systems/" + ownSystem + "/SD"

// habits are the faults that show on every path.
func (f *redfishFace) habits(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path

		if f.fault(FaultEmptyETag) || f.fault(FaultBrokenETag) || f.fault(FaultMisfits) {
			w = &spoiling{ResponseWriter: w, face: f}
		}

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

// etagNow is the ETag as it is sent to this request.
func (f *redfishFace) etagNow(r *http.Request) string {
	tag := f.etag.strong()

	switch {
	case f.fault(FaultWeakETag):
		return "W/" + tag
	case f.fault(FaultGzipETag) && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip"):
		return strings.TrimSuffix(tag, `"`) + `-gzip"`
	default:
		return tag
	}
}

// precondition is the status by which a PATCH is refused for its If-Match; 0 is
// none (RFC 9110, 13.1.1).
func (f *redfishFace) precondition(r *http.Request) int {
	match, given := r.Header.Get("If-Match"), len(r.Header.Values("If-Match")) > 0

	want := f.etag.strong()
	if f.fault(FaultUnquotedETag) {
		want = strings.Trim(want, `"`)
	}

	switch {
	case match == "" && f.fault(FaultNeedsETag):
		return http.StatusPreconditionRequired
	case f.fault(FaultVolatileETag) && f.etag.every(3):
		f.etag.changed()

		return http.StatusPreconditionFailed
	case given && match == "", match != "" && f.fault(FaultRefusesETag), match != "" && match != "*" && match != want:
		return http.StatusPreconditionFailed
	default:
		return 0
	}
}

var bodyETag = regexp.MustCompile(`"@odata.etag":"(\\.|[^"\\])*",`)

// spoiling changes what is sent as the faults of all resources have it.
type spoiling struct {
	http.ResponseWriter
	face *redfishFace
}

// Unwrap lets http.ResponseController reach the connection.
func (s *spoiling) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (s *spoiling) WriteHeader(status int) {
	if s.Header().Get("ETag") != "" {
		s.Header().Set("ETag", s.tag())
	}

	s.ResponseWriter.WriteHeader(status)
}

func (s *spoiling) tag() string {
	switch {
	case s.face.fault(FaultEmptyETag):
		return ""
	case s.face.fault(FaultBrokenETag):
		return `"serial"number"`
	default:
		return s.Header().Get("ETag")
	}
}

// Write implements io.Writer.
func (s *spoiling) Write(p []byte) (int, error) {
	spoilt := p

	// An ETag in the body would help clients over what is wrong in the header.
	if s.face.fault(FaultEmptyETag) || s.face.fault(FaultBrokenETag) {
		spoilt = bodyETag.ReplaceAll(spoilt, nil)
	}

	if s.face.fault(FaultMisfits) {
		spoilt = bytes.Replace(spoilt, []byte(`"ManagedBy":[`), []byte(`"ManagedBy":{"x":[`), 1)
		spoilt = bytes.Replace(spoilt, []byte(`/Managers/1"}]`), []byte(`/Managers/1"}]}`), 1)
		spoilt = bytes.Replace(spoilt, []byte(`"SystemType":"Physical"`), []byte(`"SystemType":"Physical","PartNumber":7`), 1)
	}

	_, err := s.ResponseWriter.Write(spoilt)

	return len(p), err
}

// refusesBoot is the message by which a boot override is refused; properties
// are those that the resource has.
func (f *redfishFace) refusesBoot(p bootPatch, properties object) (id, message string) {
	hasMode := p.BootSourceOverrideMode != nil
	complete := hasMode && p.BootSourceOverrideTarget != nil && p.BootSourceOverrideEnabled != nil

	switch {
	case f.fault(FaultNeedsFullBoot) && !complete:
		return "Ami.1.0.RequiredPropertiesMissing", "Mode, Enabled and Target must be sent together"
	case f.fault(FaultSameEnabled) && f.owner.chassis.bootOverride().sameEnabled(p):
		return "Base.1.18.PropertyValueConflict", "BootSourceOverrideEnabled has this value already"
	case f.fault(FaultNoContinuous) && p.BootSourceOverrideEnabled != nil && *p.BootSourceOverrideEnabled == "Continuous":
		return "Base.1.18.PropertyValueNotInList", "BootSourceOverrideEnabled cannot be Continuous"
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
	return f.fault(FaultSettingsHidden) || f.fault(FaultSettingsAll) || f.fault(FaultSettingsMode) || f.fault(FaultSettingsOther)
}

// systemBoot is the Boot object of the system itself.
func (f *redfishFace) systemBoot(o override) object {
	boot := bootResource(o)
	if f.fault(FaultBecomesContinuous) && boot["BootSourceOverrideEnabled"] == "Once" {
		boot["BootSourceOverrideEnabled"] = "Continuous"
	}

	if f.fault(FaultNoContinuous) {
		boot["BootSourceOverrideEnabled@Redfish.AllowableValues"] = []string{"Disabled", "Once"}
	}

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

// sameEnabled tells whether the patch sets Enabled to what it is.
func (o override) sameEnabled(p bootPatch) bool {
	return p.BootSourceOverrideEnabled != nil && *p.BootSourceOverrideEnabled == bootResource(o)["BootSourceOverrideEnabled"]
}

func (f *redfishFace) getSettings(w http.ResponseWriter, r *http.Request) {
	if !f.hasSettings() {
		f.refuse(w, http.StatusNotFound, "Base.1.18.ResourceMissingAtURI", "There is no resource at "+r.URL.Path)

		return
	}

	w.Header().Set("ETag", f.etagNow(r))
	f.reply(w, object{
		"@odata.id":   settingsPath,
		"@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem",
		"Id":          "SD",
		"Name":        "Settings of the system",
		"Boot":        f.settingsBoot(f.owner.chassis.bootOverride()),
	})
}

func (f *redfishFace) patchSettings(w http.ResponseWriter, r *http.Request) {
	properties := f.settingsBoot(override{})
	if f.fault(FaultSettingsHidden) {
		properties = bootResource(override{}) // they are there, and not listed
	}

	f.patchBoot(w, r, properties)
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
