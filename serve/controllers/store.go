package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
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

	mu    sync.Mutex
	dirty bool
	data  stored
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
	Serial    string    `json:"serial,omitempty"`   // as first seen
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

	s.dirty = true

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

// save writes the file as a whole or not at all.
func (s *store) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.path == "" || !s.dirty {
		return nil
	}

	raw, err := json.MarshalIndent(s.data, "", "  ")
	if err != nil {
		return err
	}

	next := s.path + ".new"
	if err := os.WriteFile(next, raw, 0o600); err != nil {
		return fmt.Errorf("keep the state of this run: %w", err)
	}

	if err := os.Rename(next, s.path); err != nil {
		return fmt.Errorf("keep the state of this run: %w", err)
	}

	s.dirty = false

	return nil
}

// run saves changes every second until ctx ends, and once more then.
func (s *store) run(ctx context.Context, c *Controller) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}

		s.snapshot(c)
		s.saveOrSay(c.log)
	}
}

func (s *store) saveOrSay(log *slog.Logger) {
	if err := s.save(); err != nil {
		log.Warn("state is not kept over a restart", "error", err)
	}
}

// snapshot notes which machines are installed, once that is known.
func (s *store) snapshot(c *Controller) {
	if !c.known.Complete() {
		return
	}

	next := map[string]bool{}

	for _, id := range c.known.IDs() {
		m := c.known.Machine(id)
		if m.Infra != nil {
			next[id] = m.facts().Installed()
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	before := maps.Clone(s.data.Machines)

	for id, installed := range next {
		kept := s.data.Machines[id]
		kept.Installed = installed
		s.data.Machines[id] = kept
	}

	s.dirty = s.dirty || !maps.Equal(before, s.data.Machines)
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
	s.mu.Lock()

	kept := s.data.Machines[id]
	before := kept

	if kept.Serial == "" {
		kept.Serial = b.serial
	}

	if kept.FirstSeen.IsZero() {
		kept.FirstSeen = b.firstSeen
	}

	if kept.Distrust == "" && serial != "" && kept.Serial != "" && serial != kept.Serial {
		kept.Distrust = "its id is reported by boards with the serial numbers " + kept.Serial + " and " + serial
	}

	kept.Address = b.addr
	s.data.Machines[id] = kept
	s.dirty = s.dirty || kept != before
	s.mu.Unlock()

	return kept.Distrust, s.save()
}

// forget drops a machine that is no more.
func (s *store) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if _, kept := s.data.Machines[id]; kept {
		delete(s.data.Machines, id)
		s.dirty = true
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
	s.dirty = true
	s.mu.Unlock()

	return s.save()
}

// trust takes the board with this serial number for the right one of the id.
func (s *store) trust(id, serial string) error {
	s.mu.Lock()

	kept := s.data.Machines[id]
	kept.Serial, kept.Distrust = serial, ""
	s.data.Machines[id] = kept
	s.dirty = true
	s.mu.Unlock()

	return s.save()
}
