package localapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// ErrInUse: another process serves this socket.
var ErrInUse = errors.New("another process is serving there")

// socketMode lets the owner and the group in; connecting needs write permission.
const socketMode = 0o660

// maxSocketPath is what sun_path holds, less the terminating zero and the
// suffix of the name that the socket has before it is renamed.
const maxSocketPath = 107 - len(newSuffix)

const (
	newSuffix  = ".new"
	lockSuffix = ".lock"
)

// listen binds a unix socket at path with mode 0660 and, unless it is empty,
// the group. What a dead process left is replaced; a live one gives ErrInUse.
//
// Whether a process lives is told by a lock on path.lock, which the kernel
// releases with it. The socket gets its mode under another name and is then
// renamed, so at no moment is it open to others.
func listen(path, group string) (*socket, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket path %s is longer than %d bytes, the limit of the system", path, maxSocketPath)
	}

	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("directory of the socket: %w", err)
	}

	lock, err := lockFile(path + lockSuffix)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}

	listener, err := bind(path, group)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), lock.Close())
	}

	return &socket{UnixListener: listener, path: path, lock: lock}, nil
}

// socket is a listener that removes its file and gives up the lock when closed.
type socket struct {
	*net.UnixListener
	path string
	lock *os.File
}

// Close implements net.Listener. The lock goes last: until then nobody else
// takes the path.
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}

	return errors.Join(err, os.Remove(s.path), s.lock.Close())
}

func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}

	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrInUse
	}

	if err != nil {
		return nil, errors.Join(err, file.Close())
	}

	return file, nil
}

func bind(path, group string) (*net.UnixListener, error) {
	if err := replaceable(path); err != nil {
		return nil, err
	}

	fresh := path + newSuffix
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}

	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}

	listener.SetUnlinkOnClose(false) // it knows only the first name

	if err := publish(fresh, path, group); err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(fresh))
	}

	return listener, nil
}

// replaceable tells whether the path is free or holds a socket that nobody
// answers on. Any other file is not ours to remove.
func replaceable(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}

	if err != nil {
		return err
	}

	if info.Mode().Type() != os.ModeSocket {
		return errors.New("exists and is not a socket")
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()

	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}

	if err != nil {
		return err
	}

	return errors.Join(ErrInUse, conn.Close())
}

func publish(fresh, path, group string) error {
	if group != "" {
		found, err := user.LookupGroup(group)
		if err != nil {
			return err
		}

		gid, err := strconv.Atoi(found.Gid)
		if err != nil {
			return fmt.Errorf("group %s has no numeric id: %q", group, found.Gid)
		}

		if err := os.Chown(fresh, -1, gid); err != nil {
			return fmt.Errorf("group %s: %w", group, err)
		}
	}

	if err := os.Chmod(fresh, socketMode); err != nil {
		return err
	}

	return os.Rename(fresh, path)
}
