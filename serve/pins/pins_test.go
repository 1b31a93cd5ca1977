package pins_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/pins"
)

const machine = "33313750-3032-5a43-4a38-303930433631"

// controller is the BMC of the machine; each one made has a certificate of its own.
func controller(t *testing.T) power.Target {
	t.Helper()

	_, target := bmctest.Simulated(t, bmcsim.Config{UUID: machine, IPMIPort: bmcsim.PortOff})
	target.Protocol = power.ProtocolRedfish

	return target
}

// notices collects events.
type notices struct {
	mu  sync.Mutex
	all []localapi.Event
}

func (n *notices) add(e localapi.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.all = append(n.all, e)
}

// want takes the events that there are, which must have these texts.
func (n *notices) want(t *testing.T, texts ...string) {
	t.Helper()

	n.mu.Lock()
	defer n.mu.Unlock()

	var got []string

	for _, e := range n.all {
		got = append(got, e.Text)

		if e.MachineID != machine || e.Type != pins.TypeCertificate || e.At.IsZero() || strings.Count(e.Reason, "sha256:") != 2 {
			t.Errorf("event %+v", e)
		}
	}

	if fmt.Sprint(got) != fmt.Sprint(texts) {
		t.Errorf("events %q, want %q", got, texts)
	}

	n.all = nil
}

func openPins(t *testing.T, cfg pins.Config) *pins.Store {
	t.Helper()

	s, err := pins.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}

	return s
}

// ask reads the power state, with a handshake of its own.
func ask(t *testing.T, s *pins.Store, target power.Target) error {
	t.Helper()

	return askUnder(t, x509.NewCertPool(), s, target)
}

// askUnder is ask, with authorities.
func askUnder(t *testing.T, roots *x509.CertPool, s *pins.Store, target power.Target) error {
	t.Helper()

	bmc := bmctest.Open(t, power.NewDialer(power.Options{CheckCertificate: s.Check, Roots: roots}), target)
	_, err := bmc.State(bmctest.Context(t))

	return errors.Join(err, bmc.Close())
}

func accepted(t *testing.T, s *pins.Store, targets ...power.Target) {
	t.Helper()

	for _, target := range targets {
		if err := ask(t, s, target); err != nil {
			t.Error(err)
		}
	}
}

const (
	textAccepted = "BMC 127.0.0.1 shows another certificate, accepted"
	textRefused  = "BMC 127.0.0.1 shows another certificate, refused"
)

func TestChangeIsToldOnceAndAccepted(t *testing.T) {
	t.Parallel()

	var told notices

	s := openPins(t, pins.Config{Notice: told.add})
	first, second := controller(t), controller(t)

	accepted(t, s, first, first)
	told.want(t)
	accepted(t, s, second, second)
	told.want(t, textAccepted)
	accepted(t, s, first)
	told.want(t, textAccepted)
}

func TestChangeIsRefusedWhereThePinIsEnforced(t *testing.T) {
	t.Parallel()

	var told notices

	first, second := controller(t), controller(t)
	s := openPins(t, pins.Config{Dir: pinned(t, first), Enforce: true, Notice: told.add})

	accepted(t, s, first)

	for range 2 {
		bmctest.WantKind(t, ask(t, s, second), second, power.ErrAuth)
	}

	told.want(t, textRefused)
	accepted(t, s, first)
	bmctest.WantKind(t, ask(t, s, second), second, power.ErrAuth)
	told.want(t, textRefused)
}

// The pin of the inventory comes before what was seen first.
func TestPinOfTheInventory(t *testing.T) {
	t.Parallel()

	first, second := controller(t), controller(t)
	s := openPins(t, pins.Config{Dir: pinned(t, first), Enforce: true})

	second.Pin = fingerprint(t, second)
	accepted(t, s, second)

	second.Pin = "sha256:" + strings.Repeat("0", 64)
	bmctest.WantKind(t, ask(t, s, second), second, power.ErrAuth)
}

func fingerprint(t *testing.T, target power.Target) string {
	t.Helper()

	return power.Fingerprint(bmctest.Certificate(t, target))
}

// A certificate that an authority vouches for may follow another one.
func TestVerifiedCertificateMayChange(t *testing.T) {
	t.Parallel()

	var told notices

	first, vouchedFor := controller(t), controller(t)
	s := openPins(t, pins.Config{Dir: pinned(t, first), Enforce: true, Notice: told.add})
	roots := x509.NewCertPool()
	roots.AddCert(bmctest.Certificate(t, vouchedFor))

	for _, target := range []power.Target{first, vouchedFor} {
		if err := askUnder(t, roots, s, target); err != nil {
			t.Error(err)
		}
	}

	told.want(t, textAccepted)
	bmctest.WantKind(t, askUnder(t, roots, s, first), first, power.ErrAuth)
	told.want(t, textRefused)
}

