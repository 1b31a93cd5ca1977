//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// insideVar marks the process that runs in the namespaces of the test.
const insideVar = "BMCTL_E2E_INSIDE"

// TestMain starts this very program again as the first process of new network,
// process and mount namespaces. When it ends, however it ends, the kernel ends
// everything that it started, and the namespaces with all that is in them.
func TestMain(m *testing.M) {
	if os.Getenv(insideVar) != "" {
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			os.Exit(1)
		}

		os.Exit(m.Run())
	}

	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: needs root, for network namespaces; run serve/e2e/run.sh as root")
		os.Exit(1)
	}

	os.Exit(runInside())
}

func runInside() int {
	// The child dies with the thread that started it.
	runtime.LockOSThread()

	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), insideVar+"=1")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}

	var exit *exec.ExitError

	err := child.Run()
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}

	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: start in new namespaces:", err)

		return 1
	}

	return 0
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
