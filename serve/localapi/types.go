// Package localapi is how the other commands see a running serve: a unix socket
// that speaks HTTP and server-sent events.
package localapi

import "time"

// APIVersion stands in every document. Fields are added, never renamed.
const APIVersion = "bmctl/v1"

// MachineList is the snapshot of all machines, sorted by id.
type MachineList struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"` // "MachineList"
	Items      []Machine `json:"items"`
}

// Machine is one machine as serve sees it.
type Machine struct {
	ID            string            `json:"id"`
	Name          string            `json:"name"`
	Power         string            `json:"power"`               // on, off, unknown
	PowerAt       time.Time         `json:"powerAt,omitzero"`    // of the last reading
	LastPower     string            `json:"lastPower,omitempty"` // that it gave, where the power is unknown now
	Stage         string            `json:"stage"`               // discover, request, loader, script, kernel, initrd, agent or empty
	Status        string            `json:"status"`              // one of the Status constants
	Reason        string            `json:"reason"`              // why the status is what it is
	Cluster       string            `json:"cluster"`             // empty: not in a cluster
	Role          string            `json:"role,omitempty"`      // there: one of the Role constants
	TalosVersion  string            `json:"talosVersion"`        // of the cluster
	ReadyToUse    bool              `json:"readyToUse"`          // as reported to Omni
	Installed     bool              `json:"installed"`           // Talos is on its disk
	BMC           BMC               `json:"bmc"`                 //
	LastEvent     LastEvent         `json:"lastEvent"`           //
	Labels        map[string]string `json:"labels"`              // never nil
	Accepted      bool              `json:"accepted"`            //
	Cordoned      bool              `json:"cordoned"`            //
	Held          string            `json:"held,omitempty"`      // why it is held; empty: it is not
	MAC           string            `json:"mac,omitempty"`       // that asked last
	Address       string            `json:"address,omitempty"`   // that asked last
	Serial        string            `json:"serial,omitempty"`
	Vendor        string            `json:"vendor,omitempty"` // of the system, as its firmware says
	Model         string            `json:"model,omitempty"`
	FirstSeen     time.Time         `json:"firstSeen,omitzero"`
	AgentSince    time.Time         `json:"agentSince,omitzero"` // zero: no agent connected
	BootDecision  string            `json:"bootDecision"`        // what its next boot would be answered: agent, talos, disk, wait
	BootReason    string            `json:"bootReason"`
	AcceptPending bool              `json:"acceptPending"`
	BootAttempt   int               `json:"bootAttempt,omitempty"` // see Event.Attempt; 0: it did not boot from the network
}

// BMC is what is known of a machine's controller. It never holds credentials.
type BMC struct {
	Protocol       string  `json:"protocol"` // redfish, ipmi, api or empty: unknown
	Address        string  `json:"address"`
	LatencySeconds float64 `json:"latencySeconds"`
	Error          string  `json:"error"`
}

// LastEvent is the newest thing that happened to a machine.
type LastEvent struct {
	At   time.Time `json:"at,omitzero"`
	Text string    `json:"text"`
}

// The roles of machines in a cluster, as Talos spells them.
const (
	RoleControlPlane = "controlplane"
	RoleWorker       = "worker"
)

// The status words, the only ones.
const (
	StatusPending      = "pending"
	StatusAccepted     = "accepted"
	StatusWiping       = "wiping"
	StatusReady        = "ready"
	StatusBooting      = "booting"
	StatusRunning      = "running"
	StatusOffRequested = "off-requested"
	StatusRejected     = "rejected"
	StatusCordoned     = "cordoned"
	StatusRemoving     = "removing"
	StatusError        = "error"
)

// Event is something that happened; MachineID is empty for events of serve
// itself or of machines that are not known yet. Those of a network boot say in
// addition which NIC asked and what it got, as far as that step tells.
type Event struct {
	// Seq numbers the events of one run of serve, from 1, without gaps.
	Seq       uint64    `json:"seq"`
	At        time.Time `json:"at"`
	MachineID string    `json:"machineId,omitempty"`
	MAC       string    `json:"mac,omitempty"`
	Type      string    `json:"type"`
	Text      string    `json:"text"`
	Reason    string    `json:"reason,omitempty"`

	Address   string `json:"address,omitempty"`   // that asked
	Interface string `json:"interface,omitempty"` // of serve's host, that heard it
	Firmware  string `json:"firmware,omitempty"`  // over DHCP: BIOS, UEFI, UEFI HTTP Boot, U-Boot, Raspberry Pi or iPXE
	Arch      string `json:"arch,omitempty"`      // amd64 or arm64
	File      string `json:"file,omitempty"`      // offered or sent
	Bytes     int64  `json:"bytes,omitempty"`     // sent; at the end of a transfer
	// DurationSeconds is how long the transfer took.
	DurationSeconds float64 `json:"durationSeconds,omitempty"`
	// Decision is what a script was answered: agent, talos, disk or wait.
	Decision string `json:"decision,omitempty"`
	// Attempt numbers the machine's boots since serve started, from 1: the steps of
	// all its NICs in one boot have one number.
	Attempt int `json:"attempt,omitempty"`
}

// Health is serve's own state: who it is, what it listens on, and whether it
// may act.
type Health struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // "Health"
	Version    string `json:"version"`
	ProviderID string `json:"providerId"`
	PID        int    `json:"pid"`
	// Omni is the endpoint; OmniConnected tells whether it answers, OmniSince
	// since when that holds, OmniError the last failure, OmniRetryAt when it is
	// asked again (or was: it may be being asked now).
	Omni          string    `json:"omni"`
	OmniConnected bool      `json:"omniConnected"`
	OmniSince     time.Time `json:"omniSince,omitzero"`
	OmniError     string    `json:"omniError,omitempty"`
	OmniRetryAt   time.Time `json:"omniRetryAt,omitzero"`
	// Acting tells whether serve acts on machines; if not, ActingReason says why
	// (waiting for the lease, knowledge too old, not registered ...).
	Acting       bool   `json:"acting"`
	ActingReason string `json:"actingReason,omitempty"`
	// The listeners that were bound, host:port; empty if not served.
	DHCP      string `json:"dhcp,omitempty"`
	ProxyDHCP string `json:"proxyDhcp,omitempty"`
	TFTP      string `json:"tftp,omitempty"`
	HTTP      string `json:"http,omitempty"`
}