// pinned is a directory in which a run before has pinned the target's certificate.
func pinned(t *testing.T, target power.Target) (dir string) {
	t.Helper()

	dir = t.TempDir()
	s := openPins(t, pins.Config{Dir: dir})
	accepted(t, s, target)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Run(ctx) // writes what is left to write

	return dir
}

// The first certificate is no better than any other where pins are enforced.
func TestUnknownCertificateIsRefusedWherePinsAreEnforced(t *testing.T) {
	t.Parallel()

	var told []localapi.Event

	s := openPins(t, pins.Config{Enforce: true, Notice: func(e localapi.Event) { told = append(told, e) }})
	target := controller(t)

	for range 2 {
		err := ask(t, s, target)
		bmctest.WantKind(t, err, target, power.ErrAuth)

		if err != nil && !strings.Contains(err.Error(), fingerprint(t, target)) {
			t.Errorf("nobody can look whether it is the right one: %v", err)
		}
	}

	if len(told) != 1 || told[0].Text != "BMC 127.0.0.1 shows an unknown certificate, refused" {
		t.Errorf("events %+v", told)
	}
}

func TestPinsOutliveARestart(t *testing.T) {
	t.Parallel()

	first, second := controller(t), controller(t)
	dir := pinned(t, first)
	path := filepath.Join(dir, pins.File)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want a file for its owner alone", info, err)
	}

	var file map[string]struct{ Fingerprint, Address string }

	raw, err := os.ReadFile(path)
	if err := errors.Join(err, json.Unmarshal(raw, &file)); err != nil || file[machine].Fingerprint != fingerprint(t, first) ||
		file[machine].Address != first.Address || len(file) != 1 {
		t.Errorf("%v: %s", err, raw)
	}

	s := openPins(t, pins.Config{Dir: dir, Enforce: true})
	accepted(t, s, first)
	bmctest.WantKind(t, ask(t, s, second), second, power.ErrAuth)

	// As operators are told to do after they have changed it themselves.
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}

	accepted(t, openPins(t, pins.Config{Dir: dir}), second)
}

func TestDamagedFileIsNotTakenForNone(t *testing.T) {
	t.Parallel()

	for name, content := range map[string]string{"cut off": `{"a":`, "empty": "", "a list": "[]"} {
		dir := t.TempDir()
		path := filepath.Join(dir, pins.File)

		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}

		if _, err := pins.Open(pins.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want an error that names the file", name, err)
		}

		if left, err := os.ReadFile(path); err != nil || string(left) != content {
			t.Errorf("%s: %v: the file has become %q", name, err, left)
		}
	}
}

// lines gives what is logged to whoever waits for it.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)

	return len(p), nil
}

// A full disk is a warning, once, and the certificates are held against the
// pins all the same.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()

	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4k,nr_inodes=4")
	if errors.Is(err, syscall.EPERM) {
		t.Skip("a small disk is a mount, which only root may make")
	}

	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})

	if err := os.WriteFile(filepath.Join(dir, "else"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}

	var told notices

	logged := make(lines, 16)
	s := openPins(t, pins.Config{Dir: dir, Notice: told.add, Log: slog.New(slog.NewTextHandler(logged, nil))})
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())

	go func() { s.Run(ctx); close(done) }()

	first, second := controller(t), controller(t)
	accepted(t, s, first)

	if line := <-logged; !strings.Contains(line, "level=WARN") || !strings.Contains(line, "no space left on device") {
		t.Errorf("logged %s", line)
	}

	accepted(t, s, second)
	told.want(t, textAccepted)

	if line := <-logged; !strings.Contains(line, "another certificate, accepted") {
		t.Errorf("logged %s", line)
	}

	if err := os.Remove(filepath.Join(dir, "else")); err != nil {
		t.Fatal(err)
	}

	accepted(t, s, first)

	if both := <-logged + <-logged; !strings.Contains(both, "kept again") || !strings.Contains(both, "another certificate") {
		t.Errorf("logged %s; want that they are kept again, and that it changed back", both)
	}

	cancel()
	<-done

	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 || filepath.Base(left[0]) != pins.File {
		t.Errorf("%v: the directory holds %v", err, left)
	}
}
