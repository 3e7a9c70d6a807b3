package jobapi

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/job"
)

// maxSocketPath is what the kernel allows, with the final zero.
const maxSocketPath = 108

// SocketError says why there is no socket.
type SocketError struct {
	Path string
	Err  error
}

func (e *SocketError) Error() string { return fmt.Sprintf("job socket %s: %v", e.Path, e.Err) }

// Unwrap gives the cause.
func (e *SocketError) Unwrap() error { return e.Err }

// Code is NODE-053.
func (*SocketError) Code() string { return "NODE-053" }

// Hint says what to do next.
func (*SocketError) Hint() string {
	return "Name another place with job_socket in the configuration, or none to do without; no other plasmd may answer there."
}

// Listen opens the socket at path with mode 0660 for the group gid, -1 for the
// process's own. The socket has both before it has its name. One that nobody
// answers at is replaced; one that answers, or anything that is no socket, is a
// *SocketError. The folder must exist. The listener's Close removes the name.
func Listen(path string, gid int) (net.Listener, error) {
	l, err := listen(path, gid)
	if err != nil {
		return nil, &SocketError{path, err}
	}
	return l, nil
}

func listen(path string, gid int) (net.Listener, error) {
	if err := free(path); err != nil {
		return nil, err
	}
	// The folder's name is short, because the kernel bounds the path.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	temp := filepath.Join(dir, "s")
	if len(temp) >= maxSocketPath || len(path) >= maxSocketPath {
		return nil, fmt.Errorf("the path is longer than a socket's may be, %d bytes", maxSocketPath-20)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it would remove the name that the socket has no longer
	if gid >= 0 {
		err = os.Chown(temp, -1, gid)
	}
	if err == nil {
		err = os.Chmod(temp, 0o660)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return &namedListener{l, path}, nil
}

// free makes sure that nothing is lost by taking path.
func free(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return errors.New("something else is there")
	}
	c, err := net.DialTimeout("unix", path, 2*time.Second)
	if err == nil {
		c.Close()
		return errors.New("another plasmd answers there")
	}
	return nil
}

type namedListener struct {
	*net.UnixListener
	path string
}

// Close removes the socket's name first, so that nobody finds it dead.
func (l *namedListener) Close() error {
	err := os.Remove(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.UnixListener.Close())
}

// PeerCaller asks the kernel who has connected.
func PeerCaller(c net.Conn) (job.Caller, error) {
	unixConn, ok := c.(*net.UnixConn)
	if !ok {
		return job.Caller{}, errors.New("not a connection of this machine")
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return job.Caller{}, err
	}
	var peer *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return job.Caller{}, fmt.Errorf("who has connected: %w", err)
	}
	return job.Caller{
		Name:  fmt.Sprintf("local:%d", peer.Uid),
		Admin: peer.Uid == 0 || int(peer.Uid) == os.Geteuid(),
	}, nil
}
