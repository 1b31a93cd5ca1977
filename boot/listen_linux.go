package boot

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// receiveBuffer holds the packets of a rack that is switched on at once: the
// usual 200 KiB are a few hundred, and what does not fit is lost.
const receiveBuffer = 4 << 20

// listenUDP binds a UDP socket, to one network device only unless device is
// empty: a broadcast on another one is then never seen.
func listenUDP(ctx context.Context, address, device string) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) {
			if device != "" {
				err = os.NewSyscallError("setsockopt SO_BINDTODEVICE "+device, syscall.BindToDevice(int(fd), device))
			}
			// A larger buffer than the system's maximum takes a right of root's; what
			// can be had without it is asked for first. Neither is needed to work.
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, receiveBuffer)
		})
		if controlErr != nil {
			return controlErr
		}
		return err
	}}
	return config.ListenPacket(ctx, "udp4", address)
}

// holder names the process that listens on a port of udp or tcp, as "dnsmasq (pid
// 812)", or returns "" when that cannot be found out, which takes the rights over
// it.
func holder(network string, port int) string {
	inode := inodeOf(network, port)
	if inode == "" {
		return ""
	}
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, path := range descriptors {
		if target, err := os.Readlink(path); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		pid := strings.Split(path, "/")[2]
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
	}
	return ""
}

// listening is the state of a TCP socket that takes connections; the connections
// themselves have its port too (TCP_LISTEN in include/net/tcp_states.h).
const listening = "0A"

// inodeOf looks a port up in /proc/net: the second field is the local address in
// hexadecimal, the fourth the state, the tenth the inode (proc(5)).
func inodeOf(network string, port int) string {
	for _, path := range []string{"/proc/net/" + network, "/proc/net/" + network + "6"} {
		table, _ := os.ReadFile(path)
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || network == "tcp" && fields[3] != listening {
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
				return fields[9]
			}
		}
	}
	return ""
}
