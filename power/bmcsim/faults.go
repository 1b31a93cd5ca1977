package bmcsim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
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

// More habits of Redfish services; each names the row of the list of quirks.
const (
	// FaultNeedsFullBoot: a boot override that is not complete is refused (A8, AMI).
	FaultNeedsFullBoot = "needs-full-boot"
	// FaultSettingsHidden: the boot override is written in the settings object,
	// which does not list it, and refused by the system (A10, Dell iDRAC 10).
	FaultSettingsHidden = "settings-hidden"
	// FaultModeLosesBoot: writing the mode that is there loses the override (A11, Dell iDRAC 9).
	FaultModeLosesBoot = "mode-loses-boot"
	// FaultSameEnabled: an Enabled that is there already is refused (A12).
	FaultSameEnabled = "same-enabled"
	// FaultNoContinuous: there is no persistent override (A13, Lenovo).
	FaultNoContinuous = "no-continuous"
	// FaultBecomesContinuous: a one-shot override reads back as a persistent one (A14).
	FaultBecomesContinuous = "becomes-continuous"
	// FaultNotInThisState: a reset is refused in the words of an older HPE iLO (B1).
	FaultNotInThisState = "not-in-this-state"
	// FaultAlready: an act is carried out and refused as needless (B3).
	FaultAlready = "already"
	// FaultTransitional: a change of the power shows late (B8, OpenBMC).
	FaultTransitional = "transitional"
	// FaultNoIfMatch: an action with If-Match is refused (B10, Dell iDRAC 10).
	FaultNoIfMatch = "no-if-match"
	// FaultNMI501: an NMI is on offer, and not implemented (B11).
	FaultNMI501 = "nmi-501"
	// FaultSlashMembers: the members of collections end with a slash (B15, HPE).
	FaultSlashMembers = "slash-members"
	// FaultBrokenRefusal: the body of a 401 breaks off (C2, Dell iDRAC 7).
	FaultBrokenRefusal = "broken-refusal"
	// FaultSessionsElsewhere: sessions are at /redfish/v1/Sessions (C3, Dell iDRAC 7).
	FaultSessionsElsewhere = "sessions-elsewhere"
	// FaultGzipETag: where answers may be compressed, ETags say so, and are
	// refused as such (C8).
	FaultGzipETag = "gzip-etag"
	// FaultEmptyETag: ETags are empty (C11).
	FaultEmptyETag = "empty-etag"
	// FaultUnquotedETag: If-Match is understood without quotes only (C12).
	FaultUnquotedETag = "unquoted-etag"
	// FaultVolatileETag: the ETag changes between a GET and every third PATCH (C14, Lenovo).
	FaultVolatileETag = "volatile-etag"
	// FaultBrokenETag: ETags are no ETags (C18, Cisco).
	FaultBrokenETag = "broken-etag"
	// FaultDataUnavailable: requests to the system get 500 with SYS518 (C15, Dell).
	FaultDataUnavailable = "data-unavailable"
	// FaultGatewayTimeout: requests to the system get 504 as a page (C16, Dell).
	FaultGatewayTimeout = "gateway-timeout"
	// FaultTaskGone: acts and boot overrides are answered with 202 and the Location
	// of a task that is gone when it is asked for (C21, Dell).
	FaultTaskGone = "task-gone"
	// FaultAccepted: acts and boot overrides are answered with 202, and no
	// Location (C22).
	FaultAccepted = "accepted"
	// FaultMisfits: objects stand where lists belong, and numbers where texts do.
	FaultMisfits = "misfits"
)

// More habits of IPMI controllers.
const (
	// FaultNoBootClearing: boot option 3 is refused (E1).
	FaultNoBootClearing = "no-boot-clearing"
	// FaultBootBitsLost: the first byte of the boot flags reads back as zero (E8).
	FaultBootBitsLost = "boot-bits-lost"
	// FaultWrongAlgorithm: a session is agreed to with SHA-1, whatever was asked
	// for (E11).
	FaultWrongAlgorithm = "wrong-algorithm"
	// FaultShortRefusal: a session is refused in two bytes instead of eight (E12).
	FaultShortRefusal = "short-refusal"
	// FaultOperatorOnly: the users may be OPERATOR and no more (E15).
	FaultOperatorOnly = "operator-only"
)

