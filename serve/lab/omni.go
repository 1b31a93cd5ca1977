package lab

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/bmctl/bmctl/serve/omnisim"
)

// Omni is the stand-in for Omni, with the user's side as methods. After a restart
// it is another one.
func (l *Lab) Omni() *omnisim.Server {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.omni
}

// Endpoint is Omni's URL.
func (l *Lab) Endpoint() string { return l.Omni().Endpoint() }

// OmniDir is where Omni keeps its state: what a backup of it holds.
func (l *Lab) OmniDir() string { return filepath.Join(l.cfg.Dir, "omni") }

// StopOmni ends Omni. What it keeps in memory alone is lost, and its methods fail
// until StartOmni.
func (l *Lab) StopOmni() error { return l.Omni().Close() }

// StartOmni starts Omni, at the address that it had before.
func (l *Lab) StartOmni() error {
	cfg := omnisim.Config{Dir: l.OmniDir(), Log: l.log.With("component", "omni"), Shutdown: l.shutdown}

	if before := l.Omni(); before != nil {
		cfg.Listen = strings.TrimPrefix(before.Endpoint(), "http://")
	}

	started, err := omnisim.Start(cfg)
	if err != nil {
		return fmt.Errorf("omni: %w", err)
	}

	l.mu.Lock()
	l.omni = started
	l.mu.Unlock()

	return nil
}

// shutdown is Omni asking the operating system of a machine to power off.
func (l *Lab) shutdown(id string) {
	for _, m := range l.machines {
		if m.UUID == id {
			go m.BMC.Shutdown()
		}
	}
}
