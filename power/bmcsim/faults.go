package bmcsim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/bmctl/bmctl/power"
)

// The faults that a controller can be given.
const (
	// FaultSilent: nothing is answered any more, on connections old and new.
	FaultSilent = "silent"
	// FaultSlow: every answer leaves Config.SlowBy later.
	FaultSlow = "slow"
	// FaultBadLogin: every login is refused, as with a changed password.
	FaultBadLogin = "bad-login"
	// FaultBusy: chassis commands and requests to the system get "busy, later".
	FaultBusy = "busy"
	// FaultLyingPower: power acts are accepted and not carried out.
	FaultLyingPower = "lying-power"
	// FaultLyingBoot: boot overrides are accepted and not kept.
	FaultLyingBoot = "lying-boot"
	// FaultIgnoreSoft: the operating system ignores the soft shutdown.
	FaultIgnoreSoft = "ignore-soft"
	// FaultTwoSystems: Redfish lists a second system, before the machine's own.
	FaultTwoSystems = "two-systems"
	// FaultNoCycle: a power cycle is a command that the controller lacks
	// (IPMI: completion code CCh; Redfish: no PowerCycle in the list).
	FaultNoCycle = "no-cycle"
	// FaultNoGUID: IPMI does not tell the system's UUID.
	FaultNoGUID = "no-guid"
	// FaultUserOnly: the users may look, but change nothing.
	FaultUserOnly = "user-only"
	// FaultNoSuites: the cipher suites are not told.
	FaultNoSuites = "no-suites"
	// FaultNoSystems: Redfish lists no system.
	FaultNoSystems = "no-systems"
	// FaultHot: a processor is above its upper critical threshold.
	FaultHot = "hot"
	// FaultNoConsole: serial over LAN is switched off.
	FaultNoConsole = "no-console"
)

// The habits of IPMI controllers, as found in the field.
const (
	// FaultTimedLamp: the lamp is lit for a given time only (IPMI 1.5).
	FaultTimedLamp = "timed-lamp"
	// FaultShortReads: no more than 16 bytes of a record are sent at once.
	FaultShortReads = "short-reads"
	// FaultOddChannel: LAN is channel 8, and 14 is not understood as "this one".
	FaultOddChannel = "odd-channel"
	// FaultNoRecords: there is neither a repository of sensors nor an event log.
	FaultNoRecords = "no-records"
)

