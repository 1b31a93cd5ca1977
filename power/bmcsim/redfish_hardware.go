package bmcsim

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bmctl/bmctl/power"
)

const (
	chassisPath = root + "/Chassis/1"
	managerPath = root + "/Managers/1"
	logPath     = managerPath + "/LogServices/SEL"
	// logPage is how many entries a page of the event log has.
	logPage = 2
)

// hardwareRoutes are the resources of chassis, manager and update service.
func (f *redfishFace) hardwareRoutes(mux *http.ServeMux) {
	get := func(path string, resource func(*http.Request) any) {
		mux.Handle("GET "+path, f.authenticated(func(w http.ResponseWriter, r *http.Request) {
			f.reply(w, resource(r))
		}))
	}

	get(root+"/Managers", func(*http.Request) any { return collection("Manager", "Managers", "1") })
	get(managerPath, f.manager)
	get(managerPath+"/LogServices", func(*http.Request) any { return collection("LogService", "Managers/1/LogServices", "Dump", "SEL") })
	get(managerPath+"/LogServices/Dump", f.logService)
	get(managerPath+"/LogServices/Dump/Entries", func(*http.Request) any {
		page := collection("LogEntry", "Managers/1/LogServices/Dump/Entries")
		page["Members"] = []object{event{severity: "OK", text: "A dump was made"}.resource(1)}

		return page
	})
	get(logPath, f.logService)
	get(logPath+"/Entries", f.logEntries)
	get(logPath+"/Entries/{id}", f.logEntry)
	get(managerPath+"/EthernetInterfaces", func(*http.Request) any {
		return collection("EthernetInterface", "Managers/1/EthernetInterfaces", "eth0")
	})
	get(managerPath+"/EthernetInterfaces/eth0", f.nic(0, "eth0"))
	get(root+"/Systems/1/EthernetInterfaces", func(*http.Request) any {
		return collection("EthernetInterface", "Systems/1/EthernetInterfaces", "NIC1", "NIC2")
	})
	get(root+"/Systems/1/EthernetInterfaces/NIC1", f.nic(1, "NIC1"))
	get(root+"/Systems/1/EthernetInterfaces/NIC2", f.nic(2, "NIC2"))

	get(root+"/Chassis", func(*http.Request) any { return collection("Chassis", "Chassis", "1") })
	get(chassisPath, f.chassisResource)
	mux.Handle("PATCH "+chassisPath, f.authenticated(func(w http.ResponseWriter, r *http.Request) {
		f.patchLamp(w, r, f.chassisLamp())
	}))
	get(chassisPath+"/Thermal", f.thermal)
	get(chassisPath+"/Power", f.power)
	get(chassisPath+"/Sensors", f.sensorList)
	get(chassisPath+"/Sensors/{id}", f.sensor)
}

func (f *redfishFace) manager(*http.Request) any {
	resource := object{
		"@odata.id":          managerPath,
		"@odata.type":        "#Manager.v1_15_0.Manager",
		"Id":                 "1",
		"Name":               "Manager",
		"ManagerType":        "BMC",
		"FirmwareVersion":    "1.10",
		"PowerState":         "On",
		"Status":             object{"State": "Enabled", "Health": "OK"},
		"EthernetInterfaces": link(managerPath + "/EthernetInterfaces"),
	}

	if !f.fault(FaultNoRecords) {
		resource["LogServices"] = link(managerPath + "/LogServices")
	}

	if f.fault(FaultNoPowerState) {
		delete(resource, "PowerState")
	}

	return resource
}

