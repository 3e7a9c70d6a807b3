//go:build unix

package vm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// link is a connected socket: ours, and the end that QEMU inherits.
type link struct {
	conn  net.Conn
	child *os.File
}

func newLink(name string) (link, error) {
	// No other thread may fork between socketpair and close-on-exec.
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return link{}, fmt.Errorf("socket for %s: %w", name, err)
	}
	ours, child := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	conn, err := net.FileConn(ours) // duplicates the descriptor
	err = errors.Join(err, ours.Close())
	if err != nil {
		return link{}, errors.Join(fmt.Errorf("socket for %s: %w", name, err), child.Close())
	}
	return link{conn: conn, child: child}, nil
}

func newLinks(names ...string) ([]link, error) {
	var links []link
	for _, name := range names {
		l, err := newLink(name)
		if err != nil {
			for _, l := range links {
				err = errors.Join(err, l.child.Close())
			}
			return nil, errors.Join(err, closeLinks(links))
		}
		links = append(links, l)
	}
	return links, nil
}

// closeLinks closes our ends.
func closeLinks(links []link) error {
	var err error
	for _, l := range links {
		err = errors.Join(err, l.conn.Close())
	}
	return err
}

// killGroup ends a process and all its children.
func killGroup(pid int) error {
	return syscall.Kill(-pid, syscall.SIGKILL)
}

// killed says that a process was ended by SIGKILL, not by a fault of its own.
func killed(state *os.ProcessState) bool {
	ws, ok := state.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}
