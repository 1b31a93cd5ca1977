package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bmctl/bmctl/serve/lab"
)

const (
	labEnvFile  = "env"
	labLockFile = ".lock"
)

// labPlace is the directory of a running lab.
type labPlace struct {
	dir  string
	keep bool
	lock *os.File // held while the lab runs; nil: nobody else knows the place
}

// labPlace makes the directory. A lab for a command has one of its own, so many
// can run side by side. The other is where bmctl lab env looks: one at a time.
func (a *app) labPlace(keep string, forCommand bool) (*labPlace, error) {
	switch {
	case keep != "":
		return keptPlace(keep)
	case forCommand:
		dir, err := os.MkdirTemp(cmp.Or(a.env("TMPDIR"), "/tmp"), "bmctl-lab-")

		return &labPlace{dir: dir}, err
	default:
		return sharedPlace(a.labDir())
	}
}

func keptPlace(dir string) (*labPlace, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}

	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, err
	}

	entries, err := os.ReadDir(abs)
	if err != nil {
		return nil, err
	}

	if len(entries) > 0 {
		return nil, usagef("--keep %s: the directory is not empty", dir)
	}

	return &labPlace{dir: abs, keep: true}, nil
}

// sharedPlace takes over what a lab that was killed left behind. The path can be
// guessed, so the directory must be ours alone.
func sharedPlace(dir string) (*labPlace, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}

	info, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}

	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm() != 0o700 || !ok || int(owner.Uid) != os.Getuid() {
		return nil, failf(codeRefused, "bmctl lab --keep DIR", "%s is not a directory of yours alone", dir)
	}

	lock, err := os.OpenFile(filepath.Join(dir, labLockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}

	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(failf(codeRefused, "bmctl lab --keep DIR for a second one", "a lab runs in %s already", dir), lock.Close())
	}

	p := &labPlace{dir: dir, lock: lock}

	return p, p.clear()
}

// clear removes everything but the lock.
func (p *labPlace) clear() error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}

	var errs []error

	for _, entry := range entries {
		if entry.Name() != labLockFile {
			errs = append(errs, os.RemoveAll(filepath.Join(p.dir, entry.Name())))
		}
	}

	return errors.Join(errs...)
}

// write leaves the environment where bmctl lab env finds it. It holds the key of
// the lab's operator.
func (p *labPlace) write(variables []lab.Variable) error {
	var text strings.Builder
	for _, v := range variables {
		fmt.Fprintf(&text, "%s=%s\n", v.Name, v.Value)
	}

	return os.WriteFile(filepath.Join(p.dir, labEnvFile), []byte(text.String()), 0o600)
}

// leave removes the directory, unless it is kept: then only the environment,
// which is no longer true.
func (p *labPlace) leave() error {
	if p.keep {
		err := os.Remove(filepath.Join(p.dir, labEnvFile))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}

		return err
	}

	if p.lock == nil {
		return os.RemoveAll(p.dir)
	}

	return errors.Join(p.clear(), p.lock.Close()) // the directory stays, for its lock
}