func (f *redfishFace) chassisResource(*http.Request) any {
	resource := object{
		"@odata.id":    chassisPath,
		"@odata.type":  "#Chassis.v1_20_0.Chassis",
		"Id":           "1",
		"Name":         "Chassis",
		"ChassisType":  "RackMount",
		"Manufacturer": f.owner.cfg.Vendor,
		"Model":        f.owner.cfg.Model,
		"SerialNumber": f.owner.cfg.Serial,
		"PowerState":   powerState(f.owner.State()),
		"Links":        object{"ComputerSystems": []object{link(root + "/Systems/1")}},
	}

	if name := f.chassisLamp(); name != "" {
		resource[name] = f.lampState(name)
	}

	switch {
	case f.fault(FaultNoRecords):
	case f.fault(FaultSensorsOnly):
		resource["Sensors"] = link(chassisPath + "/Sensors")
	default:
		resource["Thermal"], resource["Power"] = link(chassisPath+"/Thermal"), link(chassisPath+"/Power")
	}

	return resource
}

// The two properties by which a lamp is lit.
const (
	lampNew = "LocationIndicatorActive"
	lampOld = "IndicatorLED"
)

// systemLamp and chassisLamp are the properties of the resources; empty: none.
func (f *redfishFace) systemLamp() string {
	if f.fault(FaultChassisLamp) {
		return ""
	}

	return lampNew
}

func (f *redfishFace) chassisLamp() string {
	if f.fault(FaultChassisLamp) {
		return lampOld
	}

	return ""
}

func (f *redfishFace) lampState(name string) any {
	lit := f.owner.chassis.isLit()

	switch {
	case name == lampNew:
		return lit
	case lit:
		return "Blinking"
	default:
		return "Off"
	}
}

// patchLamp switches the lamp of a resource that has the property.
func (f *redfishFace) patchLamp(w http.ResponseWriter, r *http.Request, name string) {
	var body object
	if !f.decode(w, r, &body) {
		return
	}

	value, ok := body[name]
	if name == "" || !ok {
		f.refuse(w, http.StatusBadRequest, "Base.1.18.PropertyUnknown", "There is no such property")

		return
	}

	f.owner.chassis.light(value == true || value == "Lit" || value == "Blinking", time.Time{})
	w.WriteHeader(http.StatusNoContent)
}

func (f *redfishFace) nic(n int, id string) func(*http.Request) any {
	return func(r *http.Request) any {
		mac := f.owner.nics()[n]
		resource := object{
			"@odata.id":   r.URL.Path,
			"@odata.type": "#EthernetInterface.v1_9_0.EthernetInterface",
			"Id":          id,
			"Name":        id,
			"Status":      object{"State": "Enabled", "Health": "OK"},
			"MACAddress":  strings.ToUpper(net.HardwareAddr(mac[:]).String()),
		}

		if n == 0 {
			resource["IPv4Addresses"] = []object{{"Address": f.owner.addr.String()}}
		}

		return resource
	}
}

func (f *redfishFace) logService(r *http.Request) any {
	id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]

	return object{
		"@odata.id":   r.URL.Path,
		"@odata.type": "#LogService.v1_4_0.LogService",
		"Id":          id,
		"Name":        id + " Log Service",
		"Entries":     link(r.URL.Path + "/Entries"),
	}
}

// logEntries is a page of the event log, the newest entry first; where the
// fault "linked-log" is on, of links to them.
func (f *redfishFace) logEntries(r *http.Request) any {
	log := f.owner.events(power.ProtocolRedfish)
	page := collection("LogEntry", "Managers/1/LogServices/SEL/Entries")
	members := make([]object, 0, len(log))

	for i, e := range slices.Backward(log) {
		if f.fault(FaultLinkedLog) {
			members = append(members, link(logPath+"/Entries/"+strconv.Itoa(i+1)))
		} else {
			members = append(members, e.resource(i+1))
		}
	}

	skip, _ := strconv.Atoi(r.URL.Query().Get("$skip")) // without one the first page is meant
	skip = min(max(skip, 0), len(members))
	end := min(skip+logPage, len(members))

	if end < len(members) {
		page["Members@odata.nextLink"] = fmt.Sprintf("%s/Entries?$skip=%d", logPath, end)
	}

	page["Members"], page["Members@odata.count"] = members[skip:end], len(members)

	return page
}