// Faults with a value: "drop=20", "code=D4".
const (
	// FaultDrop: of a hundred datagrams so many are lost, each way. TCP mends
	// losses by itself, so it concerns IPMI alone.
	FaultDrop = "drop"
	// FaultCode: chassis commands are answered with this completion code.
	FaultCode = "code"
)

var knownFaults = []string{
	FaultAccepted, FaultActionInfoOnly, FaultAlready, FaultBadLogin, FaultBecomesContinuous, FaultBootBitsLost,
	FaultBrokenETag, FaultBrokenRefusal, FaultBusy, FaultBusyInPOST, FaultChassisLamp, FaultConflict,
	FaultDataUnavailable, FaultEmptyETag, FaultGatewayTimeout, FaultGzipETag, FaultHTMLErrors, FaultHot,
	FaultIgnoreSoft, FaultInfoObject, FaultKeepsTarget, FaultLinkedLog, FaultLyingBoot, FaultLyingPower,
	FaultMisfits, FaultMissingComma, FaultModeFallsBack, FaultModeLosesBoot, FaultNMI501, FaultNeedsETag,
	FaultNeedsFullBoot, FaultNeedsMode, FaultNoAccept, FaultNoBoot, FaultNoBootClearing, FaultNoConsole,
	FaultNoContinuous, FaultNoCycle, FaultNoGUID, FaultNoIfMatch, FaultNoManagedBy, FaultNoMode,
	FaultNoPowerState, FaultNoRecords, FaultNoSessionService, FaultNoSuites, FaultNoSystems, FaultNotInThisState,
	FaultOddChannel, FaultOperatorOnly, FaultRedirects, FaultRefusesETag, FaultRefusesMode, FaultSameEnabled,
	FaultSensorsOnly, FaultSessionLimit, FaultSessionsElsewhere, FaultSettingsAll, FaultSettingsHidden,
	FaultSettingsMode, FaultSettingsOther, FaultShortReads, FaultShortRefusal, FaultSilent, FaultSlashMembers,
	FaultSlow, FaultTaskGone, FaultTimedLamp, FaultTransitional, FaultTwoSystems, FaultUnquotedETag, FaultUserOnly,
	FaultVolatileETag, FaultWeakETag, FaultWrongAlgorithm,
}

// valuedFaults are the faults with a value: its base, and the largest one.
var valuedFaults = map[string]struct{ base, most int }{FaultDrop: {10, 100}, FaultCode: {16, 0xff}}

// KnownFaults returns the names that SetFault takes, sorted; of those with a
// value the form: "drop=N".
func KnownFaults() []string {
	return slices.Sorted(slices.Values(slices.Concat(knownFaults, []string{FaultDrop + "=N", FaultCode + "=N"})))
}

// faults is the set of faults that are on.
type faults struct {
	mu     sync.Mutex
	active map[string]bool
}

func newFaults() *faults { return &faults{active: map[string]bool{}} }

func (f *faults) set(name string, on bool) error {
	bare := strings.TrimPrefix(strings.TrimPrefix(name, "ipmi:"), "redfish:")
	if !slices.Contains(knownFaults, bare) && !isValued(bare) {
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

func isValued(fault string) bool {
	name, text, _ := strings.Cut(fault, "=")
	form, ok := valuedFaults[name]
	value, err := strconv.ParseUint(text, form.base, 16)

	return ok && err == nil && int(value) <= form.most
}

// value is that of a fault with one; 0: the face does not have it.
func (f *faults) value(face power.Protocol, name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()

	for fault := range f.active {
		bare := strings.TrimPrefix(fault, string(face)+":")
		if text, ok := strings.CutPrefix(bare, name+"="); ok {
			value, _ := strconv.ParseUint(text, valuedFaults[name].base, 16) // checked when it was set

			return int(value)
		}
	}

	return 0
}
