//go:build linux

// Command guest is /init of the end-to-end test's machine: alone in an
// initramfs it does what Talos does in agent mode, on the machine's real
// devices. It loads the kernel modules that were packed with it, gets an
// address by DHCP and runs the agent, whose hardware is /dev/ipmi0 and the
// disk /dev/vda. All that it says goes to the console.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bmctl/bmctl/serve/lab/agentsim"
)

const (
	modules = "/modules" // in the order in which they are to be loaded
	disk    = "/dev/vda"
	nic     = "eth0"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))

	if err := run(context.Background(), log); err != nil {
		log.Error("the guest's init ends", "error", err)
	}

	// A kernel without its init panics, which would bury the line above. (An empty
	// select would end the process as a deadlock.)
	for {
		time.Sleep(time.Hour)
	}
}

func run(ctx context.Context, log *slog.Logger) error {
	if err := mountAll(); err != nil {
		return err
	}

	if err := loadModules(log); err != nil {
		return err
	}

	address, err := bringUp(ctx, nic)
	if err != nil {
		return err
	}

	log.Info("the guest has an address", "interface", nic, "address", address)

	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read kernel arguments: %w", err)
	}

	id, err := os.ReadFile("/sys/class/dmi/id/product_uuid")
	if err != nil {
		return fmt.Errorf("read machine id: %w", err)
	}

	bmc, err := openBMC(ctx)
	if err != nil {
		return err
	}

	log.Info("the guest has a BMC", "device", "/dev/ipmi0")

	agent := &agentsim.Agent{
		MachineID: strings.TrimSpace(string(id)),
		Args:      agentsim.ParseArgs(string(cmdline)),
		Hardware:  hardware{bmc: bmc},
		Log:       log,
	}

	return agent.Run(ctx)
}

func mountAll() error {
	for _, fs := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(fs.kind, fs.at, fs.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s at %s: %w", fs.kind, fs.at, err)
		}
	}

	return nil
}

// loadModules loads every module of the directory by its name's order, and
// waits for the devices that the drivers find.
func loadModules(log *slog.Logger) error {
	names, err := filepath.Glob(modules + "/*.ko") // sorted
	if err != nil {
		return fmt.Errorf("list modules: %w", err)
	}

	for _, name := range names {
		if err := loadModule(name); err != nil {
			return err
		}
	}

	log.Info("the guest loaded its modules", "modules", len(names))

	for _, device := range []string{disk, "/dev/ipmi0", "/sys/class/net/" + nic} {
		if err := waitFor(device, 30*time.Second); err != nil {
			return err
		}
	}

	return nil
}

func loadModule(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("load module: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read

	if err := unix.FinitModule(int(file.Fd()), "", 0); err != nil {
		return fmt.Errorf("load module %s: %w", name, err)
	}

	return nil
}

// waitFor polls for a file: devices appear when their driver has probed them,
// and the guest has no udev to say when.
func waitFor(name string, patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		_, err := os.Stat(name)
		if err == nil {
			return nil
		}

		if time.Now().After(deadline) {
			return fmt.Errorf("wait %s for a device: %w", patience, err)
		}
	}
}
