package bmcsim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// personality is how the controllers of a vendor's line are known to behave:
// what they say they are, and their habits, as rows of the list of quirks have them.
type personality struct {
	vendor, model string
	faults        []string
}

// personalities by name. Each is a sum of reports, so that one real controller
// of the line may have fewer of the habits.
var personalities = map[string]personality{
	"supermicro-x10": {"Supermicro", "X10DRT", []string{FaultNoMode, FaultRedirects}},
	"supermicro-x11": {"Supermicro", "X11DPi", []string{FaultModeFallsBack, FaultMissingComma}},
	"supermicro-x12": {"Supermicro", "SYS-510T-ML", []string{FaultModeFallsBack, FaultMissingComma, FaultWeakETag}},
	"hpe-ilo4":       {"HPE", "ProLiant DL380 Gen9", []string{FaultRefusesMode, FaultKeepsTarget, FaultRedirects, FaultInfoObject}},
	"hpe-ilo5":       {"HPE", "ProLiant DL360 Gen10", []string{FaultRefusesMode, FaultKeepsTarget, FaultSlashMembers}},
	"hpe-ilo6":       {"HPE", "ProLiant DL365 Gen11", []string{FaultKeepsTarget, FaultSlashMembers, FaultNoPowerState}},
	"dell-idrac7":    {"Dell Inc.", "PowerEdge R620", []string{FaultSessionsElsewhere, FaultBrokenRefusal, FaultInfoObject}},
	"dell-idrac9":    {"Dell Inc.", "PowerEdge R650", []string{FaultModeLosesBoot, FaultNoAccept, FaultSessionLimit}},
	"dell-idrac10":   {"Dell Inc.", "PowerEdge R670", []string{FaultSettingsMode, FaultNoIfMatch}},
	"dell-idrac10-settings": {
		"Dell Inc.", "PowerEdge R770", []string{FaultSettingsHidden, FaultNoIfMatch},
	},
	"ami-megarac":      {"American Megatrends International LLC.", "MegaRAC SP-X", []string{FaultSettingsAll, FaultNeedsETag, FaultNeedsFullBoot}},
	"lenovo-sr655":     {"Lenovo", "ThinkSystem SR655", []string{FaultSettingsAll, FaultNeedsETag}},
	"asrockrack":       {"ASRockRack", "X570D4U", []string{FaultSettingsAll, FaultNeedsETag, FaultNeedsFullBoot}},
	"nokia-airframe":   {"Nokia Solutions and Networks", "AirFrame", []string{FaultSettingsAll, FaultNeedsETag}},
	"gigabyte":         {"GIGABYTE", "R282-Z93", []string{FaultSettingsAll, FaultActionInfoOnly, FaultNeedsETag}},
	"lenovo-xcc":       {"Lenovo", "ThinkSystem SE450", []string{FaultSettingsOther, FaultVolatileETag, FaultNoContinuous, FaultNeedsETag}},
	"openbmc":          {"OpenBMC", "stock", []string{FaultActionInfoOnly, FaultTransitional, FaultSensorsOnly, FaultLinkedLog}},
	"hpe-cray-ex":      {"HPE", "EX235n", []string{FaultNoBoot, FaultActionInfoOnly, FaultTwoSystems}},
	"huawei-ibmc":      {"Huawei", "1288H V5", []string{FaultWeakETag, FaultNeedsETag, FaultNoManagedBy}},
	"cisco-cimc":       {"Cisco Systems Inc", "UCSC-C240-M5", []string{FaultBrokenETag, FaultMisfits}},
	"sushy-emulator":   {"Sushy Emulator", "libvirt", []string{FaultNoSessionService, FaultNMI501}},
	"ipmi-supermicro":  {"Supermicro", "X9SCL", []string{FaultTimedLamp, FaultShortReads, FaultNoSuites}},
	"ipmi-odd-channel": {"Contoso", "Blade", []string{FaultOddChannel, FaultOperatorOnly, FaultBootBitsLost}},
	"ipmi-virtual":     {"pyghmi", "virtualbmc", []string{FaultNoCycle, FaultWrongAlgorithm, FaultBootBitsLost, FaultNoGUID, FaultNoRecords}},
}

// Personalities returns the names that Config.Personality takes, sorted.
func Personalities() []string { return slices.Sorted(maps.Keys(personalities)) }

// adopt takes the personality of the configuration over, where it leaves
// vendor and model open, and gives its faults.
func (cfg *Config) adopt() ([]string, error) {
	if cfg.Personality == "" {
		return nil, nil
	}

	p, ok := personalities[cfg.Personality]
	if !ok {
		return nil, fmt.Errorf("simulated controller: unknown personality %q (known: %s)",
			cfg.Personality, strings.Join(Personalities(), ", "))
	}

	if cfg.Vendor == "" {
		cfg.Vendor = p.vendor
	}

	if cfg.Model == "" {
		cfg.Model = p.model
	}

	return p.faults, nil
}
