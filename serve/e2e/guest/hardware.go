//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/types"
	"golang.org/x/sys/unix"
)

const (
	lanChannel  = 1
	firstUser   = 2 // user 1 is the null user (IPMI 2.0, 22.26)
	defaultPort = 623
	edge        = 1 << 20 // what a fast wipe takes at each end of a disk
)

// bmc is the machine's controller, seen from inside through the kernel's driver.
// It exchanges one message at a time.
type bmc struct {
	mu     sync.Mutex
	client *client.Client
}

func openBMC(ctx context.Context) (*bmc, error) {
	c, err := client.NewOpenClient()
	if err != nil {
		return nil, fmt.Errorf("open /dev/ipmi0: %w", err)
	}

	if err := c.Connect(ctx); err != nil {
		return nil, fmt.Errorf("open /dev/ipmi0: %w", err)
	}

	return &bmc{client: c}, nil
}

// hardware is the machine as agentsim.Hardware wants it.
type hardware struct{ bmc *bmc }

func (h hardware) IPMIAddress(ctx context.Context) (string, int, error) {
	h.bmc.mu.Lock()
	defer h.bmc.mu.Unlock()

	var (
		address types.LanConfigParam_IP
		port    types.LanConfigParam_PrimaryRMCPPort
	)

	if err := h.bmc.client.GetLanConfigParamFor(ctx, lanChannel, &address); err != nil {
		return "", 0, fmt.Errorf("read the BMC's address: %w", err)
	}

	// Parameter 8 is optional; controllers without it use the standard port.
	if err := h.bmc.client.GetLanConfigParamFor(ctx, lanChannel, &port); err != nil || port.Port == 0 {
		port.Port = defaultPort
	}

	return address.IP.String(), int(port.Port), nil
}

func (h hardware) UserExists(ctx context.Context, name string) (bool, error) {
	h.bmc.mu.Lock()
	defer h.bmc.mu.Unlock()

	_, exists, err := h.bmc.slot(ctx, name)

	return exists, err
}

func (h hardware) SetUser(ctx context.Context, name, password string) error {
	h.bmc.mu.Lock()
	defer h.bmc.mu.Unlock()

	slot, exists, err := h.bmc.slot(ctx, name)

	switch {
	case err != nil:
		return err
	case slot == 0:
		return fmt.Errorf("make BMC user %s: no free slot", name)
	}

	if !exists {
		if _, err := h.bmc.client.SetUsername(ctx, slot, name); err != nil {
			return fmt.Errorf("name BMC user %d %s: %w", slot, name, err)
		}
	}

	if _, err := h.bmc.client.SetUserPassword(ctx, slot, password, false); err != nil {
		return fmt.Errorf("set the password of BMC user %s: %w", name, err)
	}

	if _, err := h.bmc.client.SetUserAccess(ctx, &app.SetUserAccessRequest{
		EnableChanging: true, EnableIPMIMessaging: true, ChannelNumber: lanChannel,
		UserID: slot, MaxPrivLevel: uint8(types.PrivilegeLevelAdministrator),
	}); err != nil {
		return fmt.Errorf("give BMC user %s its rights: %w", name, err)
	}

	if err := h.bmc.client.EnableUser(ctx, slot); err != nil {
		return fmt.Errorf("enable BMC user %s: %w", name, err)
	}

	return nil
}

// slot finds the user's slot, or else the first free one, or 0.
func (b *bmc) slot(ctx context.Context, name string) (slot uint8, exists bool, err error) {
	access, err := b.client.GetUserAccess(ctx, lanChannel, firstUser)
	if err != nil {
		return 0, false, fmt.Errorf("count the BMC's users: %w", err)
	}

	for id := uint8(firstUser); id <= access.MaxUsersIDCount; id++ {
		// Many controllers answer for an empty slot with an error (CCh).
		user, err := b.client.GetUsername(ctx, id)

		switch {
		case err == nil && user.Username == name:
			return id, true, nil
		case slot == 0 && (err != nil || strings.TrimSpace(user.Username) == ""):
			slot = id
		}
	}

	return slot, false, nil
}

func (h hardware) Wipe(ctx context.Context, zeroes bool) error {
	file, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("wipe: %w", err)
	}
	defer file.Close() //nolint:errcheck // synced below

	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("wipe %s: %w", disk, err)
	}

	step := max(size-edge, edge) // from the first MiB to the last
	if zeroes {
		step = edge
	}

	for at := int64(0); at < size; at += step {
		if ctx.Err() != nil {
			return fmt.Errorf("wipe %s: %w", disk, ctx.Err())
		}

		if _, err := file.WriteAt(make([]byte, min(edge, size-at)), at); err != nil {
			return fmt.Errorf("wipe %s: %w", disk, err)
		}
	}

	return errors.Join(file.Sync(), file.Close())
}

func (hardware) Reboot(context.Context) error {
	unix.Sync()

	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