// The habits of Redfish services, as found in the field.
const (
	// FaultNoSessionService: there is nowhere to create a session.
	FaultNoSessionService = "no-session-service"
	// FaultSessionLimit: no further session is given (Dell, RAC0218).
	FaultSessionLimit = "session-limit"
	// FaultWeakETag: ETags come as weak ones and are refused as such.
	FaultWeakETag = "weak-etag"
	// FaultNeedsETag: a PATCH without If-Match is refused.
	FaultNeedsETag = "needs-etag"
	// FaultRefusesETag: a PATCH with If-Match is refused.
	FaultRefusesETag = "refuses-etag"
	// FaultActionInfoOnly: reset types are told in an ActionInfo only.
	FaultActionInfoOnly = "actioninfo-only"
	// FaultMissingComma: two reset types are told as one word (Supermicro).
	FaultMissingComma = "missing-comma"
	// FaultConflict: a reset gets 409 ActionParameterValueConflict (Dell iDRAC 10
	// shortly after off).
	FaultConflict = "conflict"
	// FaultNoBoot: the system tells nothing of a boot override.
	FaultNoBoot = "no-boot"
	// FaultNoMode: the boot override has no mode, and one that is sent is refused.
	FaultNoMode = "no-mode"
	// FaultRefusesMode: a mode that is sent is refused, though one is told (HPE).
	FaultRefusesMode = "refuses-mode"
	// FaultNeedsMode: a boot override without a mode is refused.
	FaultNeedsMode = "needs-mode"
	// FaultModeFallsBack: a boot override without a mode makes it Legacy (Supermicro).
	FaultModeFallsBack = "mode-falls-back"
	// FaultKeepsTarget: the target None is refused (HPE).
	FaultKeepsTarget = "keeps-target"
	// FaultBusyInPOST: boot overrides are refused while the machine starts (HPE).
	FaultBusyInPOST = "busy-in-post"
	// FaultSettingsAll: the boot override is written in the settings object (AMI).
	FaultSettingsAll = "settings-all"
	// FaultSettingsMode: its mode is written there, the rest in the system (Dell iDRAC 10).
	FaultSettingsMode = "settings-mode"
	// FaultSettingsOther: the settings object has other properties of Boot (Lenovo).
	FaultSettingsOther = "settings-other"
	// FaultRedirects: every path moves to the one with a slash at its end.
	FaultRedirects = "redirects"
	// FaultHTMLErrors: errors come as pages for people.
	FaultHTMLErrors = "html-errors"
	// FaultInfoObject: the messages of an error are an object instead of a list (Dell).
	FaultInfoObject = "info-object"
	// FaultNoAccept: requests without an Accept header are refused (Dell iDRAC 9).
	FaultNoAccept = "no-accept"
	// FaultSensorsOnly: sensors are a collection, as since Redfish 2020.4, and
	// there is neither Thermal nor Power.
	FaultSensorsOnly = "sensors-only"
	// FaultChassisLamp: the lamp is the chassis's, in the way before Redfish 2020.2.
	FaultChassisLamp = "chassis-lamp"
	// FaultLinkedLog: the pages of the event log hold links instead of entries.
	FaultLinkedLog = "linked-log"
	// FaultNoPowerState: the manager tells no power state (HPE iLO 6).
	FaultNoPowerState = "no-power-state"
	// FaultNoManagedBy: the system does not name its manager (Huawei).
	FaultNoManagedBy = "no-managed-by"
)

var knownFaults = []string{
	FaultUserOnly, FaultNoSuites, FaultNoSystems, FaultSensorsOnly, FaultChassisLamp, FaultLinkedLog, FaultNoPowerState, FaultNoManagedBy,
	FaultTimedLamp, FaultShortReads, FaultOddChannel, FaultNoRecords, FaultHot, FaultNoConsole,
	FaultActionInfoOnly, FaultBadLogin, FaultBusy, FaultBusyInPOST, FaultConflict, FaultHTMLErrors, FaultIgnoreSoft,
	FaultInfoObject, FaultKeepsTarget, FaultLyingBoot, FaultLyingPower, FaultMissingComma, FaultModeFallsBack,
	FaultNeedsETag, FaultNeedsMode, FaultNoAccept, FaultNoBoot, FaultNoCycle, FaultNoGUID, FaultNoMode,
	FaultNoSessionService, FaultRedirects, FaultRefusesETag, FaultRefusesMode, FaultSessionLimit, FaultSettingsAll,
	FaultSettingsMode, FaultSettingsOther, FaultSilent, FaultSlow, FaultTwoSystems, FaultWeakETag,
}

// KnownFaults returns the names that SetFault takes, sorted.
func KnownFaults() []string { return slices.Sorted(slices.Values(knownFaults)) }

// faults is the set of faults that are on.
type faults struct {
	mu     sync.Mutex
	active map[string]bool
}

func newFaults() *faults { return &faults{active: map[string]bool{}} }

func (f *faults) set(name string, on bool) error {
	bare := strings.TrimPrefix(strings.TrimPrefix(name, "ipmi:"), "redfish:")
	if !slices.Contains(knownFaults, bare) {
		return fmt.Errorf("unknown fault %q (known: %s)", name, strings.Join(KnownFaults(), ", "))
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	if on {
		f.active[name] = true
	} else {
		delete(f.active, name)
	}

	return nil
}

// on tells whether the face that speaks the protocol has the fault.
func (f *faults) on(face power.Protocol, name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.active[name] || f.active[string(face)+":"+name]
}

func (f *faults) list() []string {
	f.mu.Lock()
	defer f.mu.Unlock()

	return slices.Sorted(maps.Keys(f.active))
}
