//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// insideVar marks a process that runs in the namespaces of one test.
const insideVar = "BMCTL_E2E_INSIDE"

// TestMain readies the namespaces of a process that apart has started.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: needs root, for network namespaces; run serve/e2e/run.sh as root")
		os.Exit(1)
	}

	if os.Getenv(insideVar) != "" {
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			os.Exit(1)
		}
	}

	os.Exit(m.Run())
}

// apart has a test run by itself, beside others, as the first process of new
// network, process and mount namespaces: it starts this very program again for
// that one test, says what it said and returns true. In there it returns false,
// and the test is to go on. When that process ends, however it ends, the kernel
// ends everything that it started, and the namespaces with all that is in them.
func apart(t *testing.T) bool {
	t.Helper()

	if os.Getenv(insideVar) != "" {
		return false
	}

	t.Parallel()
	// The child dies with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	name := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
	child := exec.Command("/proc/self/exe", "-test.run="+name, "-test.v", "-test.timeout="+patience(t).String())
	child.Env = append(os.Environ(), insideVar+"=1")
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}

	said, err := child.CombinedOutput()
	t.Logf("%s", said)

	if err != nil {
		t.Errorf("in namespaces of its own: %v", err)
	}

	return true
}

// patience is the time that is left for a test, with some to tell of its end.
func patience(t *testing.T) time.Duration {
	deadline, limited := t.Deadline()
	if !limited {
		return 0 // which is none
	}

	return max(time.Second, time.Until(deadline)-5*time.Second)
}

// settle keeps this process's mounts to itself and mounts what the namespaces
// need: a /proc that shows its own processes, and a place for the names of
// further network namespaces.
func settle() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}

	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}

	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return fmt.Errorf("make /run/netns: %w", err)
	}

	if err := syscall.Mount("netns", "/run/netns", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /run/netns: %w", err)
	}

	return nil
}
