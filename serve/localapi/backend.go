package localapi

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/bmctl/bmctl/power"
)

// The kinds of failure that cross the socket: a Backend wraps one of them, and
// the Client's error wraps the same one again.
var (
	// ErrNotFound: there is no machine with this id.
	ErrNotFound = errors.New("no such machine")
	// ErrRefused: the act is understood and not permitted now; nothing changed.
	ErrRefused = errors.New("refused")
	// ErrInvalid: the request itself is wrong.
	ErrInvalid = errors.New("invalid request")
	// ErrInCluster: the machine is in a cluster, and the request does not say that
	// this is meant.
	ErrInCluster = errors.New("in a cluster")
	// ErrNotYet: serve cannot say or do it now, and the same request may succeed
	// later: it waits for Omni, or the machine is being acted upon.
	ErrNotYet = errors.New("not yet")
)

// Now as a position in the events means: only what happens from now on.
const Now uint64 = math.MaxUint64

// Backend is what the Server shows to its clients. All methods are called
// concurrently, and none may wait for the network: they answer from what is
// known.
type Backend interface {
	// Machines returns the snapshot of all machines, sorted by id, or ErrNotYet
	// before Omni's list is complete: half a list would be taken for the whole.
	Machines() (MachineList, error)
	// Machine returns the machine of exactly this id, ErrNotFound, or ErrNotYet
	// before Omni's list is complete.
	Machine(id string) (Machine, error)
	// Health reports on serve itself.
	Health() Health
	// Events yields the events that are still kept and newer than since, then
	// waits for new ones, until ctx ends. Zero means all that are kept. A since
	// beyond the newest event comes from an earlier run of serve and means all
	// as well, except Now.
	Events(ctx context.Context, since uint64) iter.Seq[Event]
	// Release lifts the hold of a machine. The reason is the operator's and is
	// recorded together with who asked. It returns ErrNotFound, ErrNotYet, or
	// ErrRefused when the machine is not held.
	Release(ctx context.Context, id, reason string, by Peer) error
	// Power carries out a person's power act. It waits for the BMC, for as long as
	// ctx and a few minutes. It returns ErrNotFound, ErrInvalid, ErrRefused where
	// the machine must not be touched, ErrInCluster, ErrNotYet, or what the BMC said.
	Power(ctx context.Context, id string, act PowerRequest, by Peer) error
}

// Historian is a Backend that remembers events of earlier runs. The Server offers
// GET /v1/history for one alone.
type Historian interface {
	// History returns the events that match, the oldest first.
	History(query HistoryQuery) ([]Event, error)
}

// HistoryQuery narrows a history; zero fields do not.
type HistoryQuery struct {
	// Machine is a machine's id. Omni need not know the machine, or not any more.
	Machine string
	// Since leaves out what happened before.
	Since time.Time
}

// EventList is the answer about what happened.
type EventList struct {
	APIVersion string  `json:"apiVersion"`
	Kind       string  `json:"kind"` // "EventList"
	Items      []Event `json:"items"`
}

// PowerRequest is the body of POST /v1/machines/{id}/power.
type PowerRequest struct {
	// Action is on, off, soft, cycle, reset, nmi, or empty: the override alone.
	Action string `json:"action"`
	// Boot is pxe, disk, bios or none, set before the action; empty leaves it.
	Boot string `json:"boot,omitempty"`
	// Mode is uefi, bios or keep (also when empty).
	Mode       string `json:"mode,omitempty"`
	Persistent bool   `json:"persistent,omitempty"`
	// InCluster says that a machine in a cluster is meant.
	InCluster bool `json:"inCluster,omitempty"`
}

// Peer is the process at the other end of the socket, as the kernel tells it.
type Peer struct {
	// Known is false where the system does not tell; the rest is zero then.
	Known bool
	PID   int
	UID   int
	GID   int
}

// String returns "uid 1000, pid 4711", or "unknown".
func (p Peer) String() string {
	if !p.Known {
		return "unknown"
	}

	return fmt.Sprintf("uid %d, pid %d", p.UID, p.PID)
}

// MachineDocument is the answer about one machine.
type MachineDocument struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // "Machine"
	Machine
}

// NewMachineDocument puts the machine into its document.
func NewMachineDocument(machine Machine) MachineDocument {
	return MachineDocument{APIVersion: APIVersion, Kind: "Machine", Machine: machine}
}

// ReleaseRequest is the body of POST /v1/machines/{id}/release.
type ReleaseRequest struct {
	Reason string `json:"reason"` // must not be empty
}

// ErrorDocument is the body of every answer that is not a success.
type ErrorDocument struct {
	Error ErrorDetail `json:"error"`
}

// ErrorDetail says which kind of failure it was and what happened.
type ErrorDetail struct {
	Code    string `json:"code"` // not_found, refused, invalid, in_cluster, not_yet, internal, or bmc_ and a kind of package power
	Message string `json:"message"`
}

// wireKind ties a kind of failure to its code and HTTP status.
type wireKind struct {
	kind   error
	code   string
	status int
}

func wireKinds() []wireKind {
	return []wireKind{
		{ErrNotFound, "not_found", 404},
		{ErrRefused, "refused", 409},
		{ErrInvalid, "invalid", 400},
		{ErrInCluster, "in_cluster", 409},
		{ErrNotYet, "not_yet", 503},
		{power.ErrUnreachable, "bmc_unreachable", 502},
		{power.ErrAuth, "bmc_auth", 502},
		{power.ErrRefused, "bmc_refused", 502},
		{power.ErrBusy, "bmc_busy", 503},
		{power.ErrUnsupported, "bmc_unsupported", 501},
		{power.ErrAmbiguous, "bmc_ambiguous", 502},
	}
}
