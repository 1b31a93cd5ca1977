// Package pins remembers the certificate that each BMC showed first. BMCs sign
// their own, so no authority vouches for them; that it is still the same one is
// what can be known (trust on first use).
package pins

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
)

// File is the name of the file in the state directory.
const File = "pins.json"

// TypeCertificate is the type of the events of this package.
const TypeCertificate = "certificate"

// saveAgain is how long a file that could not be written waits for another try.
const saveAgain = time.Minute

// Config says where the pins are and what they are for.
type Config struct {
	// Dir is an existing directory; empty: pins last as long as the process.
	Dir string
	// Enforce refuses a certificate that is neither the pinned one nor vouched for
	// by an authority, also the first. Without it any first one is pinned, and
	// another one is told and pinned from then on.
	Enforce bool
	// Log receives failures to write, and what Notice does; nil discards.
	Log *slog.Logger
	// Notice, unless nil, is told with an event of every certificate that changed,
	// once. It must not wait.
	Notice func(localapi.Event)
}

// Store holds the pins. Its methods are safe for concurrent use.
type Store struct {
	cfg   Config
	fresh chan struct{} // there is something to write

	mu      sync.Mutex
	dirty   bool // the file holds something else
	pins    map[string]pin
	refused map[string]string // the fingerprint that was refused and told last
}

// pin is what is kept of one BMC. The file is an object of them, by machine id.
type pin struct {
	// Fingerprint is as power.Fingerprint writes it.
	Fingerprint string `json:"fingerprint"`
	// Since is when the certificate was pinned.
	Since time.Time `json:"since"`
	// Address is where the BMC was then, for people who read the file.
	Address string `json:"address"`
}

// Open reads the pins of earlier runs. A file that cannot be read as such is an
// error: it was edited by hand, and to begin anew would trust anybody.
func Open(cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}

	if cfg.Notice == nil {
		cfg.Notice = func(localapi.Event) {}
	}

	s := &Store{cfg: cfg, fresh: make(chan struct{}, 1), pins: map[string]pin{}, refused: map[string]string{}}
	if cfg.Dir == "" {
		return s, nil
	}

	raw, err := os.ReadFile(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}

	if err == nil {
		err = json.Unmarshal(raw, &s.pins)
	}

	if err != nil {
		return nil, fmt.Errorf("the BMCs' certificates in %s: %w; mend the file, or remove it to pin them anew", s.path(), err)
	}

	if s.pins == nil { // the file says null
		s.pins = map[string]pin{}
	}

	return s, nil
}

func (s *Store) path() string { return filepath.Join(s.cfg.Dir, File) }

// Check is power.Options.CheckCertificate: it pins the first certificate of a
// BMC, accepts the pinned one, and tells of another one. Verified is nil where
// an authority vouches for the certificate. An error names the fingerprint.
func (s *Store) Check(target power.Target, certificate *x509.Certificate, verified error) error {
	key := strings.ToLower(target.UUID)
	if key == "" {
		key = target.Address
	}

	now := pin{Fingerprint: power.Fingerprint(certificate), Since: time.Now().UTC().Truncate(time.Second), Address: target.Address}
	before, verdict := s.judge(key, now, s.cfg.Enforce && verified != nil)

	what, text := "another certificate", fmt.Sprintf("it is %s; pinned on %s was %s", now.Fingerprint, before.Since.Format(time.DateOnly), before.Fingerprint)
	if before.Fingerprint == "" {
		what, text = "an unknown certificate", fmt.Sprintf("it is %s, not pinned, and no authority vouches for it: %v", now.Fingerprint, verified)
	}

	switch verdict {
	case same:
		return nil
	case changed:
		s.tell(target, what+", accepted", text)

		return nil
	case refused:
		s.tell(target, what+", refused", text)
	case refusedAgain:
	}

	return errors.New(text)
}

// verdict is what is thought of a certificate.
type verdict int

const (
	same         verdict = iota // or the first
	changed                     // and accepted, and pinned from now on
	refused                     // for the first time
	refusedAgain                // and told before
)

// judge compares with the pin that there is, and pins what is accepted.
func (s *Store) judge(key string, now pin, strict bool) (before pin, _ verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()

	before, known := s.pins[key]
	told := s.refused[key]
	delete(s.refused, key)

	switch {
	case known && strings.EqualFold(before.Fingerprint, now.Fingerprint):
		return before, same
	case strict:
		s.refused[key] = now.Fingerprint
		if told == now.Fingerprint {
			return before, refusedAgain
		}

		return before, refused
	}

	s.pins[key], s.dirty = now, true

	select {
	case s.fresh <- struct{}{}:
	default: // it will be written as it is
	}

	if known {
		return before, changed
	}

	return before, same
}

func (s *Store) tell(target power.Target, what, reason string) {
	s.cfg.Log.Warn("a BMC shows "+what, "machine_id", target.UUID, "bmc", target.Address, "reason", reason)
	s.cfg.Notice(localapi.Event{
		At: time.Now(), MachineID: target.UUID, Type: TypeCertificate, Text: "BMC " + target.Address + " shows " + what, Reason: reason,
	})
}

// Run writes the pins as they come, until ctx ends, and those that are left then.
// A file that cannot be written, as on a full disk, is a warning, and tried again.
func (s *Store) Run(ctx context.Context) {
	var (
		again   <-chan time.Time
		failing bool
	)

	for ended := false; !ended; {
		select {
		case <-s.fresh:
		case <-again:
		case <-ctx.Done():
			ended = true
		}

		err := s.save()

		switch {
		case err != nil:
			again = time.After(saveAgain)

			if !failing {
				s.cfg.Log.Warn("the BMCs' certificates are not kept over a restart", "error", err)
			}
		case failing:
			s.cfg.Log.Info("the BMCs' certificates are kept again")
		}

		failing = err != nil
	}
}

// save writes the file, where it is not as it should be, as a whole or not at all.
func (s *Store) save() error {
	s.mu.Lock()
	dirty, pins := s.dirty, maps.Clone(s.pins)
	s.dirty = false
	s.mu.Unlock()

	if !dirty || s.cfg.Dir == "" {
		return nil
	}

	raw, err := json.MarshalIndent(pins, "", "  ")
	if err == nil {
		err = replace(s.path(), append(raw, '\n'))
	}

	if err != nil {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
	}

	return err
}

// replace puts a file with this content, for its owner alone, in the place of
// the one that is there.
func replace(path string, content []byte) error {
	fresh, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}

	_, err = fresh.Write(content)
	err = errors.Join(err, fresh.Sync(), fresh.Close())

	if err == nil {
		err = os.Rename(fresh.Name(), path)
	}

	if err != nil {
		return errors.Join(err, os.Remove(fresh.Name()))
	}

	return nil
}
