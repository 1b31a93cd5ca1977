package localapi

import (
	"net"
	"syscall"
)

// peerOf asks the kernel who connected (SO_PEERCRED, unix(7)): the credentials
// at the time of connect, which the peer cannot forge.
func peerOf(conn net.Conn) Peer {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}
	}

	raw, err := unixConn.SyscallConn()
	if err != nil {
		return Peer{}
	}

	var (
		cred    *syscall.Ucred
		credErr error
	)

	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return Peer{}
	}

	return Peer{Known: true, PID: int(cred.Pid), UID: int(cred.Uid), GID: int(cred.Gid)}
}
