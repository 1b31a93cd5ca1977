// Package tui is the live view of the machines in a terminal.
//
// It shows a Source and knows nothing of where its machines come from. Its model
// is changed by Update alone, which is pure: the clock comes in as a message, and
// whatever waits (the Source, the clipboard, another program on the terminal)
// runs in a tea.Cmd. Text of the Source is made harmless when it comes in, and
// no line of View is wider than the screen.
package tui

import (
	"context"
	"iter"
	"os/exec"
	"time"
)

// Source is what the view shows and acts through. Snapshot, Events, Do and Run
// are called from several goroutines and may wait for the network; the others
// must answer at once.
type Source interface {
	// Snapshot returns all machines. The view calls it at every refresh and after
	// events.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Events yields what is still known to have happened and then goes on until
	// ctx ends. After an error, which ends it, it is called again and should go
	// on where it stopped.
	Events(ctx context.Context) iter.Seq2[Event, error]
	// Do carries out the verb on the machines and yields one result for each as
	// it comes. The person has confirmed it.
	Do(ctx context.Context, verb Verb, ids ...string) iter.Seq[Result]
	// Filter reads an expression; the empty one means all machines.
	Filter(expr string) (func(Row) bool, error)
	// Equivalent is the command line that does the same; empty: there is none.
	Equivalent(verb Verb, ids ...string) string
	// Run carries out a command line without the program's name and yields its
	// output line by line.
	Run(ctx context.Context, line string) iter.Seq[Result]
	// Console is the program that gets the terminal to show the machine's
	// console; nil: there is none, and Cannot says why. When it fails, what its
	// Stderr has is shown, if that is a fmt.Stringer.
	Console(id string) *exec.Cmd
}

// Snapshot is all that is known at one moment.
type Snapshot struct {
	// At is when it was true; zero: when it arrived.
	At     time.Time
	Rows   []Row
	Health Health
	// Cannot says of verbs that no machine can have at present why not.
	Cannot map[Verb]string
}

// Health is what is known of those who tell about the machines.
type Health struct {
	// Source is the one word for where the machines come from: serve, inventory.
	Source string
	// Omni names the Omni, and Serve the serve, as the top line shows them; empty:
	// not shown.
	Omni, Serve string
	// OmniDown is set while Omni does not answer; OmniSince since when, OmniError
	// why, OmniRetry when it is tried again (zero: not known).
	OmniDown  bool
	OmniSince time.Time
	OmniError string
	OmniRetry time.Time
	// Notice is a line for the person, such as which screens are empty and why.
	Notice string
}

// Row is one machine. Fields that are not known are empty.
type Row struct {
	ID, Name string
	// Power is on, off or anything else for unknown; PowerAt is when it was last
	// read, and LastPower what that gave.
	Power, LastPower string
	PowerAt          time.Time
	// Stage is how far its boot has come: discover, request, loader, script,
	// kernel, initrd, agent; empty: it does not boot.
	Stage string
	// Status is one of bmctl's status words, Reason is why it is that.
	Status, Reason string
	Cluster, Talos string
	// Role is what the machine is in its cluster, in words for people: "control
	// plane", "worker"; empty: not known.
	Role        string
	BMC         BMC
	LastEvent   string
	LastEventAt time.Time
	Labels      map[string]string

	Accepted, Cordoned, ReadyToUse, Installed bool

	Held, MAC, Address, Serial string
	FirstSeen, AgentSince      time.Time
	BootDecision, BootReason   string

	// Cannot says of verbs that this machine cannot have why not. It may be
	// shared by many rows and is only read.
	Cannot map[Verb]string
}

// BMC is a machine's controller.
type BMC struct {
	Protocol, Address string
	Latency           time.Duration // of the last reading; 0: not known
	Error             string
}

// Event is something that happened to a machine, or to serve itself when both
// MachineID and MAC are empty.
type Event struct {
	At             time.Time
	MachineID, MAC string
	// Type is a step of a boot as in Row.Stage, or ignored, power, wipe, held ...
	Type, Text string
	// Reason is why, in the words that the machine was told.
	Reason string

	// Of a step of a boot, as far as it tells: the address that asked, the NIC of
	// serve that heard it, the machine's architecture, the file that was offered or
	// sent, and how large it was and how long it took at the end of a transfer.
	Address, Interface, Arch, File string
	Bytes                          int64
	Duration                       time.Duration
	// Decision is what a script was answered: agent, talos, disk or wait.
	Decision string
}

// Result is what came of one machine of a Do, or one line of a Run.
type Result struct {
	ID   string
	Text string
	Err  error
}

// Verb is something to do to machines, spelt as on the command line.
type Verb string

// The verbs.
const (
	PowerOn    Verb = "power on"
	PowerOff   Verb = "power off"
	PowerSoft  Verb = "power soft"
	PowerCycle Verb = "power cycle"
	PowerReset Verb = "power reset"
	BootPXE    Verb = "boot pxe"
	BootDisk   Verb = "boot disk"
	BootBIOS   Verb = "boot bios"
	BootNone   Verb = "boot none"
	Accept     Verb = "accept"
	Reject     Verb = "reject"
	Cordon     Verb = "cordon"
	Uncordon   Verb = "uncordon"
	Console    Verb = "console"
)