func (f *redfishFace) logEntry(r *http.Request) any {
	log := f.owner.events(power.ProtocolRedfish)

	n, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || n < 1 || n > len(log) {
		return object{}
	}

	return log[n-1].resource(n)
}

// resource is the event as a log entry (LogEntry schema).
func (e event) resource(n int) object {
	id := strconv.Itoa(n)
	entry := object{
		"@odata.id":   logPath + "/Entries/" + id,
		"@odata.type": "#LogEntry.v1_15_0.LogEntry",
		"Id":          id,
		"Name":        "Log Entry " + id,
		"EntryType":   "SEL",
		"Severity":    e.severity,
		"Message":     e.text,
	}

	if !e.at.IsZero() {
		entry["Created"] = e.at.UTC().Format(time.RFC3339)
	}

	return entry
}

// status is the Status of a sensor, and its reading: nil where there is none.
func (f *redfishFace) status(p probe) (reading any, status object) {
	raw, ok := f.owner.reading(p, power.ProtocolRedfish)

	switch {
	case !ok:
		return nil, object{"State": "UnavailableOffline"}
	case raw >= p.critical:
		return p.value(raw), object{"State": "Enabled", "Health": "Critical"}
	default:
		return p.value(raw), object{"State": "Enabled", "Health": "OK"}
	}
}

// kind lists the sensors of a kind, with the reading under the name.
func (f *redfishFace) kind(kind power.SensorKind, name string, more object) []object {
	list := []object{}

	for _, p := range probes {
		if p.kind != kind {
			continue
		}

		reading, status := f.status(p)
		item := object{"MemberId": strconv.Itoa(len(list)), "Name": p.name, name: reading, "Status": status}

		for k, v := range more {
			item[k] = v
		}

		list = append(list, item)
	}

	return list
}

func (f *redfishFace) thermal(*http.Request) any {
	return object{
		"@odata.id":    chassisPath + "/Thermal",
		"@odata.type":  "#Thermal.v1_7_1.Thermal",
		"Id":           "Thermal",
		"Name":         "Thermal",
		"Temperatures": f.kind(power.SensorTemperature, "ReadingCelsius", nil),
		"Fans":         f.kind(power.SensorFan, "Reading", object{"ReadingUnits": "RPM"}),
	}
}

func (f *redfishFace) power(*http.Request) any {
	return object{
		"@odata.id":    chassisPath + "/Power",
		"@odata.type":  "#Power.v1_7_1.Power",
		"Id":           "Power",
		"Name":         "Power",
		"PowerControl": f.kind(power.SensorPower, "PowerConsumedWatts", nil),
		"Voltages":     f.kind(power.SensorVoltage, "ReadingVolts", nil),
		"PowerSupplies": []object{{
			"MemberId": "0", "Name": "PSU1", "Manufacturer": "Contoso Power", "Model": "PS-800",
			"PartNumber": "PS-800-2", "SerialNumber": "PS" + f.owner.cfg.Serial,
		}},
	}
}

func (f *redfishFace) sensorList(*http.Request) any {
	ids := make([]string, len(probes))
	for i, p := range probes {
		ids[i] = strconv.Itoa(int(p.number))
	}

	return collection("Sensor", "Chassis/1/Sensors", ids...)
}

func (f *redfishFace) sensor(r *http.Request) any {
	words := map[power.SensorKind][2]string{
		power.SensorTemperature: {"Temperature", "Cel"}, power.SensorFan: {"Rotational", "RPM"},
		power.SensorVoltage: {"Voltage", "V"}, power.SensorPower: {"Power", "W"},
	}

	for _, p := range probes {
		if strconv.Itoa(int(p.number)) != r.PathValue("id") {
			continue
		}

		reading, status := f.status(p)

		return object{
			"@odata.id": r.URL.Path, "@odata.type": "#Sensor.v1_7_0.Sensor", "Id": r.PathValue("id"), "Name": p.name,
			"Reading": reading, "ReadingType": words[p.kind][0], "ReadingUnits": words[p.kind][1], "Status": status,
		}
	}

	return object{}
}
