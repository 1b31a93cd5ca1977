package controllers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// store keeps on disk what a restart needs before Omni has answered, and who we
// are. No secret and no truth is in it: without it machines wait a moment longer.
type store struct {
	path string // empty: memory only

	// writing is held by whoever writes the file. Those who wait for it find most
	// often that their change was written along: many changes cost two writes.
	writing sync.Mutex

	mu   sync.Mutex
	data stored
	// version counts the changes of data, saved is the one on disk.
	version, saved uint64
}

type stored struct {
	// Holder is who we are, for the lease.
	Holder string `json:"holder"`
	// Heartbeats are the last that we sent, or were about to when we were killed:
	// a restart does not take them for another provider's.
	Heartbeats []time.Time `json:"heartbeats,omitempty"`
	// Machines is the snapshot, by id.
	Machines map[string]storedMachine `json:"machines"`
}

// storedMachine is what is kept of one machine.
type storedMachine struct {
	Installed bool      `json:"installed"`
	Serial    string    `json:"serial,omitempty"` // as first seen
	Vendor    string    `json:"vendor,omitempty"` // of the system, as its firmware told last
	Model     string    `json:"model,omitempty"`
	Distrust  string    `json:"distrust,omitempty"` // why its id may be shared by two boards
	Address   string    `json:"address,omitempty"`  // that asked for its script last
	FirstSeen time.Time `json:"firstSeen,omitzero"`
}

// StateFile is the file in Config.StateDir that a restart reads.
const StateFile = "state.json"

func openStore(dir string) (*store, error) {
	s := &store{data: stored{Machines: map[string]storedMachine{}}}

	if dir != "" {
		s.path = filepath.Join(dir, StateFile)
	}

	if err := s.load(); err != nil {
		return nil, err
	}

	if s.data.Holder == "" {
		s.data.Holder = uuid.NewString()
	}

	s.version++

	return s, s.save()
}

// load reads the file; one that is damaged is put aside, as it holds nothing
// that cannot be found out again.
func (s *store) load() error {
	if s.path == "" {
		return nil
	}

	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	if err != nil {
		return fmt.Errorf("read the state of the last run: %w", err)
	}

	if json.Unmarshal(raw, &s.data) != nil || s.data.Machines == nil {
		s.data = stored{Machines: map[string]storedMachine{}}

		return os.Rename(s.path, s.path+".damaged")
	}

	return nil
}

// save returns when everything that was changed before is on disk. The file is
// written as a whole or not at all.
func (s *store) save() error {
	if s.path == "" {
		return nil
	}

	version, current := s.versions()
	if current {
		return nil
	}

	s.writing.Lock()
	defer s.writing.Unlock()

	s.mu.Lock()

	if s.saved >= version {
		s.mu.Unlock()

		return nil
	}

	version = s.version
	raw, err := json.Marshal(s.data)
	s.mu.Unlock()

	if err != nil {
		return fmt.Errorf("keep the state of this run: %w", err)
	}

	if err := s.write(raw); err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	s.saved = version

	return nil
}

func (s *store) versions() (version uint64, saved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.version, s.saved == s.version
}

func (s *store) write(raw []byte) error {
	next := s.path + ".new"
	if err := os.WriteFile(next, raw, 0o600); err != nil {
		return fmt.Errorf("keep the state of this run: %w", err)
	}

	if err := os.Rename(next, s.path); err != nil {
		return fmt.Errorf("keep the state of this run: %w", err)
	}

	return nil
}

// run saves changes every second until ctx ends, and once more then.
func (s *store) run(ctx context.Context, log *slog.Logger) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}

		s.saveOrSay(log)
	}
}

func (s *store) saveOrSay(log *slog.Logger) {
	if err := s.save(); err != nil {
		log.Warn("state is not kept over a restart", "error", err)
	}
}

// note notes whether a machine is installed.
func (s *store) note(id string, installed bool) {
	s.change(id, func(m *storedMachine) { m.Installed = installed })
}

// change changes what is kept of a machine.
func (s *store) change(id string, change func(*storedMachine)) storedMachine {
	s.mu.Lock()
	defer s.mu.Unlock()

	before, known := s.data.Machines[id]
	after := before
	change(&after)

	if !known || after != before {
		s.data.Machines[id] = after
		s.version++
	}

	return after
}

func (s *store) machine(id string) storedMachine {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.data.Machines[id]
}

// seen notes a machine's board and returns why the machine is not to be trusted:
// the first reason stays until the operator lifts it. What is new is on disk when
// seen returns.
func (s *store) seen(id string, b bootState, serial string) (distrust string, err error) {
	kept := s.change(id, func(m *storedMachine) {
		m.Serial = cmp.Or(m.Serial, b.serial)
		m.Vendor, m.Model = cmp.Or(b.vendor, m.Vendor), cmp.Or(b.model, m.Model)
		m.Address = b.addr

		if m.FirstSeen.IsZero() {
			m.FirstSeen = b.firstSeen
		}

		if m.Distrust == "" && serial != "" && m.Serial != "" && serial != m.Serial {
			m.Distrust = "its id is reported by boards with the serial numbers " + m.Serial + " and " + serial
		}
	})

	return kept.Distrust, s.save()
}

// forget drops a machine that is no more.
func (s *store) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if _, kept := s.data.Machines[id]; kept {
		delete(s.data.Machines, id)
		s.version++
	}
}

func (s *store) holder() string {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.data.Holder
}

// ownHeartbeat tells whether we, or our last run, sent the heartbeat.
func (s *store) ownHeartbeat(at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	return slices.ContainsFunc(s.data.Heartbeats, at.Equal)
}

// beat notes a heartbeat on disk before it is sent.
func (s *store) beat(at time.Time) error {
	const kept = 4

	s.mu.Lock()
	s.data.Heartbeats = append(s.data.Heartbeats, at)
	s.data.Heartbeats = s.data.Heartbeats[max(0, len(s.data.Heartbeats)-kept):]
	s.version++
	s.mu.Unlock()

	return s.save()
}

// trust takes the board with this serial number for the right one of the id.
func (s *store) trust(id, serial string) error {
	s.change(id, func(m *storedMachine) { m.Serial, m.Distrust = serial, "" })

	return s.save()
}
